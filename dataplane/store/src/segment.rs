//! Segment files: appending entries, reading them back at start, and knowing which are still alive.
//!
//! **Owns** the segment files of a tier and which bytes of each are live. **Never does** decide what is packed or when
//! (`pack` does), and never changes an entry once written: an entry dies when its extent is removed, unpacked or copied
//! elsewhere, and its bytes go with the segment, once most of it is dead and the rest was copied.
//!
//! A dead entry comes back to life at a restart if its extent has no file of its own. That does no harm: it is found
//! by content keys only, and has that content.

use crate::dir::{LastExit, sync_dir};
use crate::error::StoreError;
use crate::extent::{Authority, Extent, ExtentParts, Origin};
use crate::format::segment::{
    ENTRY_HEADER_MAX, SEGMENT_HEADER_LEN, SegmentEntry, check_segment, encode_segment,
};
use crate::recovery::{RecoveryReport, parse_id};
use crate::residency::Pages;
use crate::sidecar::Sidecar;
use crate::tier::Tier;
use forebay_shard::File;
use forebay_types::limits::SEGMENT_LEN;
use forebay_types::{ExtentId, PageIndex};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the bytes of a packed extent are.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) segment: Arc<Segment>,
    /// Offset of its data.
    pub(crate) data_at: u64,
    /// Length of its entry with header and padding.
    pub(crate) entry_len: u64,
}

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the next entry goes.
    end: u64,
    /// Nothing is appended any more.
    sealed: bool,
    live: u64,
    members: HashMap<ExtentId, u64>,
}

impl Segment {
    fn create(dir: &Path, id: u64) -> io::Result<Self> {
        let path = dir.join(format!("{id:016x}"));
        let file = fs::File::options().read(true).write(true).create_new(true).open(&path)?;
        file.write_all_at(&encode_segment(id), 0)?;
        sync_dir(dir)?;
        let state = State { end: SEGMENT_HEADER_LEN as u64, ..State::default() };
        Ok(Self { id, path, file: File::new(file), state: Mutex::new(state) })
    }

    /// Takes the next `len` bytes; `None` if they do not fit.
    pub(crate) fn take_place(&self, len: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let at = state.end;
        if state.sealed || at + len > SEGMENT_LEN.as_u64() {
            state.sealed = true;
            return None;
        }
        state.end += len;
        Some(at)
    }

    /// Nothing is appended any more: it is full, or a write to it failed and what follows would not be found.
    pub(crate) fn seal(&self) {
        self.state.lock().sealed = true;
    }

    /// An entry of `len` bytes is what `id` is read from.
    pub(crate) fn revive(&self, id: ExtentId, len: u64) {
        let mut state = self.state.lock();
        state.live += len;
        if let Some(before) = state.members.insert(id, len) {
            state.live -= before;
        }
    }

    /// Nothing is read from the entry of `id` any more; says whether the file can go.
    pub(crate) fn kill(&self, id: ExtentId) -> bool {
        let mut state = self.state.lock();
        if let Some(len) = state.members.remove(&id) {
            state.live -= len;
        }
        state.sealed && state.members.is_empty()
    }

    /// Whether nothing is read from it and nothing will be appended.
    fn is_dead(&self) -> bool {
        let state = self.state.lock();
        state.sealed && state.members.is_empty()
    }

    /// Whether most of it is dead and nothing more will be appended.
    pub(crate) fn is_sparse(&self) -> bool {
        let state = self.state.lock();
        state.sealed && state.live * 2 < state.end
    }

    /// The extents that are read from it.
    pub(crate) fn members(&self) -> Vec<ExtentId> {
        self.state.lock().members.keys().copied().collect()
    }
}

/// The segments of a tier.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    all: Mutex<BTreeMap<u64, Arc<Segment>>>,
    /// One packs at a time, so that entries follow each other without a gap.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Segments {
    /// The one to append to; a new one if there is none or it is full. Blocks.
    pub(crate) fn appendable(&self, dir: &Path, len: u64) -> Result<(Arc<Segment>, u64), StoreError> {
        let last = self.all.lock().values().next_back().cloned();
        if let Some((segment, at)) = last.and_then(|last| last.take_place(len).map(|at| (last, at))) {
            return Ok((segment, at));
        }
        let id = self.all.lock().keys().next_back().map_or(1, |id| id + 1);
        let made = Segment::create(dir, id).map_err(|e| StoreError::io("creating a segment", e))?;
        let made = Arc::new(made);
        self.all.lock().insert(id, Arc::clone(&made));
        let at = made.take_place(len).ok_or(StoreError::Invalid("an entry longer than a segment"))?;
        Ok((made, at))
    }

    /// Segments most of which is dead.
    pub(crate) fn sparse(&self) -> Vec<Arc<Segment>> {
        self.all.lock().values().filter(|segment| segment.is_sparse()).cloned().collect()
    }

    pub(crate) fn forget(&self, id: u64) {
        self.all.lock().remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.all.lock().len()
    }
}

