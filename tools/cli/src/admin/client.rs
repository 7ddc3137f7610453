//! The command line's end of a conversation.

use super::{Event, LINE_LEN_MAX, Progress, Request};
use crate::failure::{Failure, Outcome};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The daemon says something at least this often while it works on a request.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A request under way.
#[derive(Debug)]
pub(crate) struct Conversation {
    from: BufReader<UnixStream>,
}

/// Sends `request` to the daemon at `socket`.
///
/// # Errors
/// No daemon is there, or it does not listen to this user.
pub(crate) fn connect(socket: &Path, request: &Request) -> Outcome<Conversation> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let mut line = serde_json::to_vec(request).expect("our own structures have string keys only");
    line.push(b'\n');
    let sent = stream
        .set_read_timeout(Some(SILENCE_MAX))
        .and_then(|()| stream.set_write_timeout(Some(SILENCE_MAX)))
        .and_then(|()| stream.write_all(&line));
    sent.map_err(|error| unreachable(socket, &error))?;
    Ok(Conversation { from: BufReader::new(stream) })
}

fn unreachable(socket: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(format!("cannot reach the daemon at {}: {error}", socket.display()));
    match error.kind() {
        ErrorKind::PermissionDenied => failure.remedy("ask as root or as the user who runs the daemon"),
        _ => failure.remedy("is it running? start it with `forebay up` or `forebay node`"),
    }
}

impl Conversation {
    /// Waits for the answer, showing progress on the way.
    ///
    /// # Errors
    /// What the daemon says went wrong, or that it went away.
    pub(crate) fn finish(self, show: impl FnMut(Progress)) -> Outcome<serde_json::Value> {
        self.finish_hearing(show, |_| {})
    }

    /// [`Self::finish`], hearing what is found on the way.
    ///
    /// # Errors
    /// Those of [`Self::finish`].
    pub(crate) fn finish_hearing(
        mut self,
        mut show: impl FnMut(Progress),
        mut hear: impl FnMut(serde_json::Value),
    ) -> Outcome<serde_json::Value> {
        loop {
            match self.next()? {
                Event::Progress(progress) => show(progress),
                Event::Finding { finding } => hear(finding),
                Event::Done { result } => return Ok(result),
                Event::Failed { cause, remedy } => {
                    let failure = Failure::new(cause);
                    return Err(match remedy {
                        Some(remedy) => failure.remedy(remedy),
                        None => failure,
                    });
                }
            }
        }
    }

    fn next(&mut self) -> Outcome<Event> {
        let mut line = Vec::new();
        let read = (&mut self.from).take(LINE_LEN_MAX as u64).read_until(b'\n', &mut line);
        match read {
            Ok(0) => Err(Failure::new("the daemon went away before it had answered")),
            Ok(_) => serde_json::from_slice(&line).map_err(|error| {
                Failure::new(format!("the daemon's answer cannot be read: {error}"))
                    .remedy("is it of another version? compare `forebay version` with its log")
            }),
            Err(error) => Err(Failure::new(format!("the daemon does not answer: {error}"))),
        }
    }
}
