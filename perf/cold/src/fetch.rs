//! The bare client: ranged GETs side by side, each on a connection of its own that is kept, into buffers that are used
//! again. It does nothing with the bytes but look at a few.

use crate::http::read_head;
use crate::{Brought, sampled};
use std::io::{self, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

/// Fetches the object of `bytes` bytes by `gets` GETs of `get_len` bytes at a time.
pub(crate) fn fetch(port: u16, bytes: u64, gets: usize, get_len: u64) -> Result<Brought, String> {
    let next = AtomicU64::new(0);
    let all = thread::scope(|scope| {
        let one = || fetch_some(port, bytes, get_len, &next);
        let threads: Vec<_> = (0..gets).map(|_| scope.spawn(one)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, io::Result<Brought>>| {
            thread.join().expect("a fetching thread does not panic").map_err(|error| error.to_string())
        };
        threads.into_iter().map(join).collect::<Result<Vec<Brought>, String>>()
    })?;
    let bytes = all.iter().map(|some| some.bytes).sum();
    Ok(Brought { bytes, checksum: all.iter().fold(0, |sum, some| sum ^ some.checksum) })
}

fn fetch_some(port: u16, bytes: u64, get_len: u64, next: &AtomicU64) -> io::Result<Brought> {
    let mut to = TcpStream::connect(("127.0.0.1", port))?;
    to.set_nodelay(true)?;
    let mut from = BufReader::new(to.try_clone()?);
    let mut body = vec![0; get_len as usize];
    let mut brought = Brought { bytes: 0, checksum: 0 };
    loop {
        let first = next.fetch_add(get_len, Relaxed);
        if first >= bytes {
            return Ok(brought);
        }
        let last = (first + get_len).min(bytes) - 1;
        let host = "Host: 127.0.0.1";
        write!(to, "GET /bucket/big HTTP/1.1\r\n{host}\r\nRange: bytes={first}-{last}\r\n\r\n")?;
        let head = read_head(&mut from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = &mut body[..(last - first + 1) as usize];
        if !head.first.contains(" 206 ") || head.content_length != Some(body.len() as u64) {
            return Err(io::Error::other(format!("not the range that was asked for: {}", head.first)));
        }
        from.read_exact(body)?;
        brought.bytes += body.len() as u64;
        brought.checksum ^= sampled(body, first);
    }
}
