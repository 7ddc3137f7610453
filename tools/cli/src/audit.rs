//! The audit log: who opened or changed what, in the mount or by the admin socket, one JSON object a line, switched on and
//! off while the daemon runs.
//!
//! **Owns** the file, the one thread that writes it, and the bounded queue before it. **Never does** hold up a
//! request: an event that finds the queue full is dropped and counted, and the log itself says so at the next line.
//!
//! **In and out:** the front door tells of a request after it was answered ([`forebay_fuse::Witness`]); only opens and
//! changes are wanted, since reads of a passthrough file are seen by nobody. The admin socket tells of what it was asked.
//!
//! **Why this shape:** off, it costs one relaxed load a request. A file rather than the system's log, because these
//! lines are many, have one reader, and must not push others out.

use crate::failure::{Failure, Outcome};
use forebay_fuse::{OpKind, Witness, Witnessed};
use parking_lot::Mutex;
use serde::Serialize;
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Events that may wait for the disk.
const QUEUE_LEN: usize = 8192;
/// How long the last lines may take to be written when the log is switched off.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970.
    time: f64,
    uid: u32,
    gid: u32,
    pid: u32,
    op: Cow<'a, str>,
    inode: Option<u64>,
    path: Option<String>,
    /// The second path of a rename, a link or a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    /// `ok`, or what it failed with, as Linux names it.
    result: String,
    /// The number of the error, 0 without one.
    errno: i32,
    latency_us: u64,
    /// Events that found no place before this one.
    #[serde(skip_serializing_if = "is_zero")]
    dropped_before: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

enum Message {
    Request(Box<Witnessed>, SystemTime),
    Admin(Box<AdminEvent>, SystemTime),
    Close,
}

/// What was asked by the admin socket, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct AdminEvent {
    /// Its name.
    pub(crate) request: &'static str,
    /// Whose process.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
    /// What it is about: a path, or a setting and its value.
    pub(crate) about: Option<String>,
    /// `ok`, or why not.
    pub(crate) result: String,
    /// From arrival to answer.
    pub(crate) latency: Duration,
}

/// A file that is being written.
struct Open {
    queue: SyncSender<Message>,
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    dropped: AtomicU64,
    /// Dropped and not yet told in the log.
    untold: AtomicU64,
    failed: AtomicU64,
}

/// The audit log, on or off.
#[derive(Default)]
pub(crate) struct AuditLog {
    on: AtomicBool,
    open: Mutex<Option<Open>>,
    counts: Arc<Counts>,
}

impl AuditLog {
    /// Writes to `file` from now on, or nowhere. The same file again is opened anew: for whoever moves full ones away.
    ///
    /// # Errors
    /// The file cannot be opened; what was written to before goes on being written to.
    pub(crate) fn switch(&self, file: Option<&Path>) -> Outcome<()> {
        let next = file.map(|path| self.begin(path)).transpose()?;
        let on = next.is_some();
        let before = std::mem::replace(&mut *self.open.lock(), next);
        self.on.store(on, Relaxed);
        if let Some(before) = before {
            before.close();
        }
        Ok(())
    }

    fn begin(&self, path: &Path) -> Outcome<Open> {
        let file = open(path)?;
        let (queue, messages) = sync_channel(QUEUE_LEN);
        let (end, ended) = mpsc::channel();
        let counts = Arc::clone(&self.counts);
        let write = move || {
            write_all(file, &messages, &counts);
            // Whoever waited may have given up.
            let _ = end.send(());
        };
        let thread = std::thread::Builder::new().name("audit".into()).spawn(write);
        let thread = thread.map_err(|error| cannot(path, &error))?;
        Ok(Open { queue, ended, thread })
    }

    /// Lines written, events dropped because the queue was full, and lines that the disk refused.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let Counts { written, dropped, failed, .. } = &*self.counts;
        (written.load(Relaxed), dropped.load(Relaxed), failed.load(Relaxed))
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Some(open) = self.open.lock().take() {
            open.close();
        }
    }
}

impl Open {
    /// Lets what is queued be written.
    fn close(self) {
        // A full queue is busy with a slow disk: the end of the channel ends the thread then.
        let _ = self.queue.try_send(Message::Close);
        drop(self.queue);
        if self.ended.recv_timeout(CLOSE_WITHIN).is_ok() && self.thread.join().is_err() {
            tracing::error!("the thread of the audit log panicked");
        }
    }
}

impl Witness for AuditLog {
    fn wants(&self, op: OpKind) -> bool {
        self.on.load(Relaxed) && is_audited(op)
    }

    fn saw(&self, event: Witnessed) {
        self.send(Message::Request(Box::new(event), SystemTime::now()));
    }
}

impl AuditLog {
    /// Notes what was asked by the admin socket.
    pub(crate) fn asked(&self, event: AdminEvent) {
        if self.on.load(Relaxed) {
            self.send(Message::Admin(Box::new(event), SystemTime::now()));
        }
    }

    fn send(&self, message: Message) {
        let open = self.open.lock();
        let Some(open) = &*open else { return };
        if open.queue.try_send(message).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
            self.counts.untold.fetch_add(1, Relaxed);
        }
    }
}

/// The file, to be written at its end; only its owner may read who did what.
///
/// # Errors
/// It cannot be opened or made.
pub(crate) fn open(path: &Path) -> Outcome<File> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write the audit log {}: {error}", path.display()))
        .remedy("set audit.file to a path in a directory that exists, or to none")
}

/// Opens, and whatever changes the tree.
fn is_audited(op: OpKind) -> bool {
    use OpKind as K;
    matches!(
        op,
        K::Open
            | K::Create
            | K::OpenDir
            | K::MkNod
            | K::MkDir
            | K::SymLink
            | K::Link
            | K::Unlink
            | K::RmDir
            | K::Rename
            | K::SetAttr
            | K::SetXattr
            | K::RemoveXattr
            | K::FAllocate
            | K::CopyFileRange
    )
}

