//! What was handed out and has no recorded end, at rest.
//!
//! **Owns** the form in which a task is kept from the moment it is handed out to the one at which its outcome is
//! recorded, so that the next process can ask how it ended. **Never does** judge the outcome.
//!
//! While a task stands here the state of its name is that from before the task: who looks at the name alone must
//! ask [`Txn::has_begun`] before taking it for all that the UFS has there.

use super::queue::{Footprint, Out};
use crate::proto;
use crate::record::{Slot, corrupt, kind_code, kind_of, slot_of};
use crate::shared::Shared;
use crate::txn::Txn;
use crate::{keys, overlay::Value};
use forebay_types::{
    ContentLocation, ExtentId, FileKind, FsResult, Generation, Ino, MountId, Name, PersistTask, PersistWork,
    UfsAttr, UfsKey, UfsVersion,
};
use prost::Message;
use std::time::Duration;

const PUT: u32 = 1;
const MAKE_DIR: u32 = 2;
const MAKE_SPECIAL: u32 = 3;
const LINK: u32 = 4;
const MOVE: u32 = 5;
const SET_ATTR: u32 = 6;
const REMOVE: u32 = 7;

impl Txn<'_> {
    /// The task that was begun for a name.
    pub(crate) fn begun(&self, dir: Ino, name: &Name) -> FsResult<Option<(PersistTask, Out)>> {
        let Some(bytes) = self.key(&keys::begun(dir, name))? else { return Ok(None) };
        let (task, left) = decode(&bytes)?;
        let out = out((dir, name.clone()), left, &task);
        Ok(Some((task, out)))
    }

    /// Whether a task was begun for a name.
    pub(crate) fn has_begun(&self, dir: Ino, name: &Name) -> bool {
        let key = keys::begun(dir, name);
        self.has_changed_key(&key).unwrap_or_else(|| self.shared.begun.read().contains(&key))
    }

    /// Notes that a task is handed out.
    pub(crate) fn begin(&mut self, out: &Out, task: &PersistTask) {
        let (dir, name) = &out.slot;
        let value: Value = Some(encode(task, out.left.as_ref()).into());
        self.put_key(keys::begun(*dir, name), value);
    }

    /// Notes that its end is known.
    pub(crate) fn end(&mut self, (dir, name): &Slot) {
        self.put_key(keys::begun(*dir, name), None);
    }
}

/// Everything the last process had begun goes to the queue as what is in doubt.
pub(crate) fn load_begun(shared: &Shared) -> FsResult<()> {
    let (from, until) = keys::all(keys::BEGUN);
    for (key, value) in shared.view.engine.scan(&from, &until, usize::MAX)? {
        let Some(slot) = keys::slot(&key) else { continue };
        let (task, left) = decode(&value)?;
        let out = out(slot, left, &task);
        shared.note_begun(&key, true);
        shared.queue.doubt((task, out));
    }
    Ok(())
}

/// What a task occupies.
pub(crate) fn out(slot: Slot, left: Option<Slot>, task: &PersistTask) -> Out {
    let (mut keys, mut tree) = (Vec::new(), false);
    match &task.work {
        PersistWork::Put { to: key, .. }
        | PersistWork::MakeDir { key, .. }
        | PersistWork::MakeSpecial { key, .. } => {
            keys.push(key.clone());
        }
        PersistWork::SetAttr { key, .. } => keys.push(key.clone()),
        PersistWork::Link { existing, to, .. } => keys.extend([existing.clone(), to.clone()]),
        PersistWork::Move { from, to, kind, .. } => {
            keys.extend([from.clone(), to.clone()]);
            tree = *kind == FileKind::Directory;
        }
        PersistWork::Remove { key, kind, .. } => {
            keys.push(key.clone());
            tree = *kind == FileKind::Directory;
        }
    }
    Out { slot, left, footprint: Footprint { mount: task.mount, inos: vec![task.ino], keys, tree } }
}

