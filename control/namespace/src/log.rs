//! The home's log: every mutation, in order, before its reply.
//!
//! **Owns** the segment files in one directory: their bytes, their order, their end. **Never does** anything
//! that knows what a key means, and never syncs on its own: [`Appender::append`] is a write(2) (a dead daemon
//! loses nothing of it), [`LogFiles::sync`] is what an fsync waits for.
//!
//! **Bytes**, little endian. A segment `home-<16 hex digits>.log` is named by its first record's number:
//! `"FBYHLOG1"`, then records. A record: u32 length of what follows the two words, u32 CRC-32C of that,
//! then u64 number, u32 count, and for each change u16 key length, u32 value length (`u32::MAX`: the key is
//! taken away), key, value. Numbers rise by one. What does not parse ends the log: everything from there on
//! was never synced, because a sync covers all that lies before it.

use forebay_meta::Change;
use forebay_types::crc32c;
use parking_lot::Mutex;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"FBYHLOG1";
const FRAME_LEN: usize = 8;
const PREFIX: &str = "home-";
const SUFFIX: &str = ".log";
/// A record of the largest mutation stays far below: an inode with all its extended attributes, and names.
const RECORD_LEN_MAX: usize = 64 << 20;
const GONE: u32 = u32::MAX;

/// A record as it was read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) changes: Vec<Change>,
}

/// Appends the bytes of a record to `out`.
pub(crate) fn encode_record<'a>(
    seq: u64,
    changes: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_LEN]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    for (key, value) in changes {
        out.extend_from_slice(&(key.len() as u16).to_le_bytes());
        out.extend_from_slice(&value.map_or(GONE, |value| value.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value.unwrap_or_default());
    }
    let body_len = out.len() - start - FRAME_LEN;
    assert!(body_len <= RECORD_LEN_MAX, "a mutation of {body_len} bytes");
    let sum = crc32c(&out[start + FRAME_LEN..]);
    out[start..start + 4].copy_from_slice(&(body_len as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// Takes the first record off `bytes`; `None` if what stands there is no whole record.
pub(crate) fn parse_record(bytes: &mut &[u8]) -> Option<Record> {
    let mut rest = *bytes;
    let body_len = take_u32(&mut rest)? as usize;
    let sum = take_u32(&mut rest)?;
    let mut body = rest.get(..body_len)?;
    if crc32c(body) != sum {
        return None;
    }
    rest = &rest[body_len..];
    let seq = u64::from_le_bytes(take(&mut body)?);
    let count = take_u32(&mut body)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let key_len = u16::from_le_bytes(take(&mut body)?) as usize;
        let value_len = take_u32(&mut body)?;
        let key = take_slice(&mut body, key_len)?.into();
        let value = match value_len {
            GONE => None,
            len => Some(take_slice(&mut body, len as usize)?.into()),
        };
        changes.push(Change { key, value });
    }
    *bytes = rest;
    body.is_empty().then_some(Record { seq, changes })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take(bytes).map(u32::from_le_bytes)
}

fn take_slice<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// What recovery found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// The number of the last whole record.
    pub(crate) last_seq: u64,
    /// Bytes after the last whole record: a torn tail, never acknowledged as durable.
    pub(crate) bytes_cut: u64,
}

/// Hands every whole record after `committed` to `apply`, in order, and takes the segments away afterwards.
pub(crate) fn replay<E: From<io::Error>>(
    dir: &Path,
    committed: u64,
    mut apply: impl FnMut(Record) -> Result<(), E>,
) -> Result<Replayed, E> {
    let mut segments = segments(dir)?;
    segments.sort();
    let mut replayed = Replayed { last_seq: committed, bytes_cut: 0 };
    let mut ended = false;
    for (_, path) in &segments {
        let bytes = std::fs::read(path)?;
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        while !ended && !rest.is_empty() {
            let before = rest;
            match parse_record(&mut rest) {
                Some(record) if record.seq <= committed => {}
                Some(record) if record.seq == replayed.last_seq + 1 => {
                    replayed.last_seq = record.seq;
                    apply(record)?;
                }
                _ => {
                    rest = before;
                    ended = true;
                }
            }
        }
        replayed.bytes_cut += rest.len() as u64;
    }
    Ok(replayed)
}

/// Takes all segments away: what they hold is in the engine.
pub(crate) fn clear(dir: &Path) -> io::Result<()> {
    for (_, path) in segments(dir)? {
        std::fs::remove_file(path)?;
    }
    File::open(dir)?.sync_all()
}

fn segments(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let digits = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        if let Some(first) = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            found.push((first, path));
        }
    }
    Ok(found)
}

