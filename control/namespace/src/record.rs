//! The records at rest, as the rest of the crate sees them: typed, checked, and turned to bytes and back here.
//!
//! **Owns** [`InodeRecord`], [`Dentry`] and their prost forms ([`crate::proto`]). **Never does** I/O. A record
//! that does not decode, or decodes to something that cannot be, is [`FsErrorKind::Corrupt`], never a panic.

use crate::proto;
use forebay_types::{
    Attr, ExtentId, FileKind, FsError, FsErrorKind, FsResult, Generation, Ino, InodeState, MountId, Name,
    TimeSpec, UfsAttr, UfsKey, UfsVersion,
};
use prost::Message;

/// Where the under file system has an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UfsAt {
    /// Under its name in its directory, wherever that is: the normal case of what is carried.
    Inherit,
    /// At this key: it was renamed here and not yet there. A mount's root stands at the empty key for good.
    At(UfsKey),
    /// Nowhere: born here and never carried.
    Nowhere,
}

/// One name of an inode: the directory and the name in it.
pub(crate) type Slot = (Ino, Name);

/// Everything known of an inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InodeRecord {
    pub(crate) kind: FileKind,
    pub(crate) mode: u16,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
    pub(crate) size: u64,
    pub(crate) blocks_512: u64,
    pub(crate) atime: TimeSpec,
    pub(crate) mtime: TimeSpec,
    pub(crate) ctime: TimeSpec,
    /// The time of last change that the extent file had when [`Self::mtime`] was taken from it, or set. While it has
    /// that one, nobody has written since, whatever else became of the inode.
    pub(crate) extent_mtime: TimeSpec,
    pub(crate) state: InodeState,
    pub(crate) mount: MountId,
    /// The first of its names; further ones stand under keys of their own. `None` for the root directory and
    /// for what has lost its last name.
    pub(crate) at: Option<Slot>,
    pub(crate) ufs_at: UfsAt,
    /// With [`UfsAt::At`]: the name it has there, whose shadow it is.
    pub(crate) left: Option<Slot>,
    /// The version of the content the UFS has where `ufs_at` says; always `None` for directories.
    pub(crate) version: Option<UfsVersion>,
    /// The extent with what was written here; `None` while the UFS is the authority.
    pub(crate) extent: Option<ExtentId>,
    pub(crate) link_target: Option<Box<[u8]>>,
    pub(crate) generation: Generation,
    /// Open for write: the extent file, not this record, knows size and times.
    pub(crate) write_open: bool,
    /// Mode, owner, times or extended attributes were changed here and the UFS does not have them.
    pub(crate) attrs_ours: bool,
    /// Of a directory: its time of last change here is not the one the UFS has. Names that are carried move that one,
    /// so ours is set after the last of them.
    pub(crate) mtime_due: bool,
    /// Sorted by name.
    pub(crate) xattrs: Vec<Xattr>,
    /// The log's number when the inode last turned clean or dirty; tells a listing that is under way whether
    /// it has shown the inode already.
    pub(crate) turned_at: u64,
    /// Why it cannot be persisted, if it was tried.
    pub(crate) unpersistable: Option<String>,
}

/// An extended attribute: name and value.
pub(crate) type Xattr = (Box<[u8]>, Box<[u8]>);

/// What the UFS is believed to have at a name's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shadow {
    pub(crate) kind: FileKind,
    /// `None` for a directory.
    pub(crate) version: Option<UfsVersion>,
    /// Whose content it is.
    pub(crate) owner: Ino,
    /// Which change of the owner's content it is; 0 for what came from the UFS.
    pub(crate) generation: Generation,
    /// The log's number when the UFS got the owner at this key; 0 if it had it first. Tells a listing that is under
    /// way whether the UFS's part of it has shown the name.
    pub(crate) since: u64,
    /// The permission bits that the UFS showed when it was last learnt from, or that were set there.
    pub(crate) mode: Option<u16>,
    /// Owner and group, likewise.
    pub(crate) ids: Option<(u32, u32)>,
}

