//! What is found in a tier at start.
//!
//! **Owns** the judgement on every file found: which extents there are, and which of their pages are believed. Reads
//! names, lengths and sidecars, never the bytes of extents, so its time grows with the number of files.
//! **Never believes** a record whose checksum fails, a page record that was not durable before an unclean boot, or the
//! length of a clean file that differs from its sidecar's.

use crate::cut;
use crate::dir::LastExit;
use crate::error::StoreError;
use crate::extent::{Authority, Extent, ExtentParts, Origin};
use crate::format::sidecar::{PageRecord, RECORD_LEN, RECORDS_AT, SidecarHeader};
use crate::residency::{Pages, TRACKED_PAGES_MAX};
use crate::segment;
use crate::sidecar::Sidecar;
use crate::tier::{SIDECAR_EXT, Tier};
use forebay_types::{ExtentId, PageIndex, PageSize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

/// Threads that read sidecars; more than cores, since they mostly wait for the disk.
const READERS: usize = 8;

/// What a start found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// How the last process left each tier.
    pub tiers: Vec<(String, Option<LastExit>)>,
    /// Extents found by content key.
    pub clean: u64,
    /// Extents whose bytes may be nowhere else; [`crate::Store::sweep`] removes those nobody knows.
    pub authored: u64,
    /// Page records that were refused: torn or damaged.
    pub records_refused: u64,
    /// Page records that were not durable when the machine went down.
    pub pages_not_believed: u64,
    /// Clean extents dropped because their file had another length than their sidecar says.
    pub dropped: u64,
    /// Extents whose truncation had not reached their sidecar.
    pub cuts_ended: u64,
    /// Extents whose sidecar's header is damaged: no page of them is believed.
    pub damaged: Vec<ExtentId>,
}

impl RecoveryReport {
    pub(crate) fn add(&mut self, other: Self) {
        self.tiers.extend(other.tiers);
        self.clean += other.clean;
        self.authored += other.authored;
        self.records_refused += other.records_refused;
        self.pages_not_believed += other.pages_not_believed;
        self.dropped += other.dropped;
        self.cuts_ended += other.cuts_ended;
        self.damaged.extend(other.damaged);
    }
}

/// Reads a tier. Blocks.
pub(crate) fn recover(
    tier: &Arc<Tier>,
    exit: LastExit,
    page_size: PageSize,
) -> Result<(Vec<Arc<Extent>>, RecoveryReport), StoreError> {
    let dirs = tier.extent_dirs();
    let per_reader = dirs.len().div_ceil(READERS);
    let scan = Scan { tier, exit, page_size };
    let results = std::thread::scope(|scope| {
        let readers: Vec<_> =
            dirs.chunks(per_reader).map(|dirs| scope.spawn(move || scan.dirs(dirs))).collect();
        readers
            .into_iter()
            .map(|r| r.join().expect("a reader of sidecars does not panic"))
            .collect::<Vec<_>>()
    });
    let mut extents = BTreeMap::new();
    let mut report = RecoveryReport { tiers: vec![(tier.name.clone(), Some(exit))], ..Default::default() };
    for result in results {
        let (found, part) = result?;
        extents.extend(found.into_iter().map(|extent| (extent.id(), extent)));
        report.add(part);
    }
    let packed = segment::recover(tier, exit, &mut extents, &mut report);
    packed.map_err(|e| StoreError::io(format!("reading the segments of tier {}", tier.name), e))?;
    Ok((extents.into_values().collect(), report))
}

#[derive(Clone, Copy)]
struct Scan<'a> {
    tier: &'a Arc<Tier>,
    exit: LastExit,
    page_size: PageSize,
}

