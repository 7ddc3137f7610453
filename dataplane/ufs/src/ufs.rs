//! The trait every under file system stands behind, and the words it speaks.
//!
//! Owns the contract: what each call promises, whichever store answers. It holds no state and does no I/O;
//! adapters and layers implement it, the worker calls it, and the conformance suite holds every adapter to it.

use crate::error::{UfsError, UfsResult};
use crate::layers::UfsStats;
use async_trait::async_trait;
use bytes::Bytes;
#[cfg(doc)]
use forebay_types::Told;
use forebay_types::{DirPage, DirPageEntry, PageToken, TimeSpec, UfsAttr, UfsKey, UfsVersion};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What should be at a key before a call changes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Expect {
    /// Whatever is there, or nothing.
    #[default]
    Any,
    /// Nothing; else [`UfsError::Exists`].
    Absent,
    /// Just this version; else [`UfsError::Changed`].
    Version(UfsVersion),
}

impl Expect {
    /// Checks what was found (`None`: nothing) against what was expected.
    ///
    /// # Errors
    /// [`UfsError::Exists`] or [`UfsError::Changed`].
    pub fn check(&self, key: &UfsKey, found: Option<&UfsVersion>) -> UfsResult<()> {
        match (self, found) {
            (Self::Any, _) | (Self::Absent, None) => Ok(()),
            (Self::Absent, Some(_)) => Err(UfsError::Exists(key.clone())),
            (Self::Version(expected), Some(found)) if expected == found => Ok(()),
            (Self::Version(_), _) => Err(UfsError::Changed(key.clone())),
        }
    }
}

impl From<Option<UfsVersion>> for Expect {
    /// What the persist log says should be there: a version, or nothing.
    fn from(version: Option<UfsVersion>) -> Self {
        version.map_or(Self::Absent, Self::Version)
    }
}

/// The attributes a new file or directory gets. What is `None`, or what the store cannot hold, is left to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PutAttrs {
    /// Permission bits, 0 to 0o7777. `None`: those of the file that is replaced, else the store's default.
    pub mode: Option<u16>,
    /// Owner and group. `None`: those of the file that is replaced, else who we run as.
    pub owner: Option<(u32, u32)>,
    /// Time of last change of content. `None`: the time of the put.
    pub mtime: Option<TimeSpec>,
}

impl From<&UfsAttr> for PutAttrs {
    fn from(attr: &UfsAttr) -> Self {
        Self { mode: attr.mode, owner: attr.owner, mtime: Some(attr.mtime) }
    }
}

/// A change of attributes without content; what is `None` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttrChange {
    /// New permission bits.
    pub mode: Option<u16>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New time of last read.
    pub atime: Option<TimeSpec>,
    /// New time of last change of content.
    pub mtime: Option<TimeSpec>,
}

/// A put about to begin.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutSpec {
    /// The exact length of the content in bytes.
    pub len: u64,
    /// The attributes it gets.
    pub attrs: PutAttrs,
    /// What should be at the key when the upload finishes.
    pub expect: Expect,
    /// How long what was seen of other names may be believed. Where no store refuses a file because a directory has its name,
    /// what was seen so lately to be no directory is not looked at once more. Zero: nothing is believed.
    pub believed: Duration,
}

/// How a store keeps a put from replacing what it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalPut {
    /// The store compares and replaces in one step.
    Atomic,
    /// We compare just before we replace: another client may come between. Puts of this process never do.
    CheckedBefore,
}

/// What a store can do and hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Permission bits come with a put.
    pub modes: bool,
    /// Owner and group come with a put.
    pub owners: bool,
    /// The time of last change comes with a put. Without it a stat shows when the put was done.
    pub times: bool,
    /// [`Ufs::set_attr`] works: attributes change without the content being put again.
    pub set_attr: bool,
    /// [`Ufs::symlink`] works.
    pub symlinks: bool,
    /// [`Ufs::hard_link`] works.
    pub hard_links: bool,
    /// A directory with nothing in it stays.
    pub empty_dirs: bool,
    /// A file can only be put into a directory that exists. Without it, directories appear with what is in them.
    pub parents_needed: bool,
    /// How [`PutSpec::expect`] is kept.
    pub conditional_put: ConditionalPut,
    /// [`Ufs::rename`] works, for files and directories, in one step.
    pub rename: bool,
    /// Listings carry all attributes ([`Told::All`]). Without it an entry may have no mode, owner and time of last change,
    /// and what is empty may be left open ([`Told::FileOrLink`]).
    pub list_attrs: bool,
    /// [`Ufs::copy`] works: the store copies by itself.
    pub copy: bool,
    /// Names that are not UTF-8 can be held.
    pub any_bytes: bool,
    /// The longest key in bytes, the mount's own prefix not counted.
    pub key_len_max: usize,
    /// The longest file in bytes.
    pub file_len_max: u64,
}