/// One name in a directory, as the engine keeps it: present, or a whiteout that hides what the UFS has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dentry {
    /// The inode; `None` is a whiteout.
    pub(crate) target: Option<(Ino, FileKind)>,
    /// What the UFS has at this name's key.
    pub(crate) shadow: Option<Shadow>,
    /// The root of a nested mount.
    pub(crate) mount_point: bool,
}

impl InodeRecord {
    /// The attributes, as a caller sees them. An inode that is open for write counts as dirty.
    pub(crate) fn attr(&self, ino: Ino) -> Attr {
        let state = match self.state {
            InodeState::Clean if self.write_open => InodeState::Dirty,
            state => state,
        };
        Attr {
            ino,
            kind: self.kind,
            mode: self.mode,
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size: self.size,
            blocks_512: self.blocks_512,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            state,
        }
    }

    /// Whether a listing tells the same of an inode with that record: all but whether it was carried.
    pub(crate) fn tells_as(&self, other: &Self) -> bool {
        let told = |record: &Self| Attr { state: InodeState::Clean, ..record.attr(Ino(0)) };
        let place = |record: &Self| (record.mount, record.write_open, record.state == InodeState::Native);
        told(self) == told(other) && place(self) == place(other) && self.at == other.at
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileKind::Directory
    }

    /// Whether the UFS is the authority for the inode at its present name, so that it is asked now and then.
    pub(crate) fn is_settled(&self) -> bool {
        self.state == InodeState::Clean && !self.write_open && self.ufs_at == UfsAt::Inherit
    }

    pub(crate) fn xattr(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self.xattrs.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.xattrs[at].1)
    }

    pub(crate) fn encode(&self) -> Box<[u8]> {
        let ufs_key = match &self.ufs_at {
            UfsAt::At(key) => Some(key.as_bytes().to_vec()),
            UfsAt::Inherit | UfsAt::Nowhere => None,
        };
        let stored = proto::Inode {
            kind: kind_code(self.kind),
            mode: u32::from(self.mode),
            nlink: self.nlink,
            uid: self.uid,
            gid: self.gid,
            rdev: self.rdev,
            size: self.size,
            blocks_512: self.blocks_512,
            atime: Some(self.atime.into()),
            mtime: Some(self.mtime.into()),
            ctime: Some(self.ctime.into()),
            extent_mtime: Some(self.extent_mtime.into()),
            state: state_code(self.state),
            mount: self.mount.0,
            parent: self.at.as_ref().map(|(parent, _)| parent.0),
            name: self.at.as_ref().map(|(_, name)| name.as_bytes().to_vec()),
            ufs_inherit: self.ufs_at == UfsAt::Inherit,
            ufs_key,
            version: self.version.as_ref().map(|version| version.as_bytes().to_vec()),
            extent: self.extent.map(|extent| extent.0),
            link_target: self.link_target.as_ref().map(|target| target.to_vec()),
            generation: self.generation.0,
            write_open: self.write_open,
            attrs_ours: self.attrs_ours,
            mtime_due: self.mtime_due,
            xattrs: self.xattrs.iter().map(proto::Xattr::from_pair).collect(),
            turned_at: self.turned_at,
            unpersistable: self.unpersistable.clone(),
            left_parent: self.left.as_ref().map(|(parent, _)| parent.0),
            left_name: self.left.as_ref().map(|(_, name)| name.as_bytes().to_vec()),
        };
        stored.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> FsResult<Self> {
        let stored = proto::Inode::decode(bytes).map_err(corrupt)?;
        let at = slot_of(stored.parent, stored.name)?;
        let left = slot_of(stored.left_parent, stored.left_name)?;
        let ufs_at = match stored.ufs_key {
            Some(key) => UfsAt::At(UfsKey::new(key).map_err(corrupt)?),
            None if stored.ufs_inherit => UfsAt::Inherit,
            None => UfsAt::Nowhere,
        };
        let mut xattrs: Vec<Xattr> = stored.xattrs.into_iter().map(proto::Xattr::into_pair).collect();
        xattrs.sort();
        Ok(Self {
            kind: kind_of(stored.kind)?,
            mode: u16::try_from(stored.mode).map_err(corrupt)?,
            nlink: stored.nlink,
            uid: stored.uid,
            gid: stored.gid,
            rdev: stored.rdev,
            size: stored.size,
            blocks_512: stored.blocks_512,
            atime: stored.atime.unwrap_or_default().into(),
            mtime: stored.mtime.unwrap_or_default().into(),
            ctime: stored.ctime.unwrap_or_default().into(),
            // Without it nothing better is known than that the times here are as of the last change of the record.
            extent_mtime: stored.extent_mtime.or(stored.ctime).unwrap_or_default().into(),
            state: state_of(stored.state)?,
            mount: MountId(stored.mount),
            at,
            ufs_at,
            left,
            version: stored.version.map(UfsVersion::new),
            extent: stored.extent.map(ExtentId),
            link_target: stored.link_target.map(Into::into),
            generation: Generation(stored.generation),
            write_open: stored.write_open,
            attrs_ours: stored.attrs_ours,
            mtime_due: stored.mtime_due,
            xattrs,
            turned_at: stored.turned_at,
            unpersistable: stored.unpersistable,
        })
    }
}

