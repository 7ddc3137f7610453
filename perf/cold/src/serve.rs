//! The store: one object, held in memory.

use crate::http::{Head, read_head};
use crate::line::{Line, PIECE};
use crate::mixed;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

/// The path of the object.
const OBJECT: &str = "/bucket/big";
/// What every object and every answer of it bears.
const KEPT: &str =
    "ETag: \"cold\"\r\nLast-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n";

struct Store {
    object: Vec<u8>,
    line: Line,
}

/// Serves until the process ends.
pub(crate) fn serve(port: u16, bytes: usize, line: Line) -> Result<(), String> {
    let mut object = Vec::with_capacity(bytes + 8);
    for at in 0..(bytes as u64).div_ceil(8) {
        object.extend_from_slice(&mixed(at).to_le_bytes());
    }
    object.truncate(bytes);
    let store = Arc::new(Store { object, line });
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| format!("port {port}: {error}"))?;
    println!("ready");
    for stream in listener.incoming().flatten() {
        let store = Arc::clone(&store);
        // A client that goes away ends its thread.
        thread::spawn(move || store.talk(stream));
    }
    Ok(())
}

impl Store {
    fn talk(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut requests = BufReader::new(stream.try_clone()?);
        let mut to = stream;
        while let Some(head) = read_head(&mut requests)? {
            self.line.round_trip(Instant::now());
            self.answer(&head, &mut to)?;
        }
        Ok(())
    }

    fn answer(&self, head: &Head, to: &mut TcpStream) -> io::Result<()> {
        let path = head.first.split(' ').nth(1).unwrap_or_default();
        let len = self.object.len() as u64;
        if path != OBJECT {
            return no_such(path, to);
        }
        if head.first.starts_with("HEAD ") {
            return write!(to, "HTTP/1.1 200 OK\r\n{KEPT}Content-Length: {len}\r\n\r\n");
        }
        let (first, last) = head.range.unwrap_or((0, len - 1));
        if first >= len {
            return write!(to, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
        }
        let last = last.min(len - 1);
        let body = &self.object[first as usize..=last as usize];
        write!(
            to,
            "HTTP/1.1 206 Partial Content\r\n{KEPT}Content-Range: bytes {first}-{last}/{len}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        for piece in body.chunks(PIECE) {
            self.line.pass(piece.len());
            to.write_all(piece)?;
        }
        Ok(())
    }
}

/// Every listing is empty; nothing else is there.
fn no_such(path: &str, to: &mut TcpStream) -> io::Result<()> {
    let (status, body) = if path.contains("list-type=2") {
        ("200 OK", "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    } else {
        ("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>")
    };
    write!(to, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
