//! Putting a file: up in parts, in page order, thrown away if it changed meanwhile.

use super::carry::{Carried, Stop};
use super::source::{Sent, Source, is_same};
use super::{Engine, SHORT_LEN_MAX};
use crate::body::Room;
use crate::counters::add;
use bytes::Bytes;
use forebay_store::{Extent, FileStat};
use forebay_types::{ContentLocation, FsErrorKind, UfsAttr, UfsKey, UfsVersion};
use forebay_ufs::{PutSpec, Ufs, UfsError, UfsResult, Upload};
use futures_util::future::{Fuse, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::pin::pin;
use std::sync::Arc;
use tokio::time::timeout;

/// A put that reached the store.
pub(super) struct Put {
    pub(super) version: UfsVersion,
    pub(super) sent: Sent,
}

/// What is read, and what its file looked like before that.
pub(super) type Before = (Arc<Extent>, FileStat);

impl Engine {
    pub(super) async fn put(
        &self,
        ufs: &Arc<dyn Ufs>,
        content: &ContentLocation,
        to: &UfsKey,
        spec: PutSpec,
        attr: &UfsAttr,
    ) -> Result<Carried, Stop> {
        match self.upload(ufs, content, to, spec).await {
            Ok(put) => self.carried(ufs, content, to, attr, put).await,
            Err(Stop::Theirs) => match self.is_there_already(ufs, content, to).await? {
                Some((there, sent)) => {
                    let extent = content.extent.map(|id| (id, sent));
                    Ok(Carried { attr: Some(there), extent })
                }
                None => Err(Stop::Theirs),
            },
            Err(stop) => Err(stop),
        }
    }

    async fn carried(
        &self,
        ufs: &Arc<dyn Ufs>,
        content: &ContentLocation,
        to: &UfsKey,
        attr: &UfsAttr,
        put: Put,
    ) -> Result<Carried, Stop> {
        let held = ufs.capabilities();
        let whole = held.modes && held.owners && held.times;
        // What the store holds of the attributes it shows; what it does not hold only a look can tell.
        let shown = if whole { None } else { self.stat(ufs, to).await? };
        let now = shown.filter(|shown| shown.version == put.version).unwrap_or_else(|| attr.clone());
        let now = UfsAttr { version: put.version, size: content.size, ..now };
        Ok(Carried { attr: Some(now), extent: content.extent.map(|id| (id, put.sent)) })
    }

    /// Puts the bytes of `content` at `to`, as `spec` says.
    pub(super) async fn upload(
        &self,
        ufs: &Arc<dyn Ufs>,
        content: &ContentLocation,
        to: &UfsKey,
        spec: PutSpec,
    ) -> Result<Put, Stop> {
        let long = content.size > SHORT_LEN_MAX.as_u64();
        // Those who have such a turn end in time, and it is never closed.
        let _turn = if long { self.long_turns.acquire().await.ok() } else { None };
        let (source, before) = self.open_source(content).await?;
        if source.len() != content.size {
            // It is being written, or, if that stays so, its bytes are not those that the name space means.
            return Err(Stop::Failed(format!(
                "{to}: {} bytes are here and {} should be",
                source.len(),
                content.size
            )));
        }
        let (store, key) = (Arc::clone(ufs), to.clone());
        let mut upload = self.ask(async move { store.begin_put(&key, &spec).await }).await?;
        let sent = self.send_parts(upload.as_ref(), source, before.as_ref()).await;
        // A single part may be in memory until the upload has finished.
        let (source, _room) = match sent.and_then(|sent| still_same(before.as_ref()).map(|()| sent)) {
            Ok(sent) => sent,
            Err(stop) => {
                self.throw_away(upload).await;
                return Err(stop);
            }
        };
        let finished = timeout(self.config.part_within, self.finish(upload.as_mut())).await;
        match finished {
            Ok(Ok(version)) => Ok(Put { version, sent: source.into_sent() }),
            Ok(Err(error)) => {
                self.throw_away(upload).await;
                Err(error.into())
            }
            Err(_) => Err(Stop::Failed(format!("{to}: the upload did not finish in time"))),
        }
    }

    /// The file to read, wholly here if it can be: what is absent of it moves the extent file's times when it is
    /// fetched, which must not look like a change.
    pub(super) async fn open_source(
        &self,
        content: &ContentLocation,
    ) -> Result<(Source, Option<Before>), Stop> {
        let (worker, content) = (Arc::clone(&self.worker), content.clone());
        let opened = self.shard().call(move || async move {
            let extent = worker.find_extent(&content)?;
            let Some(extent) = extent.filter(|_| content.extent.is_some()) else {
                let page_size = worker.store.config().page_size;
                let len = content.size;
                return Ok((Source::new(worker, content, page_size, (len, 0)), None));
            };
            if !extent.is_complete() {
                match worker.complete(&content, 0..extent.len()).await {
                    // A full tier passes bytes on: they can be read all the same.
                    Err(error) if error.kind() != FsErrorKind::NoSpace => return Err(error),
                    _ => {}
                }
            }
            let writers = extent.writers();
            let before = extent.stat()?;
            if before.len != content.size && worker.sessions.get(extent.id()).is_some() {
                // A writer has it open again.
                return Err(FsErrorKind::Stale.into());
            }
            let source = Source::new(worker, content, extent.page_size(), (before.len, writers));
            Ok((source, Some((extent, before))))
        });
        let (source, before) =
            opened.await.map_err(|e| Stop::Failed(e.to_string()))?.map_err(gone_is_changed)?;
        Ok((source, before))
    }

    /// Reads part after part while those before are on their way. What changes meanwhile is given up with the next part,
    /// not at the end: the rest would be sent for nothing, at the cost of who writes.
    async fn send_parts(
        &self,
        upload: &dyn Upload,
        source: Source,
        before: Option<&Before>,
    ) -> Result<(Source, Option<Room>), Stop> {
        let (part_len, len) = (upload.part_len(), source.len());
        let mut sending = FuturesUnordered::new();
        let (mut next_index, mut kept) = (0, None);
        let mut reading = pin!(Fuse::terminated());
        let mut source = Some(source);
        loop {
            if let Some(rest) = source.take() {
                if next_index == len.div_ceil(part_len) {
                    while let Some(sent) = sending.next().await {
                        kept = Some(sent?).filter(|_| len <= part_len);
                    }
                    return Ok((rest, kept));
                }
                let this_len = part_len.min(len - next_index * part_len) as usize;
                reading.set(self.read_in_room(rest, this_len).fuse());
            }
            tokio::select! {
                read = &mut reading, if sending.len() < self.config.parts_at_once.max(1) => {
                    let (rest, bytes, room) = read?;
                    still_same(before)?;
                    sending.push(self.send_part(upload, next_index, bytes, room));
                    next_index += 1;
                    source = Some(rest);
                }
                Some(sent) = sending.next() => kept = Some(sent?).filter(|_| len <= part_len),
            }
        }
    }

    /// Yields the room that the part took.
    async fn send_part(
        &self,
        upload: &dyn Upload,
        index: u64,
        bytes: Bytes,
        room: Room,
    ) -> Result<Room, Stop> {
        let sent = timeout(self.config.part_within, upload.part(index, bytes)).await;
        add(&self.counters.parts, 1);
        sent.map_err(|_| Stop::Failed(format!("part {index} was not taken in time")))??;
        Ok(room)
    }

    /// The next part, once there is memory for it.
    async fn read_in_room(&self, source: Source, len: usize) -> Result<(Source, Bytes, Room), Stop> {
        let room = self.memory.take(len, self.config.part_within).await?;
        let (source, bytes) = self.read_part(source, len).await?;
        Ok((source, bytes, room))
    }

    /// Reads on a shard. The source travels there and back.
    pub(super) async fn read_part(&self, mut source: Source, len: usize) -> Result<(Source, Bytes), Stop> {
        let read = self.shard().call(move || async move {
            let part = source.next_part(len).await;
            part.map(|part| (source, part))
        });
        let read = read.await.map_err(|e| Stop::Failed(e.to_string()))?;
        read.map(|(source, part)| (source, Bytes::from(part))).map_err(gone_is_changed)
    }

    /// A finish that may pass is repeated: the store finds out by itself whether the first one took effect.
    async fn finish(&self, upload: &mut dyn Upload) -> UfsResult<UfsVersion> {
        let mut tries = 0;
        loop {
            match upload.finish().await {
                Err(error) if error.is_transient() && tries < FINISH_RETRIES => tries += 1,
                other => return other,
            }
            tokio::time::sleep(FINISH_PAUSE * tries).await;
        }
    }

    /// An upload that cannot be taken back lingers until the store's own clean-up; dropping it tries once more.
    async fn throw_away(&self, mut upload: Box<dyn Upload>) {
        match timeout(self.config.call_within, upload.abort()).await {
            Ok(Ok(())) | Ok(Err(UfsError::NotFound(_))) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an upload was not taken back"),
            Err(_) => tracing::warn!("an upload was not taken back in time"),
        }
    }
}

/// Times a finish is repeated, and the pause that grows with each.
const FINISH_RETRIES: u32 = 3;
const FINISH_PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// A file that is gone, or shorter, was changed: the log knows by what.
fn gone_is_changed(error: forebay_types::FsError) -> Stop {
    if error.kind() == FsErrorKind::Stale { Stop::Changed } else { error.into() }
}

fn still_same(before: Option<&Before>) -> Result<(), Stop> {
    let Some((extent, before)) = before else { return Ok(()) };
    let after = extent.stat().map_err(|e| Stop::Failed(e.to_string()))?;
    if is_same(before, &after) { Ok(()) } else { Err(Stop::Changed) }
}