fn write_all(file: File, messages: &Receiver<Message>, counts: &Counts) {
    let mut out = BufWriter::new(file);
    loop {
        // Nothing waits: what was written is to be seen.
        let message = match messages.try_recv() {
            Err(TryRecvError::Empty) => {
                tell_failure(out.flush(), counts);
                messages.recv().map_err(|_| TryRecvError::Disconnected)
            }
            other => other,
        };
        let line = match message {
            Ok(Message::Request(event, at)) => line_of(&event, at, counts.untold.swap(0, Relaxed)),
            Ok(Message::Admin(event, at)) => admin_line_of(&event, at, counts.untold.swap(0, Relaxed)),
            Ok(Message::Close) | Err(_) => break,
        };
        tell_failure(out.write_all(&line), counts);
        counts.written.fetch_add(1, Relaxed);
    }
    tell_failure(out.flush(), counts);
}

fn tell_failure(result: std::io::Result<()>, counts: &Counts) {
    if let Err(error) = result
        && counts.failed.fetch_add(1, Relaxed) == 0
    {
        tracing::error!(%error, "the audit log cannot be written; lines are lost");
    }
}

fn line_of(event: &Witnessed, at: SystemTime, dropped_before: u64) -> Vec<u8> {
    let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    let line = Line {
        time: seconds(at),
        uid: event.caller.uid,
        gid: event.caller.gid,
        pid: event.caller.pid,
        op: event.op.name().into(),
        inode: event.ino.map(|ino| ino.0),
        path: event.path.as_ref().map(text),
        to: event.to.as_ref().map(text),
        result: event.errno.map_or_else(|| "ok".to_owned(), |errno| std::io::Error::from(errno).to_string()),
        errno: event.errno.map_or(0, |errno| errno.raw_os_error()),
        latency_us: micros(event.latency),
        dropped_before,
    };
    ended(&line)
}

fn admin_line_of(event: &AdminEvent, at: SystemTime, dropped_before: u64) -> Vec<u8> {
    ended(&Line {
        time: seconds(at),
        uid: event.uid,
        gid: event.gid,
        pid: event.pid,
        op: format!("admin.{}", event.request).into(),
        inode: None,
        path: event.about.clone(),
        to: None,
        result: event.result.clone(),
        errno: 0,
        latency_us: micros(event.latency),
        dropped_before,
    })
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn ended(line: &Line<'_>) -> Vec<u8> {
    let mut line = serde_json::to_vec(line).expect("a line is a table of scalars");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::{Caller, Ino};

    fn event(path: &[u8]) -> Witnessed {
        Witnessed {
            op: OpKind::Unlink,
            caller: Caller { uid: 1000, gid: 100, pid: 7 },
            ino: Some(Ino(5)),
            path: Some(path.to_vec()),
            to: None,
            errno: None,
            latency: Duration::from_micros(12),
        }
    }

    #[test]
    fn lines_tell_who_what_and_what_came_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("audit.jsonl");
        let log = AuditLog::default();
        assert!(!log.wants(OpKind::Unlink));
        log.switch(Some(&file)).unwrap();
        assert!(log.wants(OpKind::Unlink) && !log.wants(OpKind::Read));
        log.saw(event(b"/a/\xffb\n"));
        log.switch(None).unwrap();
        log.saw(event(b"/unseen"));
        let text = std::fs::read_to_string(&file).unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end_matches('\n')).unwrap();
        assert_eq!(
            (&line["uid"], &line["op"], &line["result"]),
            (&1000.into(), &"unlink".into(), &"ok".into())
        );
        assert_eq!(line["path"], "/a/\u{fffd}b\n");
        assert_eq!((text.lines().count(), log.counts()), (1, (1, 0, 0)));
    }

    #[test]
    fn a_file_that_cannot_be_opened_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = AuditLog::default();
        log.switch(Some(&dir.path().join("good"))).unwrap();
        assert!(
            log.switch(Some(&dir.path().join("no/such/dir/f"))).unwrap_err().to_string().contains("remedy")
        );
        log.saw(event(b"/still"));
        log.switch(None).unwrap();
        assert!(std::fs::read_to_string(dir.path().join("good")).unwrap().contains("/still"));
    }

    /// A disk that stands still: a pipe that nobody reads.
    #[test]
    fn what_finds_no_place_is_dropped_and_counted_and_the_log_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let mut reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        let log = AuditLog::default();
        log.switch(Some(&pipe)).unwrap();
        let path = vec![b'x'; 4000];
        let sent = 2 * QUEUE_LEN as u64;
        (0..sent).for_each(|_| log.saw(event(&path)));
        let (_, dropped, _) = log.counts();
        assert!(dropped > 0 && dropped < sent);
        let drain = std::thread::spawn(move || {
            let mut text = Vec::new();
            let mut chunk = vec![0; 1 << 20];
            while !text.ends_with(b"END\n") {
                let len = std::io::Read::read(&mut reader, &mut chunk).unwrap();
                text.extend_from_slice(&chunk[..len]);
            }
            text
        });
        log.switch(None).unwrap();
        OpenOptions::new().write(true).open(&pipe).unwrap().write_all(b"END\n").unwrap();
        let text = String::from_utf8(drain.join().unwrap()).unwrap();
        let told: u64 = text
            .lines()
            .filter(|l| *l != "END")
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["dropped_before"].as_u64().unwrap_or(0)
            })
            .sum();
        let lines = text.lines().count() as u64 - 1;
        assert_eq!(lines + dropped, sent);
        assert!(told <= dropped, "{told} of {dropped}");
    }
}
