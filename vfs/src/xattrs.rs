//! Extended attributes, and the ones that Forebay itself answers.
//!
//! `user.forebay.*` is reserved: it shows what Forebay knows of a file and cannot be set.

use crate::Vfs;
use crate::types::XattrSetMode;
use forebay_types::limits::{XATTR_NAME_LEN_MAX, XATTR_VALUE_LEN_MAX};
use forebay_types::{FsError, FsErrorKind, FsResult, Ino};

const RESERVED_PREFIX: &[u8] = b"user.forebay.";
const STATE: &[u8] = b"user.forebay.state";

impl Vfs {
    /// The value of an attribute.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub async fn getxattr(&self, ino: Ino, name: &[u8]) -> FsResult<Box<[u8]>> {
        if name == STATE {
            return self
                .names
                .state(ino)
                .await
                .map(|state| state.to_string().into_bytes().into_boxed_slice());
        }
        self.names.get_xattr(ino, name).await
    }

    /// As [`Vfs::getxattr`], if the answer is known: nothing is waited for.
    pub fn getxattr_now(&self, ino: Ino, name: &[u8]) -> Option<FsResult<Box<[u8]>>> {
        if name == STATE { None } else { self.names.get_xattr_now(ino, name) }
    }

    /// The names of all attributes that were set, each once.
    ///
    /// # Errors
    /// `Stale` if the inode is gone.
    pub async fn listxattr(&self, ino: Ino) -> FsResult<Vec<Box<[u8]>>> {
        self.names.list_xattr(ino).await
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// `Exists` or `NoAttribute` as `mode` says; `OutOfRange`, `FileTooLarge` past the limits of Linux;
    /// `NotPermitted` for a reserved name.
    pub async fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrSetMode) -> FsResult<()> {
        refuse_reserved(name)?;
        if name.is_empty() || name.len() > XATTR_NAME_LEN_MAX {
            return Err(FsErrorKind::OutOfRange.into());
        }
        if value.len() > XATTR_VALUE_LEN_MAX {
            return Err(FsErrorKind::FileTooLarge.into());
        }
        self.demand_writable(ino).await?;
        self.names.set_xattr(ino, name, value, mode.into()).await
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// `NoAttribute`; `NotPermitted` for a reserved name.
    pub async fn removexattr(&self, ino: Ino, name: &[u8]) -> FsResult<()> {
        refuse_reserved(name)?;
        self.demand_writable(ino).await?;
        self.names.remove_xattr(ino, name).await
    }
}

fn refuse_reserved(name: &[u8]) -> FsResult<()> {
    if name.starts_with(RESERVED_PREFIX) {
        let name = name.escape_ascii();
        return Err(FsError::new(
            FsErrorKind::NotPermitted,
            format!("{name} is Forebay's own and cannot be set"),
        ));
    }
    Ok(())
}

impl From<XattrSetMode> for forebay_namespace::XattrMode {
    fn from(mode: XattrSetMode) -> Self {
        match mode {
            XattrSetMode::Any => Self::Any,
            XattrSetMode::Create => Self::Create,
            XattrSetMode::Replace => Self::Replace,
        }
    }
}
