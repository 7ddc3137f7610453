//! Packing: small clean files that nobody uses move into segment files, and back out when somebody writes to them.
//!
//! **Owns** when and how an extent changes between a file of its own and an entry of a segment, and the compaction of
//! segments most of which is dead. **Never does** so while a guard is out, and never before the copy is synced: the old
//! place is given up last.
//!
//! A packed extent is read through the daemon. A file that is opened again and again is not unpacked for it: the kernel's
//! page cache serves it.

use crate::blanks;
use crate::error::StoreError;
use crate::extent::{Authority, Extent, Origin};
use crate::format::segment::{ENTRY_KEYS_MAX, ENTRY_PAGES_MAX, SegmentEntry};
use crate::guard::Evictable;
use crate::residency::Pages;
use crate::segment::{Packed, Segment};
use crate::sidecar::overloaded;
use crate::store::Store;
use crate::tier::Tier;
use forebay_shard::{File, Frame, arena, blocking};
use forebay_types::{ExtentId, PageChecksum};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The most extents packed at once: they share one sync.
pub(crate) const PACK_BATCH: usize = 256;
/// As many wait to be packed at the most because something is more urgent: they take two files each meanwhile.
const PUT_OFF_MAX: usize = 1 << 16;

/// An extent whose bytes were copied to a segment and not switched over yet.
struct Staged {
    extent: Arc<Extent>,
    packed: Packed,
    /// The count of changes when it was copied.
    punches: u64,
}

impl Extent {
    /// Whether it lies in a segment.
    pub fn is_packed(&self) -> bool {
        self.packed().is_some()
    }

    /// Whether it may be packed, but for guards.
    fn is_packable(&self, pack_max: u64) -> bool {
        let pages = self.page_size().pages_in(self.len());
        let small = (1..=pack_max).contains(&self.len()) && pages <= ENTRY_PAGES_MAX as u64;
        small && self.is_replaceable() && self.is_complete() && !self.is_gone()
    }

    /// Reads from the segment again from now on; the file of its own is unlinked next.
    fn become_packed(&self, packed: Packed) {
        let entry_len = packed.entry_len;
        packed.segment.revive(self.id(), entry_len);
        if let Some(before) = self.packed() {
            before.segment.kill(self.id());
        }
        self.set_packed(Some(Arc::new(packed)));
        self.forget_file();
        let origin = self.origin();
        origin.pages.resident_pages().for_each(|page| origin.pages.set_durable(page));
        self.recharge(entry_len);
    }

    /// Gives a packed extent a file of its own again; `change` is held exclusively, and a guard is out. Its pages are
    /// here, and durable only once they are synced.
    pub(crate) async fn unpack(&self) -> Result<(), StoreError> {
        let Some(packed) = self.packed() else { return Ok(()) };
        let frame = arena().frame(self.len() as usize).await;
        let frame = frame.map_err(|e| overloaded("a frame to unpack into", e))?;
        let (read, frame) = packed.segment.file.read_at(frame, packed.data_at).await;
        read.map_err(|e| StoreError::io(format!("unpacking extent {}", self.id()), e))?;
        let file = self.make_own_file().await?;
        let (written, _frame) = file.write_at(frame, 0).await;
        written.map_err(|e| StoreError::io(format!("unpacking extent {}", self.id()), e))?;
        self.sidecar.start_anew().await;
        self.set_origin(|old| {
            let pages = Pages::new(old.pages.count());
            old.pages.resident_pages().for_each(|page| pages.set_written(page, old.pages.checksum(page)));
            Origin { authority: old.authority, len: old.len, pages: Arc::new(pages) }
        });
        self.entry_synced.store(false, Ordering::Release);
        self.len_synced.store(false, Ordering::Release);
        self.punches.fetch_add(1, Ordering::AcqRel);
        self.set_file(file);
        self.set_packed(None);
        self.tier().entry_died(&packed.segment, self.id());
        let _ = self.stat();
        Ok(())
    }

    async fn make_own_file(&self) -> Result<File, StoreError> {
        let (tier, id) = (Arc::clone(self.tier()), self.id());
        let made = blocking(move || {
            tier.make_dir_of(id)?;
            // A sidecar of the time before it was packed would outlive the new one's first header at the next start.
            blanks::unlink_path(&tier.sidecar_of(id));
            let path = tier.path_of(id);
            std::fs::File::options().read(true).write(true).create(true).truncate(true).open(path)
        });
        let made = made.await.map_err(|e| overloaded("making a file to unpack into", e))?;
        Ok(File::new(made.map_err(|e| StoreError::io(format!("unpacking extent {id}"), e))?))
    }
}

impl Tier {
    /// An entry is read no longer; the last one of a full segment takes the file with it.
    pub(crate) fn entry_died(&self, segment: &Arc<Segment>, id: ExtentId) {
        if segment.kill(id) {
            self.segments.forget(segment.id);
            if let Some(store) = self.store.get().and_then(std::sync::Weak::upgrade) {
                store.blanks().doom_segment(segment.path.clone());
            }
        }
    }
}

impl Store {
    /// Something is more urgent than packing for that long.
    pub fn put_off_packing(&self, by: Duration) {
        let until = Instant::now() + by;
        let mut from = self.pack_from.lock();
        *from = from.max(Some(until));
    }

    fn is_packing_put_off(&self, tier: &Tier) -> bool {
        let from = *self.pack_from.lock();
        from.is_some_and(|from| Instant::now() < from) && tier.packable_len() < PUT_OFF_MAX
    }