pub(crate) fn slot_of(dir: Option<u64>, name: Option<Vec<u8>>) -> FsResult<Option<Slot>> {
    match (dir, name) {
        (Some(dir), Some(name)) => Ok(Some((Ino(dir), Name::new(name).map_err(corrupt)?))),
        _ => Ok(None),
    }
}

impl Shadow {
    /// What the UFS has where a clean inode is.
    pub(crate) fn of(ino: Ino, record: &InodeRecord) -> Self {
        let (version, generation) = (record.version.clone(), record.generation);
        let (mode, ids) = (Some(record.mode), Some((record.uid, record.gid)));
        let kind = record.kind;
        Self { kind, version, owner: ino, generation, since: 0, mode, ids }
    }

    /// Takes over the attributes that the UFS shows.
    pub(crate) fn showing(self, ufs: &UfsAttr) -> Self {
        Self { mode: ufs.mode.or(self.mode), ids: ufs.owner.or(self.ids), ..self }
    }

    /// The permission bits, if others have changed them.
    pub(crate) fn new_mode(&self, ufs: &UfsAttr) -> Option<u16> {
        ufs.mode.filter(|mode| self.mode.is_some_and(|known| known != *mode))
    }

    /// Owner and group, if others have changed them.
    pub(crate) fn new_ids(&self, ufs: &UfsAttr) -> Option<(u32, u32)> {
        ufs.owner.filter(|ids| self.ids.is_some_and(|known| known != *ids))
    }
}

impl Dentry {
    /// A name of `ino`, over whatever the UFS has there.
    pub(crate) fn present(ino: Ino, kind: FileKind, shadow: Option<Shadow>) -> Self {
        Self { target: Some((ino, kind)), shadow, mount_point: false }
    }

    /// Whether the UFS has at this name what we have: the inode that is the name's.
    pub(crate) fn is_carried(&self) -> bool {
        match (&self.target, &self.shadow) {
            (Some((ino, _)), Some(shadow)) => shadow.owner == *ino && !self.mount_point,
            _ => false,
        }
    }

    pub(crate) fn encode(&self) -> Box<[u8]> {
        let stored = proto::Dentry {
            ino: self.target.map(|(ino, _)| ino.0),
            kind: self.target.map_or(0, |(_, kind)| kind_code(kind)),
            shadow: self.shadow.as_ref().map(|shadow| proto::Shadow {
                kind: kind_code(shadow.kind),
                version: shadow.version.as_ref().map(|version| version.as_bytes().to_vec()),
                owner: shadow.owner.0,
                generation: shadow.generation.0,
                since: shadow.since,
                mode: shadow.mode.map(u32::from),
                uid: shadow.ids.map(|(uid, _)| uid),
                gid: shadow.ids.map(|(_, gid)| gid),
            }),
            mount_point: self.mount_point,
        };
        stored.encode_to_vec().into()
    }

    /// What a name leads to, without the rest of its dentry, which is most of the work of decoding one.
    pub(crate) fn target_of(bytes: &[u8]) -> FsResult<Option<(Ino, FileKind)>> {
        let stored = proto::DentryTarget::decode(bytes).map_err(corrupt)?;
        stored.ino.map(|ino| kind_of(stored.kind).map(|kind| (Ino(ino), kind))).transpose()
    }