/// A page of a listing. A listing that failed or stopped short is an error, never a short page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The entries, each name once over all pages, in the adapter's own order.
    pub entries: Vec<DirPageEntry>,
    /// Where to go on; `None` after the last page. A page may be empty and still have a next one.
    pub next: Option<PageToken>,
    /// How many names of this page were left out because no file can be named so here.
    pub left_out: u64,
}

impl From<ListPage> for DirPage {
    fn from(page: ListPage) -> Self {
        Self { entries: page.entries, next: page.next }
    }
}

/// The room in a store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What we may still fill.
    pub available: u64,
}

/// A put in progress. Its content appears at the key all at once when [`Upload::finish`] succeeds, or never.
///
/// Dropping it without a successful `finish` aborts it: nothing of it stays in the store, though the cleaning
/// up may happen a little later.
#[async_trait]
pub trait Upload: Send + Sync {
    /// The length of every part but the last, in bytes. Fixed for this upload; never 0.
    fn part_len(&self) -> u64;

    /// Sends part `index`, which holds the bytes from `index * part_len()`. Parts may come in any order and
    /// several at once. A part may be sent again with the same bytes, whether it failed or not.
    ///
    /// # Errors
    /// [`UfsError::Invalid`] unless the part has just the length that its place calls for.
    async fn part(&self, index: u64, bytes: Bytes) -> UfsResult<()>;

    /// Makes the content appear at the key, durably, if what is there is what was expected. Returns its version.
    ///
    /// After a transient error it may be called again: the adapter then finds out whether the earlier call had
    /// taken effect before it does anything.
    ///
    /// # Errors
    /// [`UfsError::Exists`] or [`UfsError::Changed`] if the expectation failed; [`UfsError::Invalid`] if a part
    /// is missing. Nothing at the key has changed then.
    async fn finish(&mut self) -> UfsResult<UfsVersion>;

    /// Takes back all that was sent, and returns when it is gone.
    ///
    /// # Errors
    /// What was sent may then linger until the store's own clean-up.
    async fn abort(&mut self) -> UfsResult<()>;
}

