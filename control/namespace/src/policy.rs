//! What applies to a file, and how a mount and its prefixes decide about it.
//!
//! **Owns** [`Policy`] and [`PolicyChange`], and the walk from a record up to the root of its mount that tells which
//! prefix holds it. **Never does** what a policy asks for: each part reads its own fields.
//!
//! **Why this shape:** prefixes are paths, and a record knows its first name only. Most mounts have no prefixes, so
//! the walk is made only where one of them could matter.

use crate::mounts::Mount;
use crate::record::InodeRecord;
use forebay_types::{
    Admission, ByteSize, FsResult, HumanDuration, Ino, PersistOrder, Placement, ReadMode, TtlAction,
    WriteMode,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// What applies to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What a write promises, and where its bytes end.
    pub write_mode: WriteMode,
    /// Whether reads leave their bytes in the cache.
    pub read_mode: ReadMode,
    /// Which nodes new bytes go to.
    pub placement: Placement,
    /// How many nodes hold dirty bytes.
    pub replicas: u8,
    /// How long until `ttl_action` is done to a file; `None`: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<HumanDuration>,
    /// What is done when `ttl` is over.
    pub ttl_action: TtlAction,
    /// All bytes are brought here and never evicted.
    pub pin: bool,
    /// What is evicted first: lower before higher.
    pub priority: i32,
    /// The most bytes kept here: clean ones are evicted beyond it, and when those that are nowhere else reach it,
    /// further writes are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteSize>,
    /// How long what the UFS said about names and attributes is believed.
    pub metadata_ttl: HumanDuration,
    /// Every change is refused.
    pub read_only: bool,
    /// Which cold data may enter the cache.
    pub admission: Admission,
    /// A close of a written file returns when it is durable here, as `fsync` does.
    pub sync_on_close: bool,
    /// In what order dirty files reach the UFS.
    pub persist_order: PersistOrder,
    /// How long a closed file waits before it is carried.
    pub persist_delay: HumanDuration,
    /// How much longer a large one waits while others are being written, and a small one while many are made.
    pub persist_yield: HumanDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            write_mode: WriteMode::default(),
            read_mode: ReadMode::default(),
            placement: Placement::default(),
            replicas: 1,
            ttl: None,
            ttl_action: TtlAction::default(),
            pin: false,
            priority: 0,
            quota: None,
            metadata_ttl: HumanDuration(Duration::from_secs(60)),
            read_only: false,
            admission: Admission::default(),
            sync_on_close: false,
            persist_order: PersistOrder::default(),
            persist_delay: HumanDuration(Duration::from_secs(1)),
            persist_yield: HumanDuration(Duration::from_secs(30)),
        }
    }
}

/// What a prefix of a mount changes of the mount's policy; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the one of the same name in Policy")]
pub struct PolicyChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_mode: Option<WriteMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_mode: Option<ReadMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_action: Option<TtlAction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_ttl: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_on_close: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist_order: Option<PersistOrder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist_delay: Option<HumanDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist_yield: Option<HumanDuration>,
}

impl PolicyChange {
    /// The policy of what lies below the prefix.
    pub fn applied_to(&self, base: &Policy) -> Policy {
        Policy {
            write_mode: self.write_mode.unwrap_or(base.write_mode),
            read_mode: self.read_mode.unwrap_or(base.read_mode),
            placement: self.placement.unwrap_or(base.placement),
            replicas: self.replicas.unwrap_or(base.replicas),
            ttl: self.ttl.or(base.ttl),
            ttl_action: self.ttl_action.unwrap_or(base.ttl_action),
            pin: self.pin.unwrap_or(base.pin),
            priority: self.priority.unwrap_or(base.priority),
            quota: self.quota.or(base.quota),
            metadata_ttl: self.metadata_ttl.unwrap_or(base.metadata_ttl),
            read_only: self.read_only.unwrap_or(base.read_only),
            admission: self.admission.unwrap_or(base.admission),
            sync_on_close: self.sync_on_close.unwrap_or(base.sync_on_close),
            persist_order: self.persist_order.unwrap_or(base.persist_order),
            persist_delay: self.persist_delay.unwrap_or(base.persist_delay),
            persist_yield: self.persist_yield.unwrap_or(base.persist_yield),
        }
    }
}

