//! The vocabulary of Forebay.
//!
//! **Owns** the words every other crate speaks: ids, quantities with units, named limits, file attributes,
//! names and keys, the error kinds a caller can act on, page checksums, and the two ports that keep the data
//! path and the control path from importing each other ([`UfsMeta`], [`PersistLog`]).
//!
//! **Never does** I/O, never blocks, never holds unsafe code, never knows an errno or an HTTP status.
//!
//! **Why this shape:** the parts of the system meet in types, not in each other's modules. A number that has
//! a unit or a meaning is a newtype here, so that an inode number cannot be passed where an extent id is
//! expected, and the relations between limits are checked by the compiler ([`limits`]).
#![forbid(unsafe_code)]

mod attr;
mod checksum;
mod clock;
mod error;
mod ids;
mod key;
pub mod limits;
mod name;
mod policy;
mod ports;
mod units;
mod version;

pub use attr::{Attr, Caller, FileKind, FileTimes, InodeState, SetAttr, SetTime, TimeSpec};
pub use checksum::{PageChecksum, crc32c};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{FsError, FsErrorKind, FsResult};
pub use ids::{ExtentId, Generation, HandleId, Ino, InvalidId, MountId, NodeId, ShardId};
pub use key::{InvalidKey, UfsKey};
pub use name::{InvalidName, Name};
pub use policy::{Admission, PersistOrder, Placement, ReadMode, TtlAction, WriteMode};
pub use ports::{
    BoxFuture, ContentLocation, DirPage, DirPageEntry, InodeMemo, LARGE_LEN, PageToken, PersistLog,
    PersistOutcome, PersistTask, PersistWork, Settled, Told, UfsAttr, UfsMeta, Writers,
};
pub use units::{ByteSize, HumanDuration, InvalidUnit, PageIndex, PageSize};
pub use version::{ContentKey, UfsVersion};