fn encode(task: &PersistTask, left: Option<&Slot>) -> Vec<u8> {
    let mut stored = proto::Begun {
        mount: task.mount.0,
        ino: task.ino.0,
        generation: task.generation.0,
        left_parent: left.map(|(dir, _)| dir.0),
        left_name: left.map(|(_, name)| name.as_bytes().to_vec()),
        ..proto::Begun::default()
    };
    let bytes = |key: &UfsKey| key.as_bytes().to_vec();
    let version = |version: &Option<UfsVersion>| version.as_ref().map(|version| version.as_bytes().to_vec());
    match &task.work {
        PersistWork::Put { content, to, expect, attr } => {
            (stored.work, stored.key, stored.expect) = (PUT, bytes(to), version(expect));
            (stored.attr, stored.content) = (Some(attr.into()), Some(content.into()));
        }
        PersistWork::MakeDir { key, attr } => {
            (stored.work, stored.key, stored.attr) = (MAKE_DIR, bytes(key), Some(attr.into()));
        }
        PersistWork::MakeSpecial { key, expect, attr } => {
            (stored.work, stored.key, stored.attr) = (MAKE_SPECIAL, bytes(key), Some(attr.into()));
            stored.expect = version(expect);
        }
        PersistWork::Link { existing, to, expect } => {
            (stored.work, stored.key, stored.from) = (LINK, bytes(to), Some(bytes(existing)));
            stored.expect = version(expect);
        }
        PersistWork::Move { from, to, kind, version: of, replaces } => {
            (stored.work, stored.key, stored.from) = (MOVE, bytes(to), Some(bytes(from)));
            (stored.kind, stored.version, stored.expect) = (kind_code(*kind), version(of), version(replaces));
        }
        PersistWork::SetAttr { key, kind, attr } => {
            (stored.work, stored.key, stored.attr) = (SET_ATTR, bytes(key), Some(attr.into()));
            stored.kind = kind_code(*kind);
        }
        PersistWork::Remove { key, kind, expect } => {
            (stored.work, stored.key, stored.kind) = (REMOVE, bytes(key), kind_code(*kind));
            stored.expect = version(expect);
        }
    }
    stored.encode_to_vec()
}

fn decode(bytes: &[u8]) -> FsResult<(PersistTask, Option<Slot>)> {
    let stored = proto::Begun::decode(bytes).map_err(corrupt)?;
    let left = slot_of(stored.left_parent, stored.left_name)?;
    let (mount, ino, generation) = (MountId(stored.mount), Ino(stored.ino), Generation(stored.generation));
    let key = UfsKey::new(stored.key).map_err(corrupt)?;
    let from = stored.from.map(UfsKey::new).transpose().map_err(corrupt)?;
    let from = from.ok_or_else(|| corrupt("a task says not from where"));
    let attr = stored.attr.map(UfsAttr::try_from).transpose()?;
    let attr = attr.ok_or_else(|| corrupt("a task has no attributes"));
    let expect = stored.expect.map(UfsVersion::new);
    let work = match stored.work {
        PUT => {
            let content = stored.content.ok_or_else(|| corrupt("a put has no content"))?;
            let content = content.locate(ino, mount, generation)?;
            PersistWork::Put { content, to: key, expect, attr: attr? }
        }
        MAKE_DIR => PersistWork::MakeDir { key, attr: attr? },
        MAKE_SPECIAL => PersistWork::MakeSpecial { key, expect, attr: attr? },
        LINK => PersistWork::Link { existing: from?, to: key, expect },
        MOVE => {
            let (kind, version) = (kind_of(stored.kind)?, stored.version.map(UfsVersion::new));
            PersistWork::Move { from: from?, to: key, kind, version, replaces: expect }
        }
        SET_ATTR => PersistWork::SetAttr { key, kind: kind_of(stored.kind)?, attr: attr? },
        REMOVE => PersistWork::Remove { key, kind: kind_of(stored.kind)?, expect },
        other => return Err(corrupt(format!("{other} is no kind of task"))),
    };
    Ok((PersistTask { id: 0, mount, ino, generation, again: true, believed: Duration::ZERO, work }, left))
}

impl From<&UfsAttr> for proto::UfsAttr {
    fn from(attr: &UfsAttr) -> Self {
        Self {
            kind: kind_code(attr.kind),
            size: attr.size,
            mtime: Some(attr.mtime.into()),
            version: attr.version.as_bytes().to_vec(),
            mode: attr.mode.map(u32::from),
            uid: attr.owner.map(|(uid, _)| uid),
            gid: attr.owner.map(|(_, gid)| gid),
            link_target: attr.link_target.as_ref().map(|target| target.to_vec()),
        }
    }
}