impl Scan<'_> {
    fn dirs(self, dirs: &[std::path::PathBuf]) -> Result<(Vec<Arc<Extent>>, RecoveryReport), StoreError> {
        let mut report = RecoveryReport::default();
        let mut extents = Vec::new();
        for dir in dirs {
            let found = self.dir(dir, &mut report);
            extents.extend(found.map_err(|e| StoreError::io(format!("reading {}", dir.display()), e))?);
        }
        Ok((extents, report))
    }

    fn dir(self, dir: &Path, report: &mut RecoveryReport) -> io::Result<Vec<Arc<Extent>>> {
        let mut extents = Vec::new();
        for (id, files) in list(dir)? {
            if !files.data {
                fs::remove_file(self.tier.sidecar_of(id))?;
                continue;
            }
            match self.extent(id, files.sidecar, report)? {
                Some(parts) => extents.push(Arc::new(Extent::new(parts))),
                None => {
                    tracing::warn!(extent = %id, "a clean extent has another length than its sidecar says: it is dropped");
                    report.dropped += 1;
                    crate::blanks::unlink(self.tier, id);
                }
            }
        }
        Ok(extents)
    }

    fn extent(
        self,
        id: ExtentId,
        sidecar: bool,
        report: &mut RecoveryReport,
    ) -> io::Result<Option<ExtentParts>> {
        let meta = fs::metadata(self.tier.path_of(id))?;
        let bytes = if sidecar { fs::read(self.tier.sidecar_of(id))? } else { Vec::new() };
        let base = ExtentParts {
            id,
            tier: Arc::clone(self.tier),
            page_size: self.page_size,
            born_here: true,
            len: meta.len(),
            origin: Origin::absent(Authority::Here, 0, self.page_size),
            keys: Vec::new(),
            file: None,
            sidecar: Sidecar::default(),
            verified: true,
            // Unknown after a crash of the daemon; syncing it once more costs little.
            entry_synced: self.exit == LastExit::Clean,
            // After an unclean boot there is nothing but what is on disk.
            len_synced: self.exit != LastExit::DaemonDied,
            charged: meta.blocks() * 512,
        };
        let headers = &bytes[..bytes.len().min(RECORDS_AT as usize)];
        if headers.iter().all(|b| *b == 0) {
            // No sidecar, or one whose header was never written: born here, and not yet bound.
            report.authored += 1;
            self.end_of(id, &meta)?;
            return Ok(Some(base));
        }
        let parts = self.with_sidecar(base, &bytes, report)?;
        if parts.as_ref().is_some_and(|parts| parts.origin.authority == Authority::Here) {
            self.end_of(id, &meta)?;
        }
        Ok(parts)
    }

    /// The clean ones are checked against their checksums, and grow only once they are ours.
    fn end_of(self, id: ExtentId, meta: &fs::Metadata) -> io::Result<()> {
        match self.exit {
            LastExit::Unclean => cut::zero_behind_end(self.tier, id, meta),
            _ => Ok(()),
        }
    }

    fn with_sidecar(
        self,
        base: ExtentParts,
        bytes: &[u8],
        report: &mut RecoveryReport,
    ) -> io::Result<Option<ExtentParts>> {
        let len = base.len;
        let mut header = match SidecarHeader::decode_pair(bytes, base.id) {
            Ok(header) if header.page_size.pages_in(header.origin_len) <= TRACKED_PAGES_MAX => header,
            refused => {
                tracing::error!(extent = %base.id, ?refused, "the sidecar is damaged; no page of it is believed");
                report.damaged.push(base.id);
                let tracked = len.min(TRACKED_PAGES_MAX * self.page_size.bytes());
                let origin = Origin::absent(Authority::Here, tracked, self.page_size);
                return Ok(Some(ExtentParts { origin, ..base }));
            }
        };
        let clean = header.authority == Authority::Origin;
        if clean && (header.len != len || header.origin_len != len || header.keys.is_empty()) {
            return Ok(None);
        }
        let records = bytes.get(RECORDS_AT as usize..).unwrap_or_default();
        let cut = if clean { len } else { cut::origin_len(&header, len, records) };
        if cut < header.origin_len {
            (header.origin_len, header.len, header.sequence) = (cut, len, header.sequence + 1);
            cut::write_down(self.tier, &header)?;
            report.cuts_ended += 1;
        }
        let pages = self.pages(&header, records, report);
        let count = if clean { &mut report.clean } else { &mut report.authored };
        *count += 1;
        // After the daemon's death alone, what it wrote last may not be on the disk yet.
        let sidecar = Sidecar::existing(header.sequence, self.exit != LastExit::DaemonDied);
        Ok(Some(ExtentParts {
            page_size: header.page_size,
            born_here: header.born_here,
            origin: Origin { authority: header.authority, len: header.origin_len, pages: Arc::new(pages) },
            keys: header.keys,
            sidecar,
            verified: self.exit != LastExit::Unclean,
            ..base
        }))
    }

    /// The pages whose records are believed.
    fn pages(self, header: &SidecarHeader, records: &[u8], report: &mut RecoveryReport) -> Pages {
        let pages = Pages::new(header.page_size.pages_in(header.origin_len));
        let records = records.chunks_exact(RECORD_LEN).take(pages.count() as usize);
        for (page, record) in records.enumerate() {
            let page = PageIndex(page as u64);
            let record = match PageRecord::decode(record, header.id, page) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(_) => {
                    report.records_refused += 1;
                    continue;
                }
            };
            // A truncation that was cut short leaves records of the longer length; what remains of the page is whole.
            let len_now = header.page_size.len_of(page, header.origin_len);
            let shortened = header.authority == Authority::Here && u64::from(record.len) > len_now;
            let whole = u64::from(record.len) == len_now || shortened;
            if !(record.durable || record.epoch == self.tier.epoch) || !whole {
                report.pages_not_believed += 1;
                continue;
            }
            pages.set_written(page, record.checksum);
            if record.durable {
                pages.set_durable(page);
            }
        }
        pages
    }
}

#[derive(Default)]
struct Files {
    data: bool,
    sidecar: bool,
}

/// The extents of a directory. Files that are no extents are left alone, but for copies that were under way.
fn list(dir: &Path) -> io::Result<BTreeMap<ExtentId, Files>> {
    let mut found: BTreeMap<ExtentId, Files> = BTreeMap::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let path = entry?.path();
        let Some(id) = path.file_stem().and_then(|stem| parse_id(stem.to_str()?)) else { continue };
        match path.extension().and_then(|ext| ext.to_str()) {
            None => found.entry(id).or_default().data = true,
            Some(SIDECAR_EXT) => found.entry(id).or_default().sidecar = true,
            Some(crate::tier::MOVING_EXT) => fs::remove_file(&path)?,
            Some(_) => {}
        }
    }
    Ok(found)
}

/// 16 lower-case hexadecimal digits.
pub(crate) fn parse_id(name: &str) -> Option<ExtentId> {
    let plain = name.len() == 16 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    plain.then(|| u64::from_str_radix(name, 16).ok()).flatten().map(ExtentId)
}
