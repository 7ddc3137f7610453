//! Attributes in the reference, and what others do to a file behind its back.

use super::{Answer, Inode, Kind, Reference};
use rustix::io::Errno;

impl Reference {
    fn attributes(&mut self, path: &str) -> Answer<&mut Inode> {
        let inode = self.find(path, true)?;
        Ok(&mut self.inodes[inode])
    }

    /// `chmod`, which follows links.
    pub(crate) fn chmod(&mut self, path: &str, mode: u32) -> Answer<()> {
        self.attributes(path)?.mode = mode;
        Ok(())
    }

    /// `lchown` by the superuser: takes the setuid bit, and the setgid bit where the group may execute, from files.
    pub(crate) fn chown(&mut self, path: &str, uid: u32, gid: u32) -> Answer<()> {
        let inode = self.find(path, false)?;
        let inode = &mut self.inodes[inode];
        (inode.uid, inode.gid) = (uid, gid);
        if !matches!(inode.kind, Kind::Dir(_)) && !matches!(inode.kind, Kind::Link(_)) {
            inode.mode &= if inode.mode & 0o010 == 0 { !0o4000 } else { !0o6000 };
        }
        Ok(())
    }

    /// `utimensat`, which follows links.
    pub(crate) fn set_times(&mut self, path: &str, atime: i64, mtime: i64) -> Answer<()> {
        let inode = self.attributes(path)?;
        (inode.atime, inode.mtime) = (Some(atime), Some(mtime));
        Ok(())
    }

    /// `setxattr`, which follows links; `user.` names are refused on what is neither file nor directory.
    pub(crate) fn set_xattr(
        &mut self,
        path: &str,
        name: &str,
        value: &[u8],
        only: (bool, bool),
    ) -> Answer<()> {
        let inode = self.attributes(path)?;
        if !matches!(inode.kind, Kind::Dir(_) | Kind::File(_)) {
            return Err(Errno::PERM);
        }
        match (inode.xattrs.contains_key(name), only) {
            (true, (true, _)) => return Err(Errno::EXIST),
            (false, (_, true)) => return Err(Errno::NODATA),
            _ => {}
        }
        inode.xattrs.insert(name.to_owned(), value.to_vec());
        Ok(())
    }

    /// `removexattr`.
    pub(crate) fn remove_xattr(&mut self, path: &str, name: &str) -> Answer<()> {
        let inode = self.attributes(path)?;
        if !matches!(inode.kind, Kind::Dir(_) | Kind::File(_)) {
            return Err(Errno::PERM);
        }
        inode.xattrs.remove(name).map(drop).ok_or(Errno::NODATA)
    }

    /// The under file system got a new file under the name, with nothing of the old one's.
    pub(crate) fn replace_outside(&mut self, path: &str, data: Vec<u8>, mode: u32) -> Answer<()> {
        let place = self.place(path, false)?;
        if let Some(there) = place.inode {
            if matches!(self.inodes[there].kind, Kind::Dir(_)) {
                return Err(Errno::ISDIR);
            }
            self.drop_name(&place, there);
        }
        self.add(&place, Kind::File(data), mode);
        Ok(())
    }
}