    /// Packs what became packable a while ago, and copies what is alive out of segments that are mostly dead.
    pub(crate) async fn pack_due(self: &Arc<Self>, tier: &Arc<Tier>) -> Result<(), StoreError> {
        let _turn = tier.segments.turn.lock().await;
        let pack_max = self.config().pack_max.as_u64();
        let at_once = if self.is_packing_put_off(tier) { 0 } else { PACK_BATCH };
        let due = tier.take_packable(self.config().sync_delay, at_once);
        let extents: Vec<_> = due.into_iter().filter_map(|id| self.get(id)).collect();
        let due = extents.into_iter().filter(|e| !e.is_packed() && e.is_packable(pack_max));
        let (held, due): (Vec<_>, Vec<_>) = due.partition(|extent| extent.guards().is_held());
        held.iter().for_each(|extent| tier.note_packable(extent));
        self.pack(tier, due).await?;
        for segment in tier.segments.sparse() {
            for members in segment.members().chunks(PACK_BATCH) {
                let live = members.iter().filter_map(|id| self.get(*id)).collect();
                self.pack(tier, live).await?;
            }
        }
        Ok(())
    }

    async fn pack(self: &Arc<Self>, tier: &Arc<Tier>, extents: Vec<Arc<Extent>>) -> Result<(), StoreError> {
        let mut staged = Vec::new();
        for extent in extents {
            match stage(tier, &extent).await {
                Ok(one) => staged.push(one),
                Err(StoreError::Corrupt { .. } | StoreError::Gone(_) | StoreError::NotResident { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut synced: Vec<u64> = Vec::new();
        for one in &staged {
            let segment = &one.packed.segment;
            if !synced.contains(&segment.id) {
                synced.push(segment.id);
                segment.file.sync_data().await.map_err(|e| StoreError::io("syncing a segment", e))?;
            }
        }
        switch_over(tier, staged).await
    }
}

/// Copies an extent's bytes to the end of a segment.
async fn stage(tier: &Arc<Tier>, extent: &Arc<Extent>) -> Result<Staged, StoreError> {
    let punches = extent.punches.load(Ordering::Acquire);
    let frame = arena().frame(extent.len() as usize).await;
    let data = extent.read(frame.map_err(|e| overloaded("a frame to pack from", e))?, 0).await?;
    let entry = describe(extent, &data).await?;
    let (segments, total) = (Arc::clone(tier), entry.total_len());
    let place = blocking(move || segments.segments.appendable(&segments.segments_dir(), total)).await;
    let (segment, at) = place.map_err(|e| overloaded("a place in a segment", e))??;
    let frame = entry_frame(&entry, segment.id, at, &data).await?;
    let (written, _frame) = segment.file.write_at(frame, at).await;
    if let Err(error) = written {
        segment.seal();
        return Err(StoreError::io("appending to a segment", error));
    }
    let packed = Packed { data_at: at + entry.header_len() as u64, entry_len: total, segment };
    Ok(Staged { extent: Arc::clone(extent), packed, punches })
}

/// The entry for an extent whose bytes are `data`.
async fn describe(extent: &Arc<Extent>, data: &Frame) -> Result<SegmentEntry, StoreError> {
    if data.len() as u64 != extent.len() {
        return Err(StoreError::Gone(extent.id()));
    }
    let page_len = extent.page_size().bytes() as usize;
    let checksums: Vec<_> = data.chunks(page_len).map(PageChecksum::of).collect();
    let origin = extent.origin_full();
    let differs = |(page, found): (forebay_types::PageIndex, &PageChecksum)| {
        origin.pages.checksum(page).is_some_and(|known| known != *found).then_some(page)
    };
    let pages = (0..).map(forebay_types::PageIndex);
    if let Some(page) = pages.zip(&checksums).find_map(differs) {
        extent.report_corrupt(page).await?;
        return Err(StoreError::Corrupt { extent: extent.id(), page });
    }
    let mut keys = extent.keys();
    keys.drain(..keys.len().saturating_sub(ENTRY_KEYS_MAX));
    Ok(SegmentEntry {
        id: extent.id(),
        page_size: extent.page_size(),
        born_here: extent.born_here(),
        len: u32::try_from(extent.len()).map_err(|_| StoreError::Invalid("packing a large file"))?,
        keys,
        checksums,
    })
}

async fn entry_frame(entry: &SegmentEntry, segment: u64, at: u64, data: &[u8]) -> Result<Frame, StoreError> {
    let frame = arena().frame(entry.total_len() as usize).await;
    let mut frame = frame.map_err(|e| overloaded("a frame for a segment's entry", e))?;
    let (header, rest) = frame.split_at_mut(entry.header_len());
    header.copy_from_slice(&entry.encode(segment, at));
    let (body, padding) = rest.split_at_mut(data.len());
    body.copy_from_slice(data);
    padding.fill(0);
    Ok(frame)
}

/// Has what was copied and not touched since read from its new place, and unlinks the old ones.
async fn switch_over(tier: &Arc<Tier>, staged: Vec<Staged>) -> Result<(), StoreError> {
    let mut tokens = Vec::new();
    for Staged { extent, packed, punches } in staged {
        let Some(token) = Evictable::take(&extent) else {
            // In use just now: its copy is dead, and it is tried again later.
            tier.note_packable(&extent);
            continue;
        };
        let untouched = extent.punches.load(Ordering::Acquire) == punches;
        if untouched && extent.authority() == Authority::Origin {
            let before = extent.packed();
            extent.become_packed(packed);
            if let Some(before) = before {
                tier.entry_died(&before.segment, extent.id());
            } else {
                extent.sidecar.start_anew().await;
                tokens.push(token);
            }
        }
    }
    let of_tier = Arc::clone(tier);
    // The tokens are out until the old files are gone: an unpacked file would have the same name.
    let unlinked = blocking(move || {
        for token in &tokens {
            blanks::unlink(&of_tier, token.extent().id());
        }
    });
    unlinked.await.map_err(|e| overloaded("unlinking packed files", e))
}