impl TryFrom<proto::UfsAttr> for UfsAttr {
    type Error = forebay_types::FsError;

    fn try_from(stored: proto::UfsAttr) -> FsResult<Self> {
        Ok(Self {
            kind: kind_of(stored.kind)?,
            size: stored.size,
            mtime: stored.mtime.unwrap_or_default().into(),
            version: UfsVersion::new(stored.version),
            mode: stored.mode.map(u16::try_from).transpose().map_err(corrupt)?,
            owner: stored.uid.zip(stored.gid),
            link_target: stored.link_target.map(Into::into),
            links: None,
        })
    }
}

impl From<&ContentLocation> for proto::Content {
    fn from(content: &ContentLocation) -> Self {
        Self {
            ufs_key: content.ufs.as_ref().map(|(key, _)| key.as_bytes().to_vec()),
            ufs_version: content.ufs.as_ref().map(|(_, version)| version.as_bytes().to_vec()),
            extent: content.extent.map(|extent| extent.0),
            size: content.size,
        }
    }
}

impl proto::Content {
    fn locate(self, ino: Ino, mount: MountId, generation: Generation) -> FsResult<ContentLocation> {
        let key = self.ufs_key.map(UfsKey::new).transpose().map_err(corrupt)?;
        let ufs = key.zip(self.ufs_version.map(UfsVersion::new));
        let extent = self.extent.map(ExtentId);
        Ok(ContentLocation { ino, mount, ufs, extent, size: self.size, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::TimeSpec;
    use proptest::prelude::*;

    fn attr(kind: FileKind) -> UfsAttr {
        UfsAttr {
            kind,
            size: 7,
            mtime: TimeSpec { secs: -3, nanos: 5 },
            version: UfsVersion::new(*b"v"),
            mode: Some(0o4755),
            owner: Some((1, 2)),
            link_target: Some((*b"target").into()),
            links: None,
        }
    }

    fn tasks() -> Vec<PersistTask> {
        let key = |text: &str| UfsKey::new(text.as_bytes()).unwrap();
        let (mount, ino, generation) = (MountId(3), Ino(4), Generation(5));
        let some = || Some(UfsVersion::new(*b"w"));
        let ufs = Some((key("old"), UfsVersion::new(*b"x")));
        let content = ContentLocation { ino, mount, ufs, extent: Some(ExtentId(6)), size: 8, generation };
        let regular = || attr(FileKind::Regular);
        let kind = FileKind::Directory;
        let works = vec![
            PersistWork::Put { content, to: key("a/b"), expect: some(), attr: regular() },
            PersistWork::MakeDir { key: key("d"), attr: attr(kind) },
            PersistWork::MakeSpecial { key: key("l"), expect: None, attr: attr(FileKind::Symlink) },
            PersistWork::Link { existing: key("a"), to: key("b"), expect: some() },
            PersistWork::Move { from: key("a"), to: key("b"), kind, version: None, replaces: None },
            PersistWork::SetAttr { key: key("a"), kind, attr: regular() },
            PersistWork::Remove { key: key("a"), kind, expect: some() },
        ];
        let task =
            |work| PersistTask { id: 0, mount, ino, generation, again: true, believed: Duration::ZERO, work };
        works.into_iter().map(task).collect()
    }

    #[test]
    fn tasks_of_all_kinds_come_back_as_they_went() {
        for task in tasks() {
            let left = Some((Ino(9), Name::new(*b"left").unwrap()));
            assert_eq!(decode(&encode(&task, left.as_ref())).unwrap(), (task.clone(), left));
            assert_eq!(decode(&encode(&task, None)).unwrap(), (task, None));
        }
    }

    proptest! {
        #[test]
        fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_flipped_byte_is_refused_or_another_task(n in 0_usize..7, at in any::<usize>(), bit in 0_u8..8) {
            let mut bytes = encode(&tasks()[n], None);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes);
        }
    }
}
