//! Holes and copies: what is asked of whole ranges of a file, answered without moving bytes through the daemon.

use crate::Worker;
use crate::place::hold_soon;
use forebay_shard::blocking;
use forebay_store::{Authority, Extent, Hold};
use forebay_types::{ContentLocation, FsError, FsErrorKind, FsResult};
use forebay_wire::SeekTo;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

/// The most that one copy moves before it answers: a short answer is repeated by the caller, and a blocking
/// thread is not kept for minutes.
const COPY_MAX: u64 = 256 << 20;

impl Worker {
    /// The next data or hole at or after `offset`. A file that is not wholly here has no holes that we know of:
    /// those of its extent file only say what was not fetched yet.
    pub(crate) async fn seek(&self, at: &ContentLocation, offset: u64, to: SeekTo) -> FsResult<u64> {
        let extent = self.find_extent(at)?;
        let len = Self::length(at, extent.as_ref());
        if offset >= len {
            return Err(FsErrorKind::OutOfRange.into());
        }
        match extent {
            Some(extent) if extent.authority() == Authority::Here && extent.is_complete() => {
                seek_file(&extent, offset, to).await
            }
            Some(_) => Ok(if to == SeekTo::Data { offset } else { len }),
            None if at.ufs.is_some() => Ok(if to == SeekTo::Data { offset } else { len }),
            // No bytes anywhere: it is one hole.
            None if to == SeekTo::Hole => Ok(offset),
            None => Err(FsErrorKind::OutOfRange.into()),
        }
    }

    /// Copies a range between two files that are wholly here.
    pub(crate) async fn copy_range(
        &self,
        from: (&ContentLocation, u64),
        to: (&ContentLocation, u64),
        len: u64,
    ) -> FsResult<u64> {
        let unsupported = || FsError::from(FsErrorKind::Unsupported);
        let source = self.find_extent(from.0)?.ok_or_else(unsupported)?;
        let target = self.extent(to.0.extent.ok_or_else(unsupported)?)?;
        let here = source.is_complete()
            && !source.is_packed()
            && target.is_complete()
            && target.authority() == Authority::Here;
        if !here {
            return Err(unsupported());
        }
        let _both_stay = (hold_soon(&source, Hold::Filling).await?, hold_soon(&target, Hold::Filling).await?);
        let len = len.min(COPY_MAX).min(source.len().saturating_sub(from.1));
        drop(self.room_for(target.id(), len).await?);
        let alone = target.keep_writes_away().await;
        let copied = copy_files(&source, from.1, &target, to.1, len).await?;
        drop(alone);
        target.adopt()?;
        self.note_change(target.id());
        Ok(copied)
    }
}

async fn seek_file(extent: &Arc<Extent>, offset: u64, to: SeekTo) -> FsResult<u64> {
    let file = extent.file()?;
    let whence = match to {
        SeekTo::Data => SeekFrom::Data(offset),
        SeekTo::Hole => SeekFrom::Hole(offset),
    };
    // The position that this moves is nobody's: all other I/O names its offset.
    let found = blocking(move || rustix::fs::seek(file.std(), whence)).await;
    match found.map_err(|e| FsError::new(FsErrorKind::Overloaded, e))? {
        Ok(found) => Ok(found),
        Err(Errno::NXIO) => Err(FsErrorKind::OutOfRange.into()),
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}

async fn copy_files(
    source: &Arc<Extent>,
    from: u64,
    target: &Arc<Extent>,
    to: u64,
    len: u64,
) -> FsResult<u64> {
    let (source, target) = (source.file()?, target.file()?);
    let copied = blocking(move || copy_all(source.std(), from, target.std(), to, len)).await;
    match copied.map_err(|e| FsError::new(FsErrorKind::Overloaded, e))? {
        Ok(copied) => Ok(copied),
        // Between tiers, or on a file system that cannot: the caller copies through memory.
        Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
            Err(FsErrorKind::Unsupported.into())
        }
        Err(errno) => Err(io::Error::from(errno).into()),
    }
}

fn copy_all(
    source: &std::fs::File,
    mut from: u64,
    target: &std::fs::File,
    mut to: u64,
    len: u64,
) -> Result<u64, Errno> {
    let mut left = len;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX);
        let n = rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), piece)?;
        if n == 0 {
            break;
        }
        left -= n as u64;
    }
    Ok(len - left)
}