/// A segment that may still be needed.
struct Segment {
    file: Arc<File>,
    path: PathBuf,
    last_seq: u64,
    synced: bool,
}

/// The files of the log, shared by the appender, the syncer and the committer.
pub(crate) struct LogFiles {
    dir: PathBuf,
    state: Mutex<FilesState>,
}

struct FilesState {
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    /// A segment was made since the directory was last synced.
    dir_unsynced: bool,
}

impl LogFiles {
    /// Makes everything appended so far durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if crate::fault::skip_fsync() {
            return Ok(());
        }
        let (files, dir_unsynced) = {
            let state = self.state.lock();
            let unsynced = state.segments.iter().filter(|segment| !segment.synced);
            (unsynced.map(|segment| Arc::clone(&segment.file)).collect::<Vec<_>>(), state.dir_unsynced)
        };
        for file in &files {
            file.sync_data()?;
        }
        if dir_unsynced {
            File::open(&self.dir)?.sync_all()?;
        }
        self.mark_synced(&files, dir_unsynced);
        Ok(())
    }

    /// The current segment goes on being written, so only older ones are done with; a segment made meanwhile
    /// keeps the directory unsynced.
    fn mark_synced(&self, files: &[Arc<File>], dir_synced: bool) {
        let mut state = self.state.lock();
        let current = state.segments.last().map(|segment| Arc::clone(&segment.file));
        let newest_synced = match (&current, files.last()) {
            (Some(current), Some(last)) => Arc::ptr_eq(current, last),
            _ => false,
        };
        for segment in &mut state.segments {
            let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &segment.file));
            segment.synced |= !is_current && files.iter().any(|file| Arc::ptr_eq(file, &segment.file));
        }
        if dir_synced && newest_synced {
            state.dir_unsynced = false;
        }
    }

    /// Takes away the segments of which the engine has everything.
    pub(crate) fn trim(&self, committed: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let count = state.segments.len() - 1;
        let done = state.segments[..count].iter().take_while(|segment| segment.last_seq <= committed).count();
        for segment in state.segments.drain(..done) {
            std::fs::remove_file(segment.path)?;
        }
        Ok(())
    }
}

/// The writing end of the log; the home thread has it.
pub(crate) struct Appender {
    files: Arc<LogFiles>,
    file: Arc<File>,
    len: u64,
    segment_max: u64,
}

impl Appender {
    /// Begins a log in an empty directory; `next_seq` is the number of the first record to come.
    pub(crate) fn create(dir: &Path, next_seq: u64, segment_max: u64) -> io::Result<Self> {
        let segment = new_segment(dir, next_seq)?;
        let file = Arc::clone(&segment.file);
        let state = FilesState { segments: vec![segment], dir_unsynced: true };
        let files = Arc::new(LogFiles { dir: dir.into(), state: Mutex::new(state) });
        Ok(Self { files, file, len: MAGIC.len() as u64, segment_max })
    }

    pub(crate) fn files(&self) -> Arc<LogFiles> {
        Arc::clone(&self.files)
    }

    /// Appends whole records, the last of which has the number `last_seq`. After an error nothing of them is
    /// in the log.
    pub(crate) fn append(&mut self, records: &[u8], last_seq: u64) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(records, self.len) {
            // A part may have been written; records behind it would be cut off at recovery.
            self.file.set_len(self.len)?;
            return Err(error);
        }
        self.len += records.len() as u64;
        if let Some(current) = self.files.state.lock().segments.last_mut() {
            current.last_seq = last_seq;
        }
        Ok(())
    }

    /// Whether it is time to go on in a new segment.
    pub(crate) fn is_long(&self) -> bool {
        self.len >= self.segment_max
    }

    /// Goes on in a new segment if this one is long enough, so that the old one can be taken away once the
    /// engine has it. A failure leaves the old one in use.
    pub(crate) fn rotate_if_long(&mut self, next_seq: u64) -> io::Result<()> {
        if !self.is_long() {
            return Ok(());
        }
        let segment = new_segment(&self.files.dir, next_seq)?;
        self.file = Arc::clone(&segment.file);
        self.len = MAGIC.len() as u64;
        let mut state = self.files.state.lock();
        state.segments.push(segment);
        state.dir_unsynced = true;
        Ok(())
    }
}

