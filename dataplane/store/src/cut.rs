//! Where bytes end that a start finds: truncations half done, and what lies behind the end of a file.
//!
//! **Owns** the answer to where the under file system's bytes in an extent end when file, header and page records were cut at
//! different times, and the writing down of that answer; and the zeros behind the end of a file after the machine went down.
//! **Never does** change a byte before the end, or a record of a page.
//!
//! A truncation shortens the file, then the header and the records, and none of them is on the disk before a sync. So a start
//! may find a header from before it beside a file and records from after it, and the file may have grown again since. What was
//! cut away must not be taken for the under file system's once more: the file would be filled with it over what was written.
//!
//! **Why it is written down at once:** whatever the file's length tells of the cut is gone as soon as somebody writes.

use crate::format::sidecar::{PageRecord, RECORD_LEN, SidecarHeader};
use crate::tier::Tier;
use forebay_types::{ExtentId, PageIndex};
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// Where the under file system's bytes end in an extent that is ours, by the least of all that is known: its header, the
/// length of its file, and the records. A record shorter than its page is that of the last page after a truncation, for the
/// header only ever shrinks while an extent is ours.
pub(crate) fn origin_len(header: &SidecarHeader, file_len: u64, records: &[u8]) -> u64 {
    let size = header.page_size;
    let pages = size.pages_in(header.origin_len.min(file_len));
    let ends =
        records.chunks_exact(RECORD_LEN).take(pages as usize).enumerate().filter_map(|(page, record)| {
            let page = PageIndex(page as u64);
            let record = PageRecord::decode(record, header.id, page).ok().flatten()?;
            let len = u64::from(record.len);
            (len < size.len_of(page, header.origin_len)).then(|| size.start_of(page) + len)
        });
    ends.chain([header.origin_len, file_len]).min().expect("the header and the file both have a length")
}

/// Has the header say what `header` says, durably. Blocks.
pub(crate) fn write_down(tier: &Tier, header: &SidecarHeader) -> io::Result<()> {
    // The shorter length first: with the longer one, what lies between would pass for written here.
    File::open(tier.path_of(header.id))?.sync_data()?;
    let sidecar = File::options().write(true).open(tier.sidecar_of(header.id))?;
    // The other slot, which may not have reached the disk yet, is all there is if this write is torn.
    sidecar.sync_data()?;
    sidecar.write_all_at(&header.encode(), header.slot_at())?;
    sidecar.sync_data()
}

/// The unit in which a file system writes: what lies behind the end of a file within one may be on the disk.
const BLOCK_LEN: u64 = 4096;

/// Has zeros behind the end of a file of ours after the machine went down. Blocks.
///
/// A block can reach the disk whole while the length that covers it does not: bytes that were never synced then lie behind
/// the end. ext4 shows them once the file has grown over them, if the machine goes down again before what the file grew by is
/// written. Cutting the file to the length it has makes them zeros first, in the journal's order. The time of last change stays.
pub(crate) fn zero_behind_end(tier: &Tier, id: ExtentId, found: &Metadata) -> io::Result<()> {
    if found.len().is_multiple_of(BLOCK_LEN) {
        return Ok(());
    }
    let file = File::options().write(true).open(tier.path_of(id))?;
    file.set_len(found.len())?;
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: found.mtime(), tv_nsec: found.mtime_nsec() },
    };
    rustix::fs::futimens(&file, &times)?;
    Ok(())
}
