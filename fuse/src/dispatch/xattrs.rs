//! Extended attributes: the protocol of lengths, and the names that are nobody's.

use super::{Dispatch, done};
use crate::reply::Reply;
use forebay_types::{FsErrorKind, FsResult, Ino};
use forebay_vfs::XattrSetMode;

/// POSIX ACLs are not negotiated, so the kernel would not heed them: nobody shall believe that they are set.
const ACL_PREFIX: &[u8] = b"system.posix_acl_";

impl Dispatch {
    pub(super) async fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrSetMode,
    ) -> FsResult<Reply> {
        refuse_acl(name)?;
        done(self.vfs.setxattr(ino, name, value, mode).await)
    }

    pub(super) async fn getxattr(&self, ino: Ino, name: &[u8], room: u32) -> FsResult<Reply> {
        refuse_acl(name)?;
        let value = self.vfs.getxattr(ino, name).await?;
        fit(value, room)
    }

    /// As [`Self::getxattr`], if the answer is known. The kernel asks so before the first write to each new file, for what
    /// nearly none has.
    pub(super) fn getxattr_now(&self, ino: Ino, name: &[u8], room: u32) -> Option<FsResult<Reply>> {
        refuse_acl(name).ok()?;
        let value = self.vfs.getxattr_now(ino, name)?;
        Some(value.and_then(|value| fit(value, room)))
    }

    /// The names one after the other, each closed by a zero byte, as listxattr(2) has them.
    pub(super) async fn listxattr(&self, ino: Ino, room: u32) -> FsResult<Reply> {
        let names = self.vfs.listxattr(ino).await?;
        let mut list = Vec::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        fit(list.into_boxed_slice(), room)
    }

    pub(super) async fn removexattr(&self, ino: Ino, name: &[u8]) -> FsResult<Reply> {
        refuse_acl(name)?;
        done(self.vfs.removexattr(ino, name).await)
    }
}

fn refuse_acl(name: &[u8]) -> FsResult<()> {
    if name.starts_with(ACL_PREFIX) { Err(FsErrorKind::Unsupported.into()) } else { Ok(()) }
}

/// A room of 0 asks for the length; a room that is too small is ERANGE.
fn fit(value: Box<[u8]>, room: u32) -> FsResult<Reply> {
    let len = u32::try_from(value.len()).map_err(|_| FsErrorKind::FileTooLarge)?;
    match room {
        0 => Ok(Reply::Len(len)),
        _ if len > room => Err(FsErrorKind::OutOfRange.into()),
        _ => Ok(Reply::Bytes(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_measured_refused_or_given_as_the_room_says() {
        let value = || Box::from(&b"12345"[..]);
        assert!(matches!(fit(value(), 0), Ok(Reply::Len(5))));
        assert_eq!(fit(value(), 4).unwrap_err().kind(), FsErrorKind::OutOfRange);
        assert!(matches!(fit(value(), 5), Ok(Reply::Bytes(bytes)) if &*bytes == b"12345"));
    }

    #[test]
    fn acls_are_refused_and_ordinary_names_are_not() {
        assert!(refuse_acl(b"system.posix_acl_access").is_err());
        assert!(refuse_acl(b"user.comment").is_ok());
    }
}
