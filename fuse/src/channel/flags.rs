//! The flags and modes of system calls, as they come in requests, in our words. What has no word here is `None`.

use forebay_types::FileKind;
use forebay_vfs::{AllocateMode, OpenFlags, RenameFlags, Whence, XattrSetMode};

/// The permission bits of a mode, without the kind.
const PERMISSIONS: u32 = 0o7777;

pub(in crate::channel) fn permissions(mode: u32) -> u16 {
    (mode & PERMISSIONS) as u16
}

/// The kind in a mode of mknod(2); no kind at all is a regular file.
pub(in crate::channel) fn kind_of_mode(mode: u32) -> Option<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Some(FileKind::Regular),
        libc::S_IFIFO => Some(FileKind::Fifo),
        libc::S_IFSOCK => Some(FileKind::Socket),
        libc::S_IFCHR => Some(FileKind::CharDevice),
        libc::S_IFBLK => Some(FileKind::BlockDevice),
        _ => None,
    }
}

pub(in crate::channel) fn open_flags(flags: i32) -> OpenFlags {
    let access = flags & libc::O_ACCMODE;
    OpenFlags {
        read: access != libc::O_WRONLY,
        write: access == libc::O_WRONLY || access == libc::O_RDWR,
        append: flags & libc::O_APPEND != 0,
        // The kernel truncates by SETATTR, because ATOMIC_O_TRUNC is not negotiated.
        truncate: false,
        exclusive: flags & libc::O_EXCL != 0,
        sync: flags & (libc::O_SYNC | libc::O_DSYNC) != 0,
    }
}

pub(in crate::channel) fn rename_flags(flags: u32) -> Option<RenameFlags> {
    match flags {
        0 => Some(RenameFlags::Replace),
        libc::RENAME_NOREPLACE => Some(RenameFlags::NoReplace),
        libc::RENAME_EXCHANGE => Some(RenameFlags::Exchange),
        _ => None,
    }
}

/// The modes of fallocate(2) that there are here; collapsing, inserting and unsharing are not.
pub(in crate::channel) fn allocate_mode(mode: i32) -> Option<AllocateMode> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(AllocateMode::Grow),
        KEEP => Some(AllocateMode::KeepSize),
        PUNCH => Some(AllocateMode::PunchHole),
        ZERO => Some(AllocateMode::ZeroRange),
        ZERO_KEEP => Some(AllocateMode::ZeroRangeKeepSize),
        _ => None,
    }
}

pub(in crate::channel) fn whence(whence: i32) -> Option<Whence> {
    match whence {
        libc::SEEK_DATA => Some(Whence::Data),
        libc::SEEK_HOLE => Some(Whence::Hole),
        _ => None,
    }
}

pub(in crate::channel) fn xattr_mode(flags: i32) -> Option<XattrSetMode> {
    match flags {
        0 => Some(XattrSetMode::Any),
        libc::XATTR_CREATE => Some(XattrSetMode::Create),
        libc::XATTR_REPLACE => Some(XattrSetMode::Replace),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_flags_are_those_of_the_program() {
        let flags = open_flags(libc::O_RDWR | libc::O_APPEND | libc::O_DSYNC);
        assert!(flags.read && flags.write && flags.append && flags.sync && !flags.exclusive);
        let flags = open_flags(libc::O_WRONLY | libc::O_EXCL);
        assert!(!flags.read && flags.write && flags.exclusive && !flags.sync);
        assert_eq!(open_flags(libc::O_RDONLY), OpenFlags { read: true, ..OpenFlags::default() });
    }

    #[test]
    fn fallocate_knows_five_modes() {
        assert_eq!(allocate_mode(0), Some(AllocateMode::Grow));
        assert_eq!(allocate_mode(3), Some(AllocateMode::PunchHole));
        assert_eq!(allocate_mode(0x11), Some(AllocateMode::ZeroRangeKeepSize));
        for refused in
            [libc::FALLOC_FL_COLLAPSE_RANGE, libc::FALLOC_FL_INSERT_RANGE, libc::FALLOC_FL_PUNCH_HOLE]
        {
            assert_eq!(allocate_mode(refused), None);
        }
    }

    #[test]
    fn renames_and_searches_and_attributes_know_their_flags() {
        assert_eq!(rename_flags(0), Some(RenameFlags::Replace));
        assert_eq!(rename_flags(libc::RENAME_NOREPLACE), Some(RenameFlags::NoReplace));
        assert_eq!(rename_flags(libc::RENAME_EXCHANGE), Some(RenameFlags::Exchange));
        assert_eq!(rename_flags(libc::RENAME_WHITEOUT), None);
        assert_eq!(rename_flags(libc::RENAME_EXCHANGE | libc::RENAME_NOREPLACE), None);
        assert_eq!(whence(libc::SEEK_HOLE), Some(Whence::Hole));
        assert_eq!(whence(libc::SEEK_END), None);
        assert_eq!(xattr_mode(libc::XATTR_REPLACE), Some(XattrSetMode::Replace));
        assert_eq!(xattr_mode(libc::XATTR_CREATE | libc::XATTR_REPLACE), None);
    }

    #[test]
    fn kinds_go_both_ways() {
        assert_eq!(kind_of_mode(0o644), Some(FileKind::Regular));
        assert_eq!(kind_of_mode(libc::S_IFIFO | 0o600), Some(FileKind::Fifo));
        assert_eq!(kind_of_mode(libc::S_IFDIR), None);
        assert_eq!(permissions(libc::S_IFCHR | 0o6755), 0o6755);
    }
}
