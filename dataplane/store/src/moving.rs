//! Moving clean extents between tiers: up when they are used again and again, down instead of out.
//!
//! **Owns** the copy of an extent in another tier and the moment at which the copy takes over. The id stays; the
//! [`Extent`] is a new one, and whoever still reads the old one reads the same bytes from a file that stays open.
//! **Never** moves what is not clean, and never does so while a guard is out, with one exception: what is about to be
//! written to leaves memory whoever keeps it there, and who still holds the old one reads on from it.
//!
//! The copy gets its sidecar before its name, and its pages are not durable until they are synced there: a move that is
//! cut short leaves the old extent, or both, or a copy of which some pages are absent.

use crate::config::TierKind;
use crate::error::StoreError;
use crate::extent::{Extent, ExtentParts, Origin};
use crate::guard::{Evictable, Hold};
use crate::residency::Pages;
use crate::sidecar::{Sidecar, overloaded};
use crate::store::Store;
use crate::tier::{MOVING_EXT, Tier};
use forebay_shard::{File, blocking};
use forebay_types::ExtentId;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// How much is copied at once.
const COPY_LEN: u64 = 1 << 20;
/// A promoted extent takes at most one part in this many of the faster tier.
const PROMOTED_SHARE: u64 = 8;
/// The most bytes promoted in one round of housekeeping.
const PROMOTE_AT_ONCE: u64 = 128 << 20;
/// How long a move waits until what was there before is unlinked.
const VACANT_WAIT: Duration = Duration::from_secs(5);

impl Store {
    /// Moves an extent down if there is a slower tier with room, else ends it; returns the bytes freed.
    pub(crate) async fn evict_or_demote(self: &Arc<Self>, token: Evictable) -> u64 {
        let extent = Arc::clone(token.extent());
        let slower = self.tiers().get(extent.tier_index() + 1);
        let worth_it = !extent.is_packed() && extent.is_complete();
        let Some(to) = slower.filter(|_| worth_it) else { return self.evict_whole(token) };
        let freed = extent.charged();
        match self.relocate(&extent, to).await {
            Ok(_) => {
                self.retire_moved(token);
                self.counters().demoted(freed);
                freed
            }
            Err(error) => {
                tracing::debug!(extent = %extent.id(), %error, "not moved to a slower tier, but dropped");
                self.evict_whole(token)
            }
        }
    }

    /// Moves what was used again and again to the next faster tier.
    pub(crate) async fn promote_hot(self: &Arc<Self>, tier: &Arc<Tier>) -> Result<(), StoreError> {
        let Some(to) = tier.index.checked_sub(1).and_then(|index| self.tiers().get(index)) else {
            return Ok(());
        };
        let mut moved = 0;
        while moved < PROMOTE_AT_ONCE
            && let Some(id) = tier.evictor.take_hot()
        {
            let Some(extent) = self.get(id).filter(|extent| !extent.is_packed() && extent.is_complete())
            else {
                continue;
            };
            if extent.charged() > to.quota() / PROMOTED_SHARE {
                continue;
            }
            if let Some(token) = Evictable::take(&extent) {
                let bytes = extent.charged();
                self.relocate(&extent, to).await?;
                self.retire_moved(token);
                self.counters().promoted(bytes);
                moved += bytes;
            }
        }
        Ok(())
    }

    /// Moves an extent out of a tier that does not outlive a reboot, before it is written to.
    pub(crate) async fn settle_on_disk(
        self: &Arc<Self>,
        extent: Arc<Extent>,
    ) -> Result<Arc<Extent>, StoreError> {
        let to = &self.tiers()[self.entry_tier()];
        if extent.tier().kind != TierKind::Mem || to.kind == TierKind::Mem {
            return Ok(extent);
        }
        // Keeps every other move away. Pages that are filled meanwhile are absent in the copy.
        let filling = extent.hold(Hold::Filling)?;
        let moved = self.relocate(&extent, to).await?;
        drop(filling);
        if extent.guards().retire() {
            self.bury(&extent);
        }
        Ok(moved)
    }

    fn retire_moved(&self, token: Evictable) {
        if let Some(old) = token.retire() {
            self.bury(&old);
        }
    }

