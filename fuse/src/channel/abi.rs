//! The kernel's interface, as bytes: structures, numbers and flags of FUSE.
//!
//! **Source:** `include/uapi/linux/fuse.h` of Linux 6.18 (protocol 7.45), which is also under the BSD licence; what is
//! not in it (which message has which parts, what the kernel checks in a reply) is from `fs/fuse/` of the same
//! release. The names are the kernel's, without the prefix `FUSE_`.
//!
//! **Owns** the layouts, whose sizes are checked when this is compiled. **Never does** interpret: `decode` and
//! `encode` do. Fields that nobody here reads have their names too, because the layout needs them.
//!
//! A message is a header, then arguments. By `/dev/fuse` all of them follow each other. By io_uring the header and
//! the first argument (the one of a fixed size for each kind of request, [`head_len`]) are in a structure of their own
//! ([`RingHeaders`]), and the rest is in the payload buffer; in a reply everything after the header is in the payload.

#![allow(dead_code, reason = "the layouts are complete, whether every field is read or not")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_KERNEL_VERSION`: another major version is another protocol.
pub(crate) const MAJOR: u32 = 7;
/// The newest minor version whose changes are known here; the smaller one of both sides is spoken.
pub(crate) const MINOR: u32 = 45;
/// The first whose kernels prune inodes when they are asked to: Linux 6.18.
pub(crate) const MINOR_PRUNE: u32 = 45;
/// The oldest that is spoken: Linux 6.1.
pub(crate) const MINOR_MIN: u32 = 37;
/// `FUSE_MIN_READ_BUFFER`: the kernel hands no request to a smaller buffer.
pub(crate) const READ_BUFFER_MIN: usize = 8192;

/// The numbers of the requests (`enum fuse_opcode`).
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const INTERRUPT: u32 = 36;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    /// As the one before, with a count of 64 bits in the reply (7.45).
    pub(crate) const COPY_FILE_RANGE_64: u32 = 53;
}

/// What a session can do (`fuse_init_in.flags`); the bits from 32 on travel in `flags2`.
pub(crate) mod init {
    pub(crate) const ASYNC_READ: u64 = 1 << 0;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const ASYNC_DIO: u64 = 1 << 15;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const ABORT_ERROR: u64 = 1 << 21;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    pub(crate) const HAS_EXPIRE_ONLY: u64 = 1 << 35;
    pub(crate) const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
    pub(crate) const PASSTHROUGH: u64 = 1 << 37;
    pub(crate) const HAS_RESEND: u64 = 1 << 39;
    pub(crate) const OVER_IO_URING: u64 = 1 << 41;
}

/// Flags of an open reply (`FOPEN_*`).
pub(crate) mod fopen {
    pub(crate) const KEEP_CACHE: u32 = 1 << 1;
    pub(crate) const NOFLUSH: u32 = 1 << 5;
    pub(crate) const PASSTHROUGH: u32 = 1 << 7;
}

/// Which fields of a SETATTR count (`FATTR_*`).
pub(crate) mod fattr {
    pub(crate) const MODE: u32 = 1 << 0;
    pub(crate) const UID: u32 = 1 << 1;
    pub(crate) const GID: u32 = 1 << 2;
    pub(crate) const SIZE: u32 = 1 << 3;
    pub(crate) const ATIME: u32 = 1 << 4;
    pub(crate) const MTIME: u32 = 1 << 5;
    pub(crate) const FH: u32 = 1 << 6;
    pub(crate) const ATIME_NOW: u32 = 1 << 7;
    pub(crate) const MTIME_NOW: u32 = 1 << 8;
}

/// `FUSE_GETATTR_FH`
pub(crate) const GETATTR_FH: u32 = 1 << 0;
/// `FUSE_WRITE_KILL_SUIDGID`
pub(crate) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// `FUSE_FSYNC_FDATASYNC`
pub(crate) const FSYNC_FDATASYNC: u32 = 1 << 0;
/// `FUSE_EXPIRE_ONLY`, in a notification about a name (7.38)
pub(crate) const EXPIRE_ONLY: u32 = 1 << 0;

