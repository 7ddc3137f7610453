//! What the client makes of the answers of a store that changes its mind: a server of the test's own, over TCP.

use super::*;
use crate::error::UfsErrorKind;
use crate::objects::transport::client_options;
use crate::options::UfsOptions;
use forebay_types::UfsKey;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

#[derive(Debug)]
struct Unsigned;

#[async_trait]
impl Sign for Unsigned {
    async fn sign(&self, _: &mut HttpRequest) -> ClientResult<()> {
        Ok(())
    }
}

/// Takes one request in, and says "200 OK" with `body`.
fn answer(client: TcpStream, body: &str) -> std::io::Result<()> {
    let (mut lines, mut len) = (BufReader::new(&client), 0);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let line = line.to_ascii_lowercase();
        len = line.strip_prefix("content-length:").map_or(len, |found| found.trim().parse().unwrap());
    }
    lines.read_exact(&mut vec![0; len])?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (&client).write_all(format!("{head}{body}").as_bytes())
}

/// A client of a server that answers everything so.
fn client_of(body: &str) -> XmlClient {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let bucket = Bucket { name: "b".into(), url: format!("http://{}/b", listener.local_addr().unwrap()) };
    let body = body.to_owned();
    // It ends with the process.
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client that goes away is none of our business.
            let _ = answer(client, &body);
        }
    });
    let transport = Transport::new("s3://b", &client_options(&UfsOptions::default(), true)).unwrap();
    XmlClient::new(Dialect::S3 { atomic: true }, transport, Box::new(Unsigned), bucket, Some(true))
}

/// What a copy, the copy of a part, and the completion of an upload make of an answer.
async fn three_kinds(body: &str) -> [ClientResult<String>; 3] {
    let (client, version, tag) = (client_of(body), UfsVersion::new("v"), "t".to_owned());
    let text = |version: UfsVersion| String::from_utf8_lossy(version.as_bytes()).into_owned();
    let expect = Expect::Any;
    [
        client.copy(("a", &version), "b", &expect).await.map(text),
        client.copy_part("b", "u", 1, ("a", &version, 0..1)).await,
        client.complete("b", "u", &[tag], &Meta::default(), &expect).await.map(text),
    ]
}

#[tokio::test]
async fn a_failure_that_comes_after_the_status_is_one() {
    let cases = [
        ("InternalError", UfsErrorKind::Unavailable),
        ("SomethingNew", UfsErrorKind::Unavailable),
        ("SlowDown", UfsErrorKind::Throttled),
        ("RequestTimeout", UfsErrorKind::Timeout),
        ("PreconditionFailed", UfsErrorKind::Changed),
        ("NoSuchUpload", UfsErrorKind::NotFound),
        ("AccessDenied", UfsErrorKind::Denied),
        ("InvalidPart", UfsErrorKind::Io),
    ];
    for (code, expected) in cases {
        let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code></Error>");
        for (kind, outcome) in ["copy", "copy_part", "complete"].iter().zip(three_kinds(&body).await) {
            let error = outcome.unwrap_err().at(&UfsKey::root());
            assert_eq!(error.kind(), expected, "{kind}: {error}");
        }
    }
}

#[tokio::test]
async fn a_late_yes_is_one() {
    let body = "\n  \n<Result><ETag>\"x\"</ETag></Result>";
    let outcomes = three_kinds(body).await.map(|outcome| outcome.unwrap().replace('"', ""));
    assert_eq!(outcomes, ["x", "x", "x"]);
}
