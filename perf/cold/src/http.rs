//! As much of HTTP/1.1 as both ends speak.

use std::io::{self, BufRead};

/// The longest line or head that is read.
const HEAD_MAX: usize = 64 << 10;

/// The first line of a request or an answer, and the headers that are of interest.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) first: String,
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) content_length: Option<u64>,
}

/// Reads a head; `None` at the end of the connection.
pub(crate) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut head = Head::default();
    let mut read = 0;
    loop {
        let mut line = String::new();
        read += from.read_line(&mut line)?;
        if line.is_empty() || read > HEAD_MAX {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(Some(head));
        }
        if head.first.is_empty() {
            line.clone_into(&mut head.first);
        } else if let Some((name, value)) = line.split_once(':') {
            match &*name.to_ascii_lowercase() {
                "range" => head.range = range_of(value.trim()),
                "content-length" => head.content_length = value.trim().parse().ok(),
                _ => {}
            }
        }
    }
}

/// First and last offset of `bytes=0-499`.
fn range_of(value: &str) -> Option<(u64, u64)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}