/// `enum fuse_notify_code`
pub(crate) mod notify {
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
    pub(crate) const DELETE: i32 = 6;
    pub(crate) const RESEND: i32 = 7;
    /// 7.45
    pub(crate) const PRUNE: i32 = 9;
}

/// Makes the structures: `repr(C)`, no padding (a derive refuses it), and the size that the header file gives.
macro_rules! layouts {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

layouts! {
    /// `struct fuse_in_header`: before every request.
    InHeader, 40 { len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16 }
    /// `struct fuse_out_header`: before every reply (error 0 or a negative errno) and every notification (a code).
    OutHeader, 16 { len: u32, error: i32, unique: u64 }

    InitIn, 64 { major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11] }
    InitOut, 64 { major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16,
        flags2: u32, max_stack_depth: u32, request_timeout: u16, unused: [u16; 11] }

    ForgetIn, 8 { nlookup: u64 }
    BatchForgetIn, 8 { count: u32, dummy: u32 }
    ForgetOne, 16 { nodeid: u64, nlookup: u64 }
    GetattrIn, 16 { getattr_flags: u32, dummy: u32, fh: u64 }
    SetattrIn, 88 { valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64,
        ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32,
        unused5: u32 }
    MknodIn, 16 { mode: u32, rdev: u32, umask: u32, padding: u32 }
    MkdirIn, 8 { mode: u32, umask: u32 }
    RenameIn, 8 { newdir: u64 }
    Rename2In, 16 { newdir: u64, flags: u32, padding: u32 }
    LinkIn, 8 { oldnodeid: u64 }
    OpenIn, 8 { flags: u32, open_flags: u32 }
    CreateIn, 16 { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    ReleaseIn, 24 { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    FlushIn, 24 { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    /// READ, READDIR and READDIRPLUS.
    ReadIn, 40 { fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    WriteIn, 40 { fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32 }
    FsyncIn, 16 { fh: u64, fsync_flags: u32, padding: u32 }
    /// As it is without `FUSE_SETXATTR_EXT`.
    SetxattrIn, 8 { size: u32, flags: u32 }
    /// GETXATTR and LISTXATTR.
    GetxattrIn, 8 { size: u32, padding: u32 }
    InterruptIn, 8 { unique: u64 }
    FallocateIn, 32 { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    LseekIn, 24 { fh: u64, offset: u64, whence: u32, padding: u32 }
    CopyFileRangeIn, 56 { fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64,
        flags: u64 }

    Attr, 88 { ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32,
        mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32,
        flags: u32 }
    EntryOut, 128 { nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr }
    AttrOut, 104 { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }
    OpenOut, 16 { fh: u64, open_flags: u32, backing_id: i32 }
    WriteOut, 8 { size: u32, padding: u32 }
    /// The reply to `COPY_FILE_RANGE_64`.
    CopyFileRangeOut, 8 { bytes_copied: u64 }
    GetxattrOut, 8 { size: u32, padding: u32 }
    LseekOut, 8 { offset: u64 }
    StatfsOut, 80 { blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32,
        frsize: u32, padding: u32, spare: [u32; 6] }
    /// `struct fuse_dirent`; the name follows, padded to [`DIRENT_ALIGN`].
    Dirent, 24 { ino: u64, off: u64, namelen: u32, kind: u32 }

    NotifyInvalInode, 24 { ino: u64, off: i64, len: i64 }
    NotifyInvalEntry, 16 { parent: u64, namelen: u32, flags: u32 }
    /// As many node numbers as `count` says follow.
    NotifyPrune, 16 { count: u32, padding: u32, spare: u64 }
    NotifyDelete, 24 { parent: u64, child: u64, namelen: u32, padding: u32 }

    /// `struct fuse_uring_ent_in_out`: by io_uring, which request this is and how long its payload is.
    RingInOut, 32 { flags: u64, commit_id: u64, payload_sz: u32, padding: u32, reserved: u64 }
    /// `struct fuse_uring_cmd_req`: the bytes of a command in the submission entry.
    RingCommand, 24 { flags: u64, commit_id: u64, qid: u16, padding: [u8; 6] }
}

/// Entries of a directory begin on this grid.
pub(crate) const DIRENT_ALIGN: usize = 8;

/// The commands of FUSE over io_uring (`enum fuse_uring_cmd`, 7.42).
pub(crate) mod ring {
    /// Makes two buffers known (an iovec of headers and payload) and waits for a request.
    pub(crate) const REGISTER: u32 = 1;
    /// Hands in a reply and waits for the next request.
    pub(crate) const COMMIT_AND_FETCH: u32 = 2;
    /// The parts of the iovec.
    pub(crate) const IOVEC_LEN: u32 = 2;
}

/// `FUSE_URING_IN_OUT_HEADER_SZ`, `FUSE_URING_OP_IN_OUT_SZ`
const RING_AREA_LEN: usize = 128;

/// `struct fuse_uring_req_header`: what the kernel writes beside the payload of a request, and reads of a reply.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RingHeaders {
    /// [`InHeader`] of a request, [`OutHeader`] of a reply.
    pub(crate) in_out: [u8; RING_AREA_LEN],
    /// The first argument of a request.
    pub(crate) op_in: [u8; RING_AREA_LEN],
    pub(crate) ring: RingInOut,
}

const _: () = assert!(size_of::<RingHeaders>() == 288);

impl Default for RingHeaders {
    fn default() -> Self {
        Self { in_out: [0; RING_AREA_LEN], op_in: [0; RING_AREA_LEN], ring: RingInOut::default() }
    }
}

/// The length of a request's first argument; `None` for requests that are not served here.
pub(crate) const fn head_len(opcode: u32) -> Option<usize> {
    Some(match opcode {
        opcode::LOOKUP
        | opcode::READLINK
        | opcode::SYMLINK
        | opcode::UNLINK
        | opcode::RMDIR
        | opcode::STATFS
        | opcode::REMOVEXATTR
        | opcode::DESTROY => 0,
        opcode::FORGET => size_of::<ForgetIn>(),
        opcode::BATCH_FORGET => size_of::<BatchForgetIn>(),
        opcode::GETATTR => size_of::<GetattrIn>(),
        opcode::SETATTR => size_of::<SetattrIn>(),
        opcode::MKNOD => size_of::<MknodIn>(),
        opcode::MKDIR => size_of::<MkdirIn>(),
        opcode::RENAME => size_of::<RenameIn>(),
        opcode::RENAME2 => size_of::<Rename2In>(),
        opcode::LINK => size_of::<LinkIn>(),
        opcode::OPEN | opcode::OPENDIR => size_of::<OpenIn>(),
        opcode::CREATE => size_of::<CreateIn>(),
        opcode::READ | opcode::READDIR | opcode::READDIRPLUS => size_of::<ReadIn>(),
        opcode::WRITE => size_of::<WriteIn>(),
        opcode::RELEASE | opcode::RELEASEDIR => size_of::<ReleaseIn>(),
        opcode::FLUSH => size_of::<FlushIn>(),
        opcode::FSYNC | opcode::FSYNCDIR => size_of::<FsyncIn>(),
        opcode::SETXATTR => size_of::<SetxattrIn>(),
        opcode::GETXATTR | opcode::LISTXATTR => size_of::<GetxattrIn>(),
        opcode::INTERRUPT => size_of::<InterruptIn>(),
        opcode::FALLOCATE => size_of::<FallocateIn>(),
        opcode::LSEEK => size_of::<LseekIn>(),
        opcode::COPY_FILE_RANGE | opcode::COPY_FILE_RANGE_64 => size_of::<CopyFileRangeIn>(),
        opcode::INIT => size_of::<InitIn>(),
        _ => return None,
    })
}

/// The bytes before the payload of a WRITE: what is read apart from it.
pub(crate) const WRITE_HEAD_LEN: usize = size_of::<InHeader>() + size_of::<WriteIn>();
