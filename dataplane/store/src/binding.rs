//! Which contents an extent is found by, and whose its bytes are.
//!
//! **Owns** the change of an extent between clean (found by content keys, evictable) and ours (found by its id alone), in
//! index, memory and on disk together. **Never does** decide when: the worker binds what it carried, and unbinds before the
//! first write.

use crate::error::StoreError;
use crate::extent::{Authority, Extent};
use crate::guard::Hold;
use crate::store::Store;
use forebay_types::{ContentKey, ExtentId, PageChecksum};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Store {
    /// Has an extent found by one more key. An extent whose bytes were written here becomes clean by it: the under
    /// file system has these very bytes now. Its bytes are synced first, so this may take a sync's time. See
    /// [`Self::settle`].
    ///
    /// # Errors
    /// [`StoreError::Gone`], [`StoreError::Busy`], [`StoreError::Io`].
    pub async fn bind(&self, id: ExtentId, key: ContentKey) -> Result<(), StoreError> {
        self.settle(id, key, &[]).await
    }

    /// As [`Self::bind`], with the checksums of the pages, in order, as they were computed while the bytes were
    /// carried to the under file system. The caller has made sure that nobody wrote since.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn settle(
        &self,
        id: ExtentId,
        key: ContentKey,
        checksums: &[PageChecksum],
    ) -> Result<(), StoreError> {
        let extent = self.get(id).ok_or(StoreError::Gone(id))?;
        let _held = extent.hold(Hold::Filling)?;
        {
            let mut keys = extent.keys_mut();
            keys.retain(|known| *known != key);
            keys.push(key);
            let print = crate::room::print_of(keys[0]);
            extent.print.store(print, Ordering::Release);
        }
        if extent.authority() == Authority::Here {
            extent.settle(checksums).await?;
        } else {
            extent.sidecar.note_header();
            extent.flush_sidecar().await?;
        }
        self.point_key_at(key, &extent);
        extent.tier().note_packable(&extent);
        extent.tier().evictor.admit(&extent);
        Ok(())
    }

    /// Has an extent found by these keys again, after a writer that changed nothing took them away.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn rebind(&self, id: ExtentId, keys: &[ContentKey]) -> Result<(), StoreError> {
        for key in keys {
            self.bind(id, *key).await?;
        }
        Ok(())
    }

    /// The newest binding of a key counts; an extent that is found by nothing any more goes.
    fn point_key_at(&self, key: ContentKey, extent: &Arc<Extent>) {
        let before = self.table().bind(key, extent.id()).filter(|before| *before != extent.id());
        let Some(old) = before.and_then(|before| self.get(before)) else { return };
        let mut keys = old.keys_mut();
        keys.retain(|known| *known != key);
        let orphaned = keys.is_empty() && old.authority() == Authority::Origin;
        drop(keys);
        if orphaned {
            self.end(&old);
        }
    }

    /// Has an extent found by no key any more and makes us the authority for its bytes, durably. Goes before any
    /// write to it, by us or by the kernel through a passthrough handle.
    ///
    /// # Errors
    /// [`StoreError::Gone`], [`StoreError::Busy`], [`StoreError::Io`].
    pub async fn unbind_all(self: &Arc<Self>, id: ExtentId) -> Result<(), StoreError> {
        let extent = self.settle_on_disk(self.get(id).ok_or(StoreError::Gone(id))?).await?;
        let _held = extent.hold(Hold::Filling)?;
        if extent.is_packed() && extent.needs_verify() {
            // Once they are ours nobody compares its bytes any more.
            extent.verify().await?;
        }
        if extent.authority() == Authority::Origin {
            self.end_copies(&extent).await?;
        }
        extent.tier().evictor.forget(&extent);
        for key in std::mem::take(&mut *extent.keys_mut()) {
            self.table().unbind(key, id);
        }
        if let Err(error) = extent.become_authority().await {
            // Found by nothing, written by nobody, and the under file system has all of it.
            self.end(&extent);
            return Err(error);
        }
        extent.print.store(0, Ordering::Release);
        Ok(())
    }
}