    /// Makes a copy of an extent in another tier and has it found from now on. The old one is to be retired.
    async fn relocate(
        self: &Arc<Self>,
        old: &Arc<Extent>,
        to: &Arc<Tier>,
    ) -> Result<Arc<Extent>, StoreError> {
        Box::pin(to.ensure_room(old.charged())).await?;
        self.wait_until_vacant(to, old.id()).await?;
        let source = old.file()?;
        let (ranges, len, id, tier) = (resident_ranges(old), old.len(), old.id(), Arc::clone(to));
        let copied = blocking(move || copy(source.std(), &tier, id, len, &ranges)).await;
        let copied = copied.map_err(|e| overloaded("copying to another tier", e))?;
        let file = copied.map_err(|e| StoreError::io(format!("copying extent {id} to another tier"), e))?;
        let moved = twin(old, to, file);
        moved.rank(old.priority());
        if let Err(error) = self.publish(&moved).await {
            moved.discharge();
            self.blanks().doom_copy(Arc::clone(to), id);
            return Err(error);
        }
        old.tier().evictor.forget(old);
        self.table().insert(&moved);
        to.evictor.admit(&moved);
        to.note_filled(id);
        Ok(moved)
    }

    /// Waits until what was in a tier under an id, before it was moved out, is unlinked there.
    async fn wait_until_vacant(&self, to: &Arc<Tier>, id: ExtentId) -> Result<(), StoreError> {
        if self.blanks().is_doomed(to, id) {
            self.wait_unlinked(VACANT_WAIT).await;
            if self.blanks().is_doomed(to, id) {
                return Err(StoreError::Busy { extent: id, what: "it left the tier a moment ago" });
            }
        }
        Ok(())
    }

    /// Has no tier but its own keep anything of an extent that is about to be written to, durably: what came back after
    /// a power loss could be taken for the newer one.
    pub(crate) async fn end_copies(self: &Arc<Self>, extent: &Arc<Extent>) -> Result<(), StoreError> {
        if self.tiers().len() == 1 {
            return Ok(());
        }
        let (store, own, id) = (Arc::clone(self), extent.tier_index(), extent.id());
        let ended = blocking(move || {
            let others = store.tiers().iter().filter(|tier| tier.index != own);
            others.into_iter().try_for_each(|tier| tier.end_copy(id))
        });
        let ended = ended.await.map_err(|e| overloaded("removing copies in other tiers", e))?;
        ended.map_err(|e| StoreError::io(format!("removing copies of extent {id} in other tiers"), e))
    }

    async fn publish(&self, moved: &Arc<Extent>) -> Result<(), StoreError> {
        moved.sidecar.note_header();
        moved.origin().pages.resident_pages().for_each(|page| moved.sidecar.note_page(page));
        // A name whose sidecar came to nothing would say that the file was born here whole.
        moved.sync_sidecar().await?;
        let (tier, id) = (Arc::clone(moved.tier()), moved.id());
        let named = blocking(move || {
            let path = tier.path_of(id);
            fs::rename(path.with_extension(MOVING_EXT), path)
        });
        let named = named.await.map_err(|e| overloaded("naming a moved extent", e))?;
        named.map_err(|e| StoreError::io(format!("naming moved extent {id}"), e))?;
        moved.stat().map(|_| ())
    }
}

/// An extent like `old` whose bytes are in `file` of another tier, none of them durable there yet.
fn twin(old: &Extent, tier: &Arc<Tier>, file: fs::File) -> Arc<Extent> {
    let origin = old.origin();
    let pages = Pages::new(origin.pages.count());
    origin.pages.resident_pages().for_each(|page| pages.set_written(page, origin.pages.checksum(page)));
    Arc::new(Extent::new(ExtentParts {
        id: old.id(),
        tier: Arc::clone(tier),
        page_size: old.page_size(),
        born_here: old.born_here(),
        len: old.len(),
        origin: Origin { authority: origin.authority, len: origin.len, pages: Arc::new(pages) },
        keys: old.keys(),
        file: Some(File::new(file)),
        sidecar: Sidecar::default(),
        verified: !old.needs_verify(),
        entry_synced: false,
        len_synced: false,
        charged: 0,
    }))
}

/// The bytes of resident pages, adjacent ones together.
fn resident_ranges(extent: &Extent) -> Vec<Range<u64>> {
    let (size, origin) = (extent.page_size(), extent.origin());
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for page in origin.pages.resident_pages() {
        let start = size.start_of(page);
        let end = start + size.len_of(page, extent.len());
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => ranges.push(start..end),
        }
    }
    ranges
}

fn copy(
    source: &fs::File,
    tier: &Tier,
    id: ExtentId,
    len: u64,
    ranges: &[Range<u64>],
) -> io::Result<fs::File> {
    tier.make_dir_of(id)?;
    let path = tier.path_of(id).with_extension(MOVING_EXT);
    let target = fs::File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    target.set_len(len)?;
    let mut buffer = vec![0; COPY_LEN as usize];
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let part = &mut buffer[..COPY_LEN.min(range.end - at) as usize];
            source.read_exact_at(part, at)?;
            target.write_all_at(part, at)?;
            at += part.len() as u64;
        }
    }
    Ok(target)
}
