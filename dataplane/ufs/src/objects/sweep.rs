//! Multipart uploads that nobody will complete.
//!
//! **Owns** the list of uploads that this process has under way, and the removal of those of a key that are not on it: a
//! process that dies leaves its parts in the store, where they cost money and no listing of objects shows them. The
//! caller knows that no other node puts to the key. Azure needs none of this: it drops uncommitted blocks by itself.

use super::client::ClientResult;
use super::tree::Shared;
use parking_lot::Mutex;
use std::collections::HashSet;

/// Multipart uploads of this process, from their beginning to their end.
#[derive(Debug, Default)]
pub(super) struct Underway(Mutex<HashSet<String>>);

impl Underway {
    pub(super) fn begun(&self, upload: &str) {
        self.0.lock().insert(upload.to_owned());
    }

    pub(super) fn ended(&self, upload: &str) {
        self.0.lock().remove(upload);
    }

    fn has(&self, upload: &str) -> bool {
        self.0.lock().contains(upload)
    }
}

/// Takes away the uploads of an object that are not of this process.
pub(super) async fn sweep(shared: &Shared, object: &str) -> ClientResult<()> {
    for upload in shared.client.uploads_of(object).await? {
        if !shared.underway.has(&upload) {
            tracing::info!(object, upload, "a multipart upload that was cut short is taken away");
            shared.client.abort_parts(object, &upload).await?;
        }
    }
    Ok(())
}
