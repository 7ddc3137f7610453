//! Writing an extent's sidecar: what changed in memory goes to the file in whole 4 KiB blocks.
//!
//! **Owns** the sidecar's file and what is still to be written to it. **Never does** decide what the bits are: it
//! writes what the extent says at that moment.
//!
//! **How data comes in and leaves:** whoever changed a page or the header notes it ([`Sidecar::note_page`]) and awaits
//! [`Extent::flush_sidecar`]. The first to come writes what all have noted by then; those behind it find their work
//! done. So many fills at once cost few small writes, and one fill costs one.
//!
//! **Why whole blocks:** a block that is written whole is never read from disk first.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::format::sidecar::{BLOCK_LEN, PageRecord, RECORD_LEN, RECORDS_PER_BLOCK, block_at};
use forebay_shard::{File, Frame, arena, blocking};
use forebay_types::PageIndex;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug, Default)]
struct Pending {
    header: bool,
    blocks: BTreeSet<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Sidecar {
    file: Mutex<Option<File>>,
    pending: Mutex<Pending>,
    turn: tokio::sync::Mutex<Turn>,
    exists: AtomicBool,
}

/// What only the one who writes needs.
#[derive(Debug, Default)]
struct Turn {
    sequence: u64,
    /// A header slot was written and not synced since: the other slot must not be touched before.
    header_unsynced: bool,
    /// Something was written and not synced since.
    unsynced: bool,
    /// The blocks of records of which that is so.
    unsynced_blocks: BTreeSet<u64>,
}

impl Sidecar {
    /// A sidecar that is there already, with the sequence of its header, and whether all of it is known to be on the disk.
    pub(crate) fn existing(sequence: u64, synced: bool) -> Self {
        let turn = Turn { sequence, header_unsynced: !synced, unsynced: !synced, ..Turn::default() };
        Self { turn: tokio::sync::Mutex::new(turn), exists: AtomicBool::new(true), ..Self::default() }
    }

    /// The header is to be written with the next flush.
    pub(crate) fn note_header(&self) {
        self.pending.lock().header = true;
    }

    /// The record of `page` is to be written with the next flush.
    pub(crate) fn note_page(&self, page: PageIndex) {
        self.pending.lock().blocks.insert(page.0 / RECORDS_PER_BLOCK);
    }

    /// Whether there is a file, or something to write to it.
    pub(crate) fn is_used(&self) -> bool {
        let pending = self.pending.lock();
        self.exists.load(Ordering::Acquire) || pending.header || !pending.blocks.is_empty()
    }

    /// Closes the file; it is opened again on the next flush.
    pub(crate) fn close(&self) {
        *self.file.lock() = None;
    }

    /// The file was unlinked: a later one begins with nothing.
    pub(crate) async fn start_anew(&self) {
        let mut turn = self.turn.lock().await;
        *turn = Turn::default();
        *self.pending.lock() = Pending::default();
        *self.file.lock() = None;
        self.exists.store(false, Ordering::Release);
    }

    fn take_pending(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock())
    }

    fn put_back(&self, work: Pending) {
        let mut pending = self.pending.lock();
        pending.header |= work.header;
        pending.blocks.extend(work.blocks);
    }
}

/// Work that was taken to be written. What is left of it when this is dropped is put back: whoever writes may be given up
/// in the middle, and nobody notes it again.
struct Taken<'a> {
    sidecar: &'a Sidecar,
    work: Pending,
}

impl<'a> Taken<'a> {
    fn from(sidecar: &'a Sidecar) -> Self {
        Self { sidecar, work: sidecar.take_pending() }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.sidecar.put_back(std::mem::take(&mut self.work));
    }
}

impl Extent {
    /// Writes (does not sync) what was noted before the call.
    pub(crate) async fn flush_sidecar(&self) -> Result<(), StoreError> {
        let mut turn = self.sidecar.turn.lock().await;
        self.flush_in_turn(&mut turn).await
    }

    /// Writes and syncs the page records noted before the call, and leaves the header as it is on disk.
    pub(crate) async fn sync_records(&self) -> Result<(), StoreError> {
        let mut turn = self.sidecar.turn.lock().await;
        let mut taken = Taken::from(&self.sidecar);
        let records = Pending { header: false, blocks: taken.work.blocks.clone() };
        self.write_work(&records, &mut turn).await?;
        taken.work.blocks.clear();
        drop(taken);
        if turn.unsynced { self.sync_in_turn(&mut turn).await } else { Ok(()) }
    }

    /// Writes what was noted before the call, and syncs.
    pub(crate) async fn sync_sidecar(&self) -> Result<(), StoreError> {
        if !self.sidecar.is_used() {
            return Ok(());
        }
        let mut turn = self.sidecar.turn.lock().await;
        self.flush_in_turn(&mut turn).await?;
        if turn.unsynced {
            self.sync_in_turn(&mut turn).await?;
        }
        Ok(())
    }

