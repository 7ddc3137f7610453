//! Calls about attributes, links and extended attributes of an inode.

use crate::namespace::Namespace;
use crate::ops;
use crate::ops::attrs::{RESERVED_PREFIX, XattrMode};
use forebay_types::{Attr, Caller, FsErrorKind, FsResult, Ino, SetAttr};
use std::sync::Arc;
use std::time::Duration;

impl Namespace {
    /// The attributes of an inode, and how long they may be believed.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn attr(&self, ino: Ino) -> FsResult<(Attr, Duration)> {
        let inode = self.inode(ino).await?;
        self.refresh_root(&inode).await?;
        let entry = self.entry(&inode)?;
        Ok((entry.attr, entry.attr_ttl))
    }

    /// As [`Namespace::attr`], if that is known: nobody is asked and nothing waited for.
    pub fn attr_now(&self, ino: Ino) -> Option<(Attr, Duration)> {
        let inode = self.shared.table.get(ino)?;
        let known = self.needs_no_refresh(&inode, &inode.record(), self.shared.now_ms());
        let entry = known.ok().filter(|known| *known).and_then(|_| self.entry(&inode).ok())?;
        Some((entry.attr, entry.attr_ttl))
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// `Invalid` if it is none.
    pub async fn readlink(&self, ino: Ino) -> FsResult<Box<[u8]>> {
        let record = self.inode(ino).await?.record();
        record.link_target.clone().ok_or_else(|| FsErrorKind::Invalid.into())
    }

    /// Changes attributes. A new size changes the record only: the bytes are the caller's.
    ///
    /// # Errors
    /// `IsADirectory` or `Invalid` for the size of what has none, `FileTooLarge`, `ReadOnly`.
    pub async fn set_attr(&self, _caller: &Caller, ino: Ino, change: SetAttr) -> FsResult<Attr> {
        self.mutate(move |txn| ops::attrs::set_attr(txn, ino, change)).await?;
        Ok(self.inode(ino).await?.attr())
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `Exists` or `NoAttribute` as `mode` says; `OutOfRange` and `FileTooLarge` past the limits of Linux;
    /// `NotPermitted` for a name that is Forebay's own; `NoSpace` past 256 KiB for all of one inode.
    pub async fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> FsResult<()> {
        let (name, value): (Arc<[u8]>, Arc<[u8]>) = (name.into(), value.into());
        self.mutate(move |txn| ops::attrs::set_xattr(txn, ino, &name, &value, mode)).await
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub async fn get_xattr(&self, ino: Ino, name: &[u8]) -> FsResult<Box<[u8]>> {
        let inode = self.inode(ino).await?;
        let record = inode.record();
        record.xattr(name).map(Into::into).ok_or_else(|| FsErrorKind::NoAttribute.into())
    }

    /// As [`Namespace::get_xattr`], if the inode is in memory.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub fn get_xattr_now(&self, ino: Ino, name: &[u8]) -> Option<FsResult<Box<[u8]>>> {
        let record = self.shared.table.get(ino)?.record();
        Some(record.xattr(name).map(Into::into).ok_or_else(|| FsErrorKind::NoAttribute.into()))
    }

    /// The names of all extended attributes that were set.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn list_xattr(&self, ino: Ino) -> FsResult<Vec<Box<[u8]>>> {
        let record = self.inode(ino).await?.record();
        let own = |name: &[u8]| !name.starts_with(RESERVED_PREFIX);
        Ok(record.xattrs.iter().map(|(name, _)| name.clone()).filter(|name| own(name)).collect())
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotPermitted` for a name that is Forebay's own.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        let name: Arc<[u8]> = name.into();
        self.mutate(move |txn| ops::attrs::remove_xattr(txn, ino, &name)).await
    }
}