    pub(crate) fn decode(bytes: &[u8]) -> FsResult<Self> {
        let stored = proto::Dentry::decode(bytes).map_err(corrupt)?;
        let target = stored.ino.map(|ino| kind_of(stored.kind).map(|kind| (Ino(ino), kind))).transpose()?;
        let shadow = stored.shadow.map(|shadow| -> FsResult<Shadow> {
            let version = shadow.version.map(UfsVersion::new);
            Ok(Shadow {
                kind: kind_of(shadow.kind)?,
                version,
                owner: Ino(shadow.owner),
                generation: Generation(shadow.generation),
                since: shadow.since,
                mode: shadow.mode.map(u16::try_from).transpose().map_err(corrupt)?,
                ids: shadow.uid.zip(shadow.gid),
            })
        });
        Ok(Self { target, shadow: shadow.transpose()?, mount_point: stored.mount_point })
    }
}

impl proto::Xattr {
    fn from_pair((name, value): &Xattr) -> Self {
        Self { name: name.to_vec(), value: value.to_vec() }
    }

    fn into_pair(self) -> Xattr {
        (self.name.into(), self.value.into())
    }
}

impl From<TimeSpec> for proto::Time {
    fn from(time: TimeSpec) -> Self {
        Self { secs: time.secs, nanos: time.nanos }
    }
}

impl From<proto::Time> for TimeSpec {
    fn from(time: proto::Time) -> Self {
        Self { secs: time.secs, nanos: time.nanos }
    }
}

pub(crate) fn corrupt(error: impl std::fmt::Display) -> FsError {
    FsError::new(FsErrorKind::Corrupt, format!("a metadata record does not decode: {error}"))
}

const KINDS: [FileKind; 7] = [
    FileKind::Regular,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::Socket,
    FileKind::CharDevice,
    FileKind::BlockDevice,
];

/// Codes begin at 1, so that a field that was never written is no kind.
pub(crate) fn kind_code(kind: FileKind) -> u32 {
    KINDS.iter().position(|known| *known == kind).map_or(0, |at| at as u32 + 1)
}

pub(crate) fn kind_of(code: u32) -> FsResult<FileKind> {
    let known = code.checked_sub(1).and_then(|at| KINDS.get(at as usize));
    known.copied().ok_or_else(|| corrupt(format!("{code} is no kind of inode")))
}

fn state_code(state: InodeState) -> u32 {
    match state {
        InodeState::Clean => 1,
        InodeState::Dirty => 2,
        InodeState::Native => 3,
    }
}

fn state_of(code: u32) -> FsResult<InodeState> {
    match code {
        1 => Ok(InodeState::Clean),
        2 => Ok(InodeState::Dirty),
        3 => Ok(InodeState::Native),
        _ => Err(corrupt(format!("{code} is no state of an inode"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_the_time_of_its_extent_has_times_as_of_its_last_change() {
        let (mtime, ctime) = (proto::Time { secs: 7, nanos: 1 }, proto::Time { secs: 9, nanos: 2 });
        let times = proto::Inode { mtime: Some(mtime), ctime: Some(ctime), ..proto::Inode::default() };
        let older = proto::Inode { kind: 1, state: 2, ..times };
        let record = InodeRecord::decode(&older.encode_to_vec()).unwrap();
        assert_eq!((record.mtime, record.extent_mtime), (mtime.into(), ctime.into()));
        let newer = InodeRecord { extent_mtime: mtime.into(), ..record };
        assert_eq!(InodeRecord::decode(&newer.encode()).unwrap(), newer);
    }

    #[test]
    fn what_a_name_leads_to_is_read_without_the_rest() {
        let shadow = Shadow {
            kind: FileKind::Regular,
            version: Some(UfsVersion::new(*b"v1")),
            owner: Ino(7),
            generation: Generation(3),
            since: 9,
            mode: Some(0o644),
            ids: Some((1, 2)),
        };
        for target in [None, Some((Ino(7), FileKind::Symlink)), Some((Ino(u64::MAX), FileKind::Directory))] {
            let dentry = Dentry { target, shadow: Some(shadow.clone()), mount_point: true };
            assert_eq!(Dentry::target_of(&dentry.encode()).unwrap(), target);
        }
    }
}
