//! The bytes of a file that is carried, in order, with the checksum of each page on the way.

use crate::Worker;
use crate::here::Place;
use forebay_shard::Frame;
use forebay_store::FileStat;
use forebay_types::{ContentLocation, FsErrorKind, FsResult, PageChecksum, PageSize};
use forebay_wire::ReadPolicy;
use std::sync::Arc;

/// Bytes of an extent that were read and sent.
#[derive(Debug)]
pub(super) struct Sent {
    /// One a page, in order.
    pub(super) checksums: Vec<PageChecksum>,
    /// How many writers had begun on the extent before: they are its bytes as long as there is no further one.
    pub(super) writers: u64,
}

/// Reads a file from its first byte to its last. Polled on a shard; may move between shards from call to call.
pub(super) struct Source {
    worker: Arc<Worker>,
    content: ContentLocation,
    page_size: PageSize,
    len: u64,
    /// How many writers had begun on the extent.
    writers: u64,
    next_page: u64,
    /// A page of which a part was already given out.
    rest: Option<(Frame, usize)>,
    checksums: Vec<PageChecksum>,
}

impl Source {
    /// The bytes of `content`, of which there are `len`, in an extent on which `writers` have begun so far.
    pub(super) fn new(
        worker: Arc<Worker>,
        content: ContentLocation,
        page_size: PageSize,
        (len, writers): (u64, u64),
    ) -> Self {
        Self { worker, content, page_size, len, writers, next_page: 0, rest: None, checksums: Vec::new() }
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// What was given out.
    pub(super) fn into_sent(self) -> Sent {
        Sent { checksums: self.checksums, writers: self.writers }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// `Stale` if the file is shorter by now, or gone; those of a read.
    pub(super) async fn next_part(&mut self, len: usize) -> FsResult<Vec<u8>> {
        let mut part = Vec::with_capacity(len);
        while part.len() < len {
            let (page, used) = match self.rest.take() {
                Some(rest) => rest,
                None => (self.next_page().await?, 0),
            };
            let take = (page.len() - used).min(len - part.len());
            part.extend_from_slice(&page[used..used + take]);
            if used + take < page.len() {
                self.rest = Some((page, used + take));
            }
        }
        Ok(part)
    }

    async fn next_page(&mut self) -> FsResult<Frame> {
        let offset = self.next_page * self.page_size.bytes();
        let wanted = self.page_size.bytes().min(self.len.saturating_sub(offset));
        let asked = offset..offset + wanted.max(1);
        let page = self.worker.read(&self.content, asked, ReadPolicy::default(), Place::default()).await?;
        if wanted == 0 || page.len() as u64 != wanted {
            return Err(FsErrorKind::Stale.into());
        }
        self.checksums.push(PageChecksum::of(&page));
        self.next_page += 1;
        Ok(page)
    }
}

/// Whether an extent file was changed between two looks.
pub(super) fn is_same(before: &FileStat, after: &FileStat) -> bool {
    (before.len, before.mtime, before.ctime) == (after.len, after.mtime, after.ctime)
}