/// Finds the packed extents of a tier. Blocks. `own` are those found as files of their own, which are newer, unless
/// they have no sidecar: then unpacking was cut short.
pub(crate) fn recover(
    tier: &Arc<Tier>,
    exit: LastExit,
    own: &mut BTreeMap<ExtentId, Arc<Extent>>,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let dir = tier.segments_dir();
    let mut found: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        if let Some(id) = path.file_name().and_then(|name| parse_id(name.to_str()?)) {
            found.insert(id.0, path);
        }
    }
    let last = found.keys().next_back().copied();
    for (id, path) in found {
        let appendable = Some(id) == last && exit != LastExit::Unclean;
        recover_segment(tier, (id, path, appendable), own, report)?;
    }
    Ok(())
}

fn recover_segment(
    tier: &Arc<Tier>,
    (id, path, appendable): (u64, PathBuf, bool),
    own: &mut BTreeMap<ExtentId, Arc<Extent>>,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let file = fs::File::options().read(true).write(true).open(&path)?;
    let Contents { entries, end, whole } = read_entries(&file, id)?;
    report.records_refused += u64::from(!whole);
    let state = State { end, sealed: !(appendable && whole), ..State::default() };
    let segment = Arc::new(Segment { id, path, file: File::new(file), state: Mutex::new(state) });
    for (at, entry) in entries {
        if let Some(there) = own.get(&entry.id) {
            let replace = there.is_packed() || !there.sidecar.is_used();
            if !replace {
                continue;
            }
            if !there.is_packed() {
                tracing::warn!(extent = %entry.id, "unpacking was cut short: the packed bytes count");
            }
            drop_older(tier, there);
            report.clean -= u64::from(there.is_packed());
        }
        let extent = packed_extent(tier, &segment, at, entry);
        report.clean += 1;
        own.insert(extent.id(), extent);
    }
    if segment.is_dead() {
        return fs::remove_file(&segment.path);
    }
    tier.segments.all.lock().insert(id, segment);
    Ok(())
}

fn drop_older(tier: &Tier, older: &Arc<Extent>) {
    older.discharge();
    match older.packed() {
        Some(packed) => {
            packed.segment.kill(older.id());
        }
        None => crate::blanks::unlink(tier, older.id()),
    }
}

fn packed_extent(tier: &Arc<Tier>, segment: &Arc<Segment>, at: u64, entry: SegmentEntry) -> Arc<Extent> {
    let (entry_len, data_at) = (entry.total_len(), at + entry.header_len() as u64);
    let pages = Pages::new(entry.checksums.len() as u64);
    for (page, checksum) in entry.checksums.iter().enumerate() {
        pages.set_written(PageIndex(page as u64), Some(*checksum));
        pages.set_durable(PageIndex(page as u64));
    }
    let len = u64::from(entry.len);
    let extent = Extent::new(ExtentParts {
        id: entry.id,
        tier: Arc::clone(tier),
        page_size: entry.page_size,
        born_here: entry.born_here,
        len,
        origin: Origin { authority: Authority::Origin, len, pages: Arc::new(pages) },
        keys: entry.keys,
        file: None,
        sidecar: Sidecar::default(),
        // The entry's header says nothing of its bytes, which may be missing since some earlier fall of the machine.
        verified: false,
        entry_synced: true,
        len_synced: true,
        charged: entry_len,
    });
    extent.set_packed(Some(Arc::new(Packed { segment: Arc::clone(segment), data_at, entry_len })));
    segment.revive(extent.id(), entry_len);
    Arc::new(extent)
}

/// What a segment's headers say.
#[derive(Default)]
struct Contents {
    /// With their offsets.
    entries: Vec<(u64, SegmentEntry)>,
    /// Where the last whole entry ends.
    end: u64,
    /// Whether that is the end of the file.
    whole: bool,
}

fn read_entries(file: &fs::File, id: u64) -> io::Result<Contents> {
    let len = file.metadata()?.len();
    let mut header = [0; SEGMENT_HEADER_LEN];
    let mut entries = Vec::new();
    if read_at_most(file, &mut header, 0)? < header.len() || check_segment(&header, id).is_err() {
        return Ok(Contents::default());
    }
    let mut at = SEGMENT_HEADER_LEN as u64;
    let mut buffer = vec![0; ENTRY_HEADER_MAX];
    while at < len {
        let n = read_at_most(file, &mut buffer, at)?;
        let Ok(entry) = SegmentEntry::decode(&buffer[..n], id, at) else {
            return Ok(Contents { entries, end: at, whole: false });
        };
        if at + entry.header_len() as u64 + u64::from(entry.len) > len {
            return Ok(Contents { entries, end: at, whole: false });
        }
        let next = at + entry.total_len();
        if !entry.keys.is_empty() {
            entries.push((at, entry));
        }
        at = next;
    }
    Ok(Contents { entries, end: at, whole: true })
}

fn read_at_most(file: &fs::File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match file.read_at(&mut buffer[n..], at + n as u64)? {
            0 => break,
            more => n += more,
        }
    }
    Ok(n)
}