fn new_segment(dir: &Path, next_seq: u64) -> io::Result<Segment> {
    let path = dir.join(format!("{PREFIX}{next_seq:016x}{SUFFIX}"));
    let file = File::options().create(true).truncate(true).write(true).open(&path)?;
    file.write_all_at(MAGIC, 0)?;
    Ok(Segment { file: Arc::new(file), path, last_seq: next_seq - 1, synced: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(key: &[u8], value: Option<&[u8]>) -> Change {
        Change { key: key.into(), value: value.map(Into::into) }
    }

    fn encoded(seq: u64, changes: &[Change]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_record(seq, changes.iter().map(|c| (&*c.key, c.value.as_deref())), &mut out);
        out
    }

    fn replay_all(dir: &Path, committed: u64) -> (Vec<Record>, Replayed) {
        let mut records = Vec::new();
        let replayed = replay(dir, committed, |record| {
            records.push(record);
            Ok::<_, io::Error>(())
        });
        (records, replayed.unwrap())
    }

    fn arb_changes() -> impl Strategy<Value = Vec<Change>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let change = (bytes(), prop::option::of(bytes()));
        let into = |(key, value): (Vec<u8>, Option<Vec<u8>>)| Change {
            key: key.into(),
            value: value.map(Into::into),
        };
        prop::collection::vec(change.prop_map(into), 0..6)
    }

    /// Frozen: the bytes of FORMATS, "Home log".
    #[test]
    fn a_record_is_laid_out_as_documented() {
        let bytes = encoded(5, &[change(b"k", Some(b"vw")), change(b"g", None)]);
        let body = [
            &5_u64.to_le_bytes()[..],
            &2_u32.to_le_bytes(),
            &[1, 0, 2, 0, 0, 0],
            b"kvw",
            &[1, 0, 255, 255, 255, 255],
            b"g",
        ]
        .concat();
        let frame = [(body.len() as u32).to_le_bytes(), crc32c(&body).to_le_bytes()].concat();
        assert_eq!(bytes, [frame, body].concat());
    }

    #[test]
    fn what_the_engine_has_is_not_replayed() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Appender::create(dir.path(), 1, 1).unwrap();
        for seq in 1..=5 {
            log.append(&encoded(seq, &[change(b"k", Some(&[seq as u8]))]), seq).unwrap();
            log.rotate_if_long(seq + 1).unwrap();
        }
        let seqs = |committed| replay_all(dir.path(), committed).0.iter().map(|r| r.seq).collect::<Vec<_>>();
        assert_eq!(seqs(0), [1, 2, 3, 4, 5]);
        assert_eq!(seqs(3), [4, 5]);
        log.files().trim(3).unwrap();
        assert_eq!(seqs(3), [4, 5]);
        log.files().trim(5).unwrap();
        assert_eq!(seqs(5), [0; 0]);
        // The engine may be ahead of a log that lost its unsynced tail.
        assert_eq!(replay_all(dir.path(), 9).1, Replayed { last_seq: 9, bytes_cut: 0 });
        clear(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    proptest! {
        #[test]
        fn records_read_back(seq in any::<u64>(), changes in arb_changes()) {
            let bytes = encoded(seq, &changes);
            let mut rest = &bytes[..];
            prop_assert_eq!(parse_record(&mut rest), Some(Record { seq, changes }));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn garbage_is_no_record(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            // A CRC that matches by chance would need 2^32 tries.
            prop_assert_eq!(parse_record(&mut rest), None);
        }

        /// A log cut anywhere, or damaged anywhere, yields a prefix of its records and nothing else.
        #[test]
        fn damage_ends_the_log(
            all in prop::collection::vec(arb_changes(), 1..6),
            at in any::<prop::sample::Index>(),
            flip in prop::option::of(1_u8..),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut log = Appender::create(dir.path(), 1, 1 << 20).unwrap();
            for (n, changes) in all.iter().enumerate() {
                log.append(&encoded(n as u64 + 1, changes), n as u64 + 1).unwrap();
            }
            let path = segments(dir.path()).unwrap().remove(0).1;
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            match flip {
                Some(flip) => bytes[at] ^= flip,
                None => bytes.truncate(at),
            }
            std::fs::write(&path, bytes).unwrap();
            let (records, replayed) = replay_all(dir.path(), 0);
            prop_assert!(records.len() <= all.len());
            for (n, record) in records.iter().enumerate() {
                prop_assert_eq!(record.seq, n as u64 + 1);
                prop_assert_eq!(&record.changes, &all[n]);
            }
            prop_assert_eq!(replayed.last_seq, records.len() as u64);
            prop_assert!(flip.is_none() || records.len() < all.len());
        }
    }
}
