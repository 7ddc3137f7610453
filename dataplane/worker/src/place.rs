//! From a location to an extent.
//!
//! **Owns** the rule by which bytes are found: what was written here by the location's extent id, what is clean
//! by its content key; and the birth of an extent for a content that is wanted, once for all who want it.

use crate::Worker;
use crate::fetch::{Origin, Target};
use crate::flight::{FlightKey, Subject};
use forebay_store::{Extent, ExtentSpec, Held, Hold, StoreError};
use forebay_types::{ContentKey, ContentLocation, FsError, FsErrorKind, FsResult, PageIndex};
use std::sync::Arc;
use std::time::Duration;

/// What is to be done about a content that has no extent yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It gets one.
    Yes,
    /// Its bytes are passed on.
    No,
}

/// The content key of a location that the under file system has.
pub(crate) fn content_of(at: &ContentLocation) -> Option<ContentKey> {
    at.ufs.as_ref().map(|(key, version)| ContentKey::of(at.mount, key, version))
}

impl Target {
    /// What others who want the same page look for.
    pub(crate) fn flight_key(&self, page: PageIndex) -> FlightKey {
        let subject = match &self.extent {
            Some(extent) => Subject::Extent(extent.id()),
            None => Subject::Passing(self.origin.content),
        };
        FlightKey { subject, page }
    }
}

/// How often an extent that is being moved or evicted is looked at again, and how long apart.
pub(crate) const BUSY_LOOKS: usize = 200;
pub(crate) const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Keeps an extent where it is, after the move or eviction that may be under way.
///
/// # Errors
/// `Stale` if it went meanwhile; `Busy` if it does not end.
pub(crate) async fn hold_soon(extent: &Arc<Extent>, kind: Hold) -> FsResult<Held> {
    for _ in 0..BUSY_LOOKS {
        match extent.hold(kind) {
            Err(StoreError::Busy { .. }) => forebay_shard::sleep(BUSY_PAUSE).await,
            other => return Ok(other?),
        }
    }
    Err(FsError::new(FsErrorKind::Busy, "the file's extent was in use for too long"))
}

impl Worker {
    /// The extent of a location, if there is one. Waits for nothing.
    ///
    /// # Errors
    /// `Stale` if the location names an extent that is gone: it was carried to the under file system and evicted
    /// since, or it is lost. Looking up the location again tells.
    pub(crate) fn find_extent(&self, at: &ContentLocation) -> FsResult<Option<Arc<Extent>>> {
        match at.extent {
            Some(id) => self.extent(id).map(Some),
            None => Ok(content_of(at).and_then(|content| self.find_content(content))),
        }
    }

    fn find_content(&self, content: ContentKey) -> Option<Arc<Extent>> {
        let known = || self.store.find(&content);
        let returning = || self.store.get(self.sessions.returning(content)?);
        // Once more at the end: whatever else it was found by ends when the store knows it.
        known().or_else(returning).or_else(|| self.find_carried(content)).or_else(known)
    }

    /// What was just carried is this content unless somebody has begun to write since.
    fn find_carried(&self, content: ContentKey) -> Option<Arc<Extent>> {
        let (id, writers) = self.sessions.just_carried(content)?;
        self.store.get(id).filter(|extent| extent.writers() == writers)
    }

    pub(crate) fn extent(&self, id: forebay_types::ExtentId) -> FsResult<Arc<Extent>> {
        let gone = || FsError::new(FsErrorKind::Stale, format!("extent {id} is not here"));
        self.store.get(id).ok_or_else(gone)
    }

    /// How many bytes a location has: its extent file says so where it is written here.
    pub(crate) fn length(at: &ContentLocation, extent: Option<&Arc<Extent>>) -> u64 {
        match (at.extent, extent) {
            (Some(_), Some(extent)) => extent.len(),
            _ => at.size,
        }
    }

    /// Where the absent bytes of a location come from and go to; `None` if it has nothing in the under file
    /// system.
    pub(crate) async fn target(&self, at: &ContentLocation, keep: Keep) -> FsResult<Option<Target>> {
        let Some((key, version)) = &at.ufs else { return Ok(None) };
        let content = ContentKey::of(at.mount, key, version);
        let extent = match (self.find_extent(at)?, keep) {
            (None, Keep::Yes) => self.born(content, at.size).await?,
            (found, _) => found,
        };
        let page_size = extent.as_ref().map_or(self.store.config().page_size, |extent| extent.page_size());
        let len = match (&extent, at.extent) {
            (Some(extent), Some(_)) => extent.origin_len(),
            _ => at.size,
        };
        let ufs = self.ufs.get(at.mount)?;
        let origin = Arc::new(Origin { ufs, key: key.clone(), version: version.clone(), content });
        Ok(Some(Target { origin, extent, page_size, len }))
    }

    /// An extent for a content of `len` bytes; `None` if the tiers are full. Whoever comes at the same time gets
    /// the same one: the store gives a key to the first.
    async fn born(&self, content: ContentKey, len: u64) -> FsResult<Option<Arc<Extent>>> {
        match self.store.create(ExtentSpec::fetched(content, len)).await {
            Ok(extent) => Ok(Some(extent)),
            Err(StoreError::NoSpace { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
