//! Which files have bytes of ours: asked once, after the machine itself went down.
//!
//! A record reaches the disk with anybody's `fsync`, the bytes of a file only with its own. After a power loss a
//! closed file's record may therefore speak of bytes that are gone. Who opens the store compares each of these
//! with its extent file, which alone knows.

use crate::keys;
use crate::namespace::Namespace;
use crate::record::InodeRecord;
use crate::txn::{Changes, InoRange, Staged, Txn};
use forebay_types::{ContentLocation, FsResult};

/// How many records are read from the engine at a time.
const PAGE_LEN: usize = 4096;

impl Namespace {
    /// Every file that has an extent of ours and is not open for write, in the order of inode numbers. Blocks;
    /// to be asked before the first operation, when all that is known is in the engine.
    ///
    /// # Errors
    /// `Corrupt` or `Io` if the engine cannot be read.
    pub fn authored(&self) -> FsResult<Vec<ContentLocation>> {
        let none = Staged { changes: Changes::default(), inos: InoRange { next: 0, end: 0 } };
        let txn = Txn::new(&self.shared, &none, 0);
        let (mut from, until) = keys::all(keys::INODE);
        let mut found = Vec::new();
        loop {
            let page = self.shared.view.engine.scan(&from, &until, PAGE_LEN)?;
            for (key, value) in &page {
                let record = InodeRecord::decode(value)?;
                let closed = record.extent.is_some() && !record.write_open && record.nlink > 0;
                if let (true, Some(ino)) = (closed, keys::number(key)) {
                    found.push(crate::ops::content(&txn, ino, &record)?);
                }
            }
            match page.last() {
                Some((last, _)) => from = [&last[..], &[0]].concat().into(),
                None => return Ok(found),
            }
        }
    }
}
