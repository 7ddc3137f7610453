//! Limits by name, with the relations between them checked when Forebay is compiled.

use crate::units::{ByteSize, PageSize};

/// The longest file name in bytes (POSIX `NAME_MAX` on Linux).
pub const NAME_LEN_MAX: usize = 255;
/// The longest path in bytes, as `PATH_MAX` on Linux counts it without the closing zero.
pub const PATH_LEN_MAX: usize = 4095;
/// The longest symbolic link target in bytes.
pub const SYMLINK_LEN_MAX: usize = PATH_LEN_MAX;
/// The longest object key in bytes that S3, GCS and Azure Blob all take. A longer one cannot be persisted.
pub const OBJECT_KEY_LEN_MAX: usize = 1024;
/// The largest file in bytes: the largest offset of Linux.
pub const FILE_LEN_MAX: u64 = i64::MAX as u64;
/// The most names one inode may have. ext4 has 65,000; a larger promise could not be kept on a POSIX mount.
pub const LINKS_MAX: u32 = 65_000;
/// The longest extended attribute name in bytes (`XATTR_NAME_MAX`).
pub const XATTR_NAME_LEN_MAX: usize = 255;
/// The longest extended attribute value in bytes (`XATTR_SIZE_MAX`).
pub const XATTR_VALUE_LEN_MAX: usize = 64 << 10;
/// The largest file that is packed into a segment, unless the mount says otherwise.
pub const PACK_MAX_DEFAULT: ByteSize = ByteSize::kib(256);
/// The size of a segment file.
pub const SEGMENT_LEN: ByteSize = ByteSize::mib(64);
/// The unit of eviction within a file that is larger than [`REGION_FILE_MIN`].
pub const REGION_LEN: ByteSize = ByteSize::mib(64);
/// Files above this length are evicted by region, smaller ones whole.
pub const REGION_FILE_MIN: ByteSize = ByteSize::gib(1);
/// The alignment of offsets, lengths and buffers of direct I/O: covers every logical block size in use.
pub const DIRECT_ALIGN: usize = 4096;
/// The most bytes one read or write carries between the parts.
pub const IO_LEN_MAX: ByteSize = ByteSize::mib(1);

const _: () = assert!(PACK_MAX_DEFAULT.as_u64() < SEGMENT_LEN.as_u64());
const _: () = assert!(SEGMENT_LEN.as_u64().is_multiple_of(PageSize::MAX.as_u64()));
const _: () = assert!(REGION_LEN.as_u64().is_multiple_of(PageSize::MAX.as_u64()));
const _: () = assert!(REGION_FILE_MIN.as_u64() > REGION_LEN.as_u64());
const _: () = assert!(PageSize::MIN.as_u64().is_multiple_of(DIRECT_ALIGN as u64));
const _: () = assert!(NAME_LEN_MAX < PATH_LEN_MAX);