/// An under file system: a tree of files in durable storage.
///
/// Object-safe, shared by reference, called on a tokio runtime. Keys are relative to the root that was opened.
/// A future dropped half-way leaves the store as if the call had succeeded or had not been made.
#[async_trait]
pub trait Ufs: Send + Sync + fmt::Debug + 'static {
    /// How people name this store, without credentials: `s3://bucket/prefix`, `/srv/data`.
    fn name(&self) -> &str;

    /// What the store can do and hold.
    fn capabilities(&self) -> &Capabilities;

    /// The counters of what was asked of the store; `None` for a bare adapter, which counts nothing.
    fn stats(&self) -> Option<Arc<UfsStats>> {
        None
    }

    /// What is at `key`; `None` if there is nothing. Never follows a symbolic link.
    async fn stat(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>>;

    /// What is at a key that a listing has just shown as [`Told::FileOrLink`]; `None` if nothing is any more. Since that is
    /// no directory it may cost less than a stat.
    async fn stat_listed(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        self.stat(key).await
    }

    /// A page of the directory `dir`: at most `limit` entries (at least 1), from where `from` says.
    ///
    /// Entries that come or go during the listing may or may not be in it; all others are in it just once.
    ///
    /// # Errors
    /// [`UfsError::NotFound`], [`UfsError::NotADirectory`]; [`UfsError::Invalid`] for a token of another maker.
    async fn list(&self, dir: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage>;

    /// Reads the bytes from `offset` of just this version into `buf`. Returns how many: fewer than `buf.len()`
    /// only at the end of the file.
    ///
    /// # Errors
    /// [`UfsError::Changed`] if the content is no longer that version; what is in `buf` is then worthless.
    async fn read(&self, key: &UfsKey, version: &UfsVersion, offset: u64, buf: &mut [u8])
    -> UfsResult<usize>;

    /// Begins to put a file.
    ///
    /// # Errors
    /// [`UfsError::Unpersistable`] if no file can have this key here, [`UfsError::TooLarge`] for its length;
    /// the expectation may fail already here, but is settled by [`Upload::finish`].
    async fn begin_put(&self, key: &UfsKey, spec: &PutSpec) -> UfsResult<Box<dyn Upload>>;

    /// Takes away a file or symbolic link, durably.
    ///
    /// # Errors
    /// [`UfsError::NotFound`] if it is gone, [`UfsError::IsADirectory`], [`UfsError::Changed`].
    async fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()>;

    /// Makes a directory, durably.
    ///
    /// # Errors
    /// [`UfsError::Exists`] if anything has that name.
    async fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()>;

    /// Takes away an empty directory, durably.
    ///
    /// # Errors
    /// [`UfsError::NotEmpty`], [`UfsError::NotFound`], [`UfsError::NotADirectory`].
    async fn rmdir(&self, key: &UfsKey) -> UfsResult<()>;

    /// Renames a file or a directory in one step, replacing what is at `to` as `rename(2)` does. Returns the
    /// version under the new name. `from_expect` and `to_expect` say what should be at either key.
    ///
    /// # Errors
    /// [`UfsError::Unsupported`] without [`Capabilities::rename`].
    async fn rename(&self, from: (&UfsKey, &Expect), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let _ = (from, to);
        Err(UfsError::Unsupported("rename"))
    }

    /// Copies a version of a file to another key within the store. Returns the copy's version.
    ///
    /// # Errors
    /// [`UfsError::Unsupported`] without [`Capabilities::copy`]; [`UfsError::Changed`] if `from` is no longer
    /// `version`.
    async fn copy(&self, from: (&UfsKey, &UfsVersion), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let _ = (from, to);
        Err(UfsError::Unsupported("copy"))
    }

    /// Gives a file a second name, replacing a file or link there in one step if it is as expected. Returns the version,
    /// which both names have from then on.
    ///
    /// # Errors
    /// [`UfsError::Unsupported`] without [`Capabilities::hard_links`].
    async fn hard_link(&self, key: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let _ = (key, to);
        Err(UfsError::Unsupported("hard link"))
    }

    /// Makes a symbolic link at `key`, replacing a file or link there if it is as expected.
    ///
    /// # Errors
    /// [`UfsError::Unsupported`] without [`Capabilities::symlinks`].
    async fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        let _ = (key, target, attrs, expect);
        Err(UfsError::Unsupported("symbolic link"))
    }

    /// Changes attributes without content. Returns the version afterwards, which may be another one.
    ///
    /// # Errors
    /// [`UfsError::Unsupported`] without [`Capabilities::set_attr`].
    async fn set_attr(&self, key: &UfsKey, change: &AttrChange, expect: &Expect) -> UfsResult<UfsVersion> {
        let _ = (key, change, expect);
        Err(UfsError::Unsupported("change of attributes"))
    }

    /// Takes away what puts of `key` left behind that were cut short by the death of their process, as far as the
    /// store shows it. Puts under way in this process are spared.
    ///
    /// # Errors
    /// What is left is then swept by whoever comes by.
    async fn sweep(&self, key: &UfsKey) -> UfsResult<()> {
        let _ = key;
        Ok(())
    }

    /// Makes durable that something has the name `key`, or that nothing has it, as it is now. For whoever finds a change
    /// that the process which made it may not have lived to sync.
    ///
    /// # Errors
    /// A power loss may bring back what was there before.
    async fn sync_name(&self, key: &UfsKey) -> UfsResult<()> {
        let _ = key;
        Ok(())
    }

    /// The room in the store; `None` where it has no such notion.
    async fn space(&self) -> UfsResult<Option<Space>> {
        Ok(None)
    }
}
