//! Bytes that are here: in memory, because they landed a moment ago, or in their extent.

use crate::place::content_of;
use crate::transit::Transit;
use forebay_shard::{Frame, arena};
use forebay_store::{Authority, Extent, StoreError};
use forebay_types::{ContentKey, ContentLocation, FsError, FsErrorKind, FsResult};
use std::ops::Range;
use std::sync::Arc;

/// Where the bytes of one location are looked for.
pub(crate) struct Here<'a> {
    pub(crate) extent: &'a Arc<Extent>,
    landed: &'a Transit,
    content: Option<ContentKey>,
}

impl<'a> Here<'a> {
    pub(crate) fn new(at: &ContentLocation, extent: &'a Arc<Extent>, landed: &'a Transit) -> Self {
        Self { extent, landed, content: content_of(at) }
    }

    /// The bytes of a range; `None` if a page is no longer here.
    pub(crate) async fn read(&self, range: &Range<u64>, place: &mut Place) -> FsResult<Option<Frame>> {
        if let Some(frame) = self.read_landed(range, place).await? {
            return Ok(Some(frame));
        }
        let frame = place.frame_of(range).await?;
        match self.extent.read(frame, range.start).await {
            Ok(frame) => Ok(Some(frame)),
            Err(StoreError::NotResident { .. } | StoreError::Gone(_) | StoreError::Corrupt { .. }) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// From memory, if all of it is there. What is written to here is another content than what landed.
    async fn read_landed(&self, range: &Range<u64>, place: &mut Place) -> FsResult<Option<Frame>> {
        let Some(content) = self.content else { return Ok(None) };
        if self.landed.is_empty() || self.extent.authority() != Authority::Origin {
            return Ok(None);
        }
        let Some(bodies) = self.landed.take_all(content, range) else { return Ok(None) };
        let mut frame = place.frame_of(range).await?;
        let mut filled = 0;
        for body in bodies {
            let from = range.start + filled as u64;
            let to = body.range().end.min(range.end);
            let bytes = body.slice(from..to).expect("the queue gave it for the byte at `from`");
            frame[filled..filled + bytes.len()].copy_from_slice(bytes);
            filled += bytes.len();
        }
        self.extent.touch(range.start);
        Ok(Some(frame))
    }
}

/// Where the bytes of a read go.
#[derive(Default)]
pub(crate) struct Place(Option<Frame>);

impl Place {
    /// Into `wanted`, if it is given and long enough.
    pub(crate) fn new(wanted: Option<Frame>) -> Self {
        Self(wanted)
    }

    /// A frame of the length of a range: the wanted one the first time it is asked, then one of the arena.
    pub(crate) async fn frame_of(&mut self, range: &Range<u64>) -> FsResult<Frame> {
        let len = (range.end - range.start) as usize;
        if let Some(mut wanted) = self.0.take().filter(|frame| frame.capacity() >= len) {
            wanted.set_len(len);
            return Ok(wanted);
        }
        arena().frame(len).await.map_err(|e| FsError::new(FsErrorKind::Overloaded, e))
    }
}
