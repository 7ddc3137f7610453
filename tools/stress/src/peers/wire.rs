//! What nodes say to each other: a length of four bytes, little-endian, then so many bytes of JSON.

use crate::engine::Phase;
use crate::report::System;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{self, ErrorKind, Read, Write};

/// Grows when a message changes its meaning; nodes of different versions refuse each other.
pub(super) const VERSION: u32 = 1;
/// The longest message: several times the histograms and series of a phase with all kinds of operations.
const LEN_MAX: usize = 16 << 20;

/// A message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// The first from a node that joins.
    Hello { version: u32, workload: String, settings: Value, system: System },
    /// The answer once all are there.
    Welcome { node: usize, nodes: usize },
    /// The answer to who does not fit.
    Refused { why: String },
    /// A node is about to begin a phase.
    Ready { phase: String },
    /// All are.
    Go,
    /// What a node measured.
    Measured(Box<Phase>),
    /// What all measured.
    Merged(Box<Phase>),
    /// Leave off.
    Stop,
}

/// Sends a message.
pub(super) fn write(to: &mut impl Write, message: &Message) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let len = u32::try_from(body.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
    to.write_all(&[&len.to_le_bytes(), body.as_slice()].concat())
}

/// Waits for a message.
pub(super) fn read(from: &mut impl Read) -> io::Result<Message> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > LEN_MAX {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("a message of {len} bytes, at most {LEN_MAX}"),
        ));
    }
    // What is not there takes no memory, however long it is said to be.
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_is_refused_or_read_but_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), len in 0u32..100) {
            let _ = read(&mut bytes.as_slice());
            let framed = [len.to_le_bytes().as_slice(), &bytes].concat();
            let _ = read(&mut framed.as_slice());
        }

        #[test]
        fn a_message_that_is_cut_off_is_refused(cut in 0usize..40) {
            let mut bytes = Vec::new();
            write(&mut bytes, &Message::Ready { phase: "write".to_owned() }).unwrap();
            let cut = cut.min(bytes.len() - 1);
            prop_assert!(read(&mut &bytes[..cut]).is_err());
        }
    }

    #[test]
    fn no_message_is_too_long_to_be_refused() {
        assert!(read(&mut [0xff; 100].as_slice()).is_err());
    }
}
