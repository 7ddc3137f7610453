//! MetaStore: the ordered, transactional key-value engine under the homes of the name space.
//!
//! **Owns** the trait every engine implements ([`MetaStore`]), the embedded engine ([`LmdbStore`]), and the
//! suite that every engine passes ([`conformance`]).
//!
//! **Never does** anything that knows what a key means: inodes, dentries and queues are the name space's.
//! Never called by a shard: a read may fault a page in from the disk, a commit waits for it.
//!
//! **How data comes in and leaves:** as bytes. Reads are snapshots that last one call, because a reader that
//! stays pins every page that is freed after it. Writes come as one [`Batch`] with its preconditions; when
//! [`MetaStore::commit`] returns, the batch is durable whole, or nothing of it happened.
//!
//! **Why this shape:** the name space needs gets, short ordered scans and atomic batches, and nothing else;
//! a surface as small as that fits an embedded engine and a distributed one alike. The calls block, because
//! the home's own threads are their only callers.
#![deny(unsafe_code)]

mod batch;
pub mod conformance;
mod error;
mod lmdb;

pub use batch::{Batch, Change, Precondition};
pub use error::MetaError;
pub use lmdb::{LmdbOptions, LmdbStore};

/// The longest key in bytes. LMDB's bound as it is built by default, which no other engine undercuts.
pub const KEY_LEN_MAX: usize = 511;

/// A key with its value.
pub type KeyValue = (Box<[u8]>, Box<[u8]>);

/// An ordered, transactional key-value store. Keys order as bytes do.
pub trait MetaStore: Send + Sync + 'static {
    /// The value of `key`.
    ///
    /// # Errors
    /// [`MetaError::Corrupt`] if the value fails its checksum; [`MetaError::Storage`] if it cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Box<[u8]>>, MetaError>;

    /// The values of `keys`, in their order, all from one snapshot.
    ///
    /// # Errors
    /// As [`MetaStore::get`].
    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Box<[u8]>>>, MetaError>;

    /// Shows the first `limit` entries with `from <= key < until`, in key order, all from one snapshot. `each` must be quick
    /// and call nothing of the store: the snapshot lasts as long.
    ///
    /// # Errors
    /// As [`MetaStore::get`]; what was shown before that is right.
    fn visit(
        &self,
        from: &[u8],
        until: &[u8],
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), MetaError>;

    /// What [`MetaStore::visit`] shows.
    ///
    /// # Errors
    /// As [`MetaStore::get`].
    fn scan(&self, from: &[u8], until: &[u8], limit: usize) -> Result<Vec<KeyValue>, MetaError> {
        let mut entries = Vec::new();
        self.visit(from, until, limit, &mut |key, value| entries.push((key.into(), value.into())))?;
        Ok(entries)
    }

    /// Applies `batch` whole and durably, or not at all.
    ///
    /// # Errors
    /// [`MetaError::PreconditionFailed`] if the store holds something else than the batch expects;
    /// [`MetaError::NoSpace`] if the store or its disk is full; [`MetaError::InvalidKey`] for a key that is
    /// empty or too long.
    fn commit(&self, batch: &Batch) -> Result<(), MetaError>;
}