    async fn flush_in_turn(&self, turn: &mut Turn) -> Result<(), StoreError> {
        let mut taken = Taken::from(&self.sidecar);
        if !taken.work.header && taken.work.blocks.is_empty() {
            return Ok(());
        }
        // The first flush makes the file, and without a header its records say nothing.
        taken.work.header |= turn.sequence == 0;
        self.write_work(&taken.work, turn).await?;
        taken.work = Pending::default();
        Ok(())
    }

    async fn write_work(&self, work: &Pending, turn: &mut Turn) -> Result<(), StoreError> {
        let file = self.sidecar_file().await?;
        if work.header {
            if turn.header_unsynced {
                self.sync_in_turn(turn).await?;
            }
            let header = self.header(turn.sequence + 1);
            turn.header_unsynced = true;
            turn.unsynced = true;
            self.write_block(&file, header.slot_at(), |block| block.copy_from_slice(&header.encode()))
                .await?;
            turn.sequence += 1;
        }
        for block in &work.blocks {
            turn.unsynced = true;
            turn.unsynced_blocks.insert(*block);
            self.write_block(&file, block_at(*block), |bytes| self.encode_block(*block, bytes)).await?;
        }
        Ok(())
    }

    async fn write_block(
        &self,
        file: &File,
        at: u64,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), StoreError> {
        let mut frame = sidecar_frame().await?;
        fill(&mut frame);
        let (written, _frame) = file.write_at(frame, at).await;
        written
            .map(|_| ())
            .map_err(|e| StoreError::io(format!("writing the sidecar of extent {}", self.id()), e))
    }

    /// The records of 256 pages as they are now.
    fn encode_block(&self, block: u64, bytes: &mut [u8]) {
        let origin = self.origin();
        for (slot, bytes) in bytes.chunks_exact_mut(RECORD_LEN).enumerate() {
            let page = PageIndex(block * RECORDS_PER_BLOCK + slot as u64);
            let len = self.page_size().len_of(page, origin.len);
            if len == 0 || !origin.pages.is_resident(page) {
                bytes.fill(0);
                continue;
            }
            let counts = origin.authority == Authority::Origin;
            let record = PageRecord {
                len: u32::try_from(len).expect("a page is at most 16 MiB"),
                durable: origin.pages.is_durable(page),
                checksum: origin.pages.checksum(page).filter(|_| counts),
                epoch: self.tier().epoch,
            };
            bytes.copy_from_slice(&record.encode(self.id(), page));
        }
    }

    async fn sync_in_turn(&self, turn: &mut Turn) -> Result<(), StoreError> {
        let file = self.sidecar_file().await?;
        let synced = file.sync_data().await;
        self.tier().note_sync(synced.is_ok());
        if let Err(error) = synced {
            self.write_again(turn);
            return Err(StoreError::io(format!("syncing the sidecar of extent {}", self.id()), error));
        }
        *turn = Turn { sequence: turn.sequence, ..Turn::default() };
        Ok(())
    }

    /// The kernel forgets what it could not write: all that was not synced is to be written once more, the header to the
    /// slot in which it may be broken.
    fn write_again(&self, turn: &mut Turn) {
        let blocks = std::mem::take(&mut turn.unsynced_blocks);
        self.sidecar.put_back(Pending { header: turn.header_unsynced, blocks });
        if std::mem::take(&mut turn.header_unsynced) {
            turn.sequence = turn.sequence.saturating_sub(1);
        }
    }

    async fn sidecar_file(&self) -> Result<File, StoreError> {
        if let Some(file) = self.sidecar.file.lock().as_ref() {
            return Ok(file.clone());
        }
        let (tier, id) = (Arc::clone(self.tier()), self.id());
        let opened = blocking(move || {
            std::fs::File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(tier.sidecar_of(id))
        });
        let opened = opened.await.map_err(|e| overloaded("opening a sidecar", e))?;
        let file =
            File::new(opened.map_err(|e| StoreError::io(format!("opening the sidecar of extent {id}"), e))?);
        if !self.sidecar.exists.swap(true, Ordering::AcqRel) {
            self.entry_synced.store(false, Ordering::Release);
        }
        Ok(self.sidecar.file.lock().insert(file).clone())
    }
}

async fn sidecar_frame() -> Result<Frame, StoreError> {
    arena().frame(BLOCK_LEN).await.map_err(|e| overloaded("a frame for a sidecar block", e))
}

pub(crate) fn overloaded(
    what: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError::Overloaded { what, source: Box::new(source) }
}