/// Whether `path` is `prefix` or lies below it. Everything lies below the empty one.
fn holds(prefix: &str, path: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Mount {
    /// The policy of what lies at `path` below the mount: that of the longest prefix that holds it.
    pub(crate) fn policy_at(&self, path: &str) -> Policy {
        let holding = self.spec.prefixes.iter().filter(|(prefix, _)| holds(prefix, path));
        let longest = holding.max_by_key(|(prefix, _)| prefix.len());
        longest.map_or_else(|| self.spec.policy.clone(), |(_, change)| change.applied_to(&self.spec.policy))
    }

    /// The quotas that bind at `path`: the mount's (under the empty prefix), and those of all prefixes that hold it.
    pub(crate) fn quotas_at(&self, path: &str) -> Vec<(String, ByteSize)> {
        let whole = self.spec.policy.quota.map(|quota| (String::new(), quota));
        let holding = self.spec.prefixes.iter().filter(|(prefix, _)| holds(prefix, path));
        let below = holding.filter_map(|(prefix, change)| Some((prefix.clone(), change.quota?)));
        whole.into_iter().chain(below).collect()
    }

    /// Where a record is below the mount's root, without slashes around. `get` finds the record of a directory.
    pub(crate) fn path_of(
        &self,
        record: &InodeRecord,
        mut get: impl FnMut(Ino) -> FsResult<Arc<InodeRecord>>,
    ) -> FsResult<String> {
        let mut names = Vec::new();
        let mut at = record.at.clone();
        while let Some((parent, name)) = at {
            let lossy = || String::from_utf8_lossy(name.as_bytes()).into_owned();
            if parent == self.root {
                names.push(lossy());
                break;
            }
            let up = get(parent)?;
            if up.mount != self.id {
                // The name of the mount's root is one of the mount around it.
                break;
            }
            names.push(lossy());
            at = up.at.clone();
        }
        names.reverse();
        Ok(names.join("/"))
    }

    /// The policy of a record.
    pub(crate) fn policy_of(
        &self,
        record: &InodeRecord,
        get: impl FnMut(Ino) -> FsResult<Arc<InodeRecord>>,
    ) -> FsResult<Cow<'_, Policy>> {
        if self.spec.prefixes.is_empty() {
            return Ok(Cow::Borrowed(&self.spec.policy));
        }
        Ok(Cow::Owned(self.policy_at(&self.path_of(record, get)?)))
    }

    /// Whether what a record stands for stays here for good.
    pub(crate) fn is_transient_at(
        &self,
        record: &InodeRecord,
        get: impl FnMut(Ino) -> FsResult<Arc<InodeRecord>>,
    ) -> FsResult<bool> {
        if !self.spec.prefixes.values().any(|change| change.write_mode.is_some()) {
            return Ok(self.is_transient());
        }
        Ok(self.policy_of(record, get)?.write_mode == WriteMode::Transient)
    }

    /// Whether some of what lies at or below `path` stays here for good and some does not, by a prefix of its own.
    pub(crate) fn is_parted_at(&self, path: &str) -> bool {
        let parts = |prefix: &String, change: &PolicyChange| {
            let transient = change.write_mode.map(|mode| mode == WriteMode::Transient);
            holds(path, prefix) && transient.is_some_and(|transient| transient != self.is_transient())
        };
        self.spec.prefixes.iter().any(|(prefix, change)| parts(prefix, change))
    }

    pub(crate) fn is_transient(&self) -> bool {
        self.spec.policy.write_mode == WriteMode::Transient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mounts::MountSpec;
    use forebay_types::MountId;

    fn mount(prefixes: impl IntoIterator<Item = (&'static str, PolicyChange)>) -> Mount {
        let mut spec = MountSpec::new("/", "file:///data");
        spec.prefixes = prefixes.into_iter().map(|(prefix, change)| (prefix.to_owned(), change)).collect();
        Mount { id: MountId(4), root: Ino(9), spec }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let pinned = |pin| PolicyChange { pin: Some(pin), ..Default::default() };
        let mount = mount([("a", pinned(true)), ("a/b", pinned(false))]);
        let pins = ["", "a", "ab", "a/x", "a/b", "a/b/c", "a/bc"].map(|path| mount.policy_at(path).pin);
        assert_eq!(pins, [false, true, false, true, false, false, true]);
        assert_eq!(Mount::decode(MountId(4), &mount.encode().unwrap()).unwrap(), mount);
    }

    #[test]
    fn every_quota_above_a_path_binds() {
        let quota = |mib| PolicyChange { quota: Some(ByteSize::mib(mib)), ..Default::default() };
        let mut mount = mount([("a", quota(5)), ("a/b", quota(1))]);
        mount.spec.policy.quota = Some(ByteSize::mib(9));
        let at = |path: &str| mount.quotas_at(path).into_iter().map(|(prefix, _)| prefix).collect::<Vec<_>>();
        assert_eq!(
            (at("x"), at("a/x"), at("a/b")),
            (
                vec![String::new()],
                vec![String::new(), "a".into()],
                vec![String::new(), "a".into(), "a/b".into()]
            )
        );
    }

    #[test]
    fn a_directory_above_a_transient_prefix_is_parted() {
        let mode = |mode| PolicyChange { write_mode: Some(mode), ..Default::default() };
        let mount = mount([("a/scratch", mode(WriteMode::Transient)), ("b", mode(WriteMode::Through))]);
        let parted = ["", "a", "a/scratch", "a/scratch/x", "a/s", "b"].map(|path| mount.is_parted_at(path));
        assert_eq!(parted, [true, true, true, false, false, false]);
    }
}
