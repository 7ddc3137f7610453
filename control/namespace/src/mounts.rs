//! The mount table: which UFS stands where, and what applies to its files.
//!
//! **Owns** [`MountSpec`], [`Policy`], [`PolicyChange`] and the table of mounts in memory, read on every
//! lookup and replaced whole by the home. **Never does** anything to the tree: a mount's root is an inode and
//! its name a dentry like any other.

use crate::proto;
use crate::record::corrupt;
use forebay_types::{
    Admission, ByteSize, FsResult, HumanDuration, Ino, MountId, PersistOrder, Placement, ReadMode, WriteMode,
};
use parking_lot::RwLock;
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// How long cached bytes are kept after their last use; `None`: until room is needed.
    pub ttl: Option<HumanDuration>,
    /// Cached bytes are never evicted.
    pub pin: bool,
    /// What is evicted first: lower before higher.
    pub priority: i32,
    /// The most bytes cached.
    pub quota: Option<ByteSize>,
    /// How long what the UFS said about names and attributes is believed.
    pub metadata_ttl: HumanDuration,
    /// Every change is refused.
    pub read_only: bool,
    /// Which cold data may enter the cache.
    pub admission: Admission,
    /// In what order dirty files reach the UFS.
    pub persist_order: PersistOrder,
    /// How long a closed file waits before it is carried.
    pub persist_delay: HumanDuration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            write_mode: WriteMode::default(),
            read_mode: ReadMode::default(),
            placement: Placement::default(),
            replicas: 1,
            ttl: None,
            pin: false,
            priority: 0,
            quota: None,
            metadata_ttl: HumanDuration(Duration::from_secs(60)),
            read_only: false,
            admission: Admission::default(),
            persist_order: PersistOrder::default(),
            persist_delay: HumanDuration(Duration::from_secs(1)),
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
    pub persist_order: Option<PersistOrder>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persist_delay: Option<HumanDuration>,
}

impl PolicyChange {
    fn applied_to(&self, base: &Policy) -> Policy {
        Policy {
            write_mode: self.write_mode.unwrap_or(base.write_mode),
            read_mode: self.read_mode.unwrap_or(base.read_mode),
            placement: self.placement.unwrap_or(base.placement),
            replicas: self.replicas.unwrap_or(base.replicas),
            ttl: self.ttl.or(base.ttl),
            pin: self.pin.unwrap_or(base.pin),
            priority: self.priority.unwrap_or(base.priority),
            quota: self.quota.or(base.quota),
            metadata_ttl: self.metadata_ttl.unwrap_or(base.metadata_ttl),
            read_only: self.read_only.unwrap_or(base.read_only),
            admission: self.admission.unwrap_or(base.admission),
            persist_order: self.persist_order.unwrap_or(base.persist_order),
            persist_delay: self.persist_delay.unwrap_or(base.persist_delay),
        }
    }
}

/// A mount as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Where it stands: an absolute path in the name space, `/` for the root mount.
    pub path: String,
    /// The UFS as the user named it; opaque here.
    pub source: String,
    /// What applies to its files.
    pub policy: Policy,
    /// What prefixes change of that: paths below the mount without slashes around, longest match first.
    pub prefixes: BTreeMap<String, PolicyChange>,
}

impl MountSpec {
    /// A mount with the default policy.
    pub fn new(path: impl Into<String>, source: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            source: source.into(),
            policy: Policy::default(),
            prefixes: BTreeMap::new(),
        }
    }
}

/// A mount as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, never reused.
    pub id: MountId,
    /// Its root directory.
    pub root: Ino,
    /// What was asked for.
    pub spec: MountSpec,
}

#[derive(Serialize, Deserialize)]
struct StoredPolicies {
    policy: Policy,
    prefixes: BTreeMap<String, PolicyChange>,
}

impl Mount {
    /// The policy of what lies at `path` below the mount: that of the longest prefix that holds it.
    pub(crate) fn policy_at(&self, path: &str) -> Policy {
        let holds = |prefix: &str| {
            path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let longest = self
            .spec
            .prefixes
            .iter()
            .filter(|(prefix, _)| holds(prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        longest.map_or_else(|| self.spec.policy.clone(), |(_, change)| change.applied_to(&self.spec.policy))
    }

    pub(crate) fn metadata_ttl_ms(&self) -> u64 {
        self.spec.policy.metadata_ttl.0.as_millis() as u64
    }

    pub(crate) fn is_transient(&self) -> bool {
        self.spec.policy.write_mode == WriteMode::Transient
    }

    pub(crate) fn encode(&self) -> FsResult<Box<[u8]>> {
        let policies =
            StoredPolicies { policy: self.spec.policy.clone(), prefixes: self.spec.prefixes.clone() };
        let stored = proto::Mount {
            path: self.spec.path.clone(),
            source: self.spec.source.clone(),
            root: self.root.0,
            policies: serde_json::to_string(&policies).map_err(corrupt)?,
        };
        Ok(stored.encode_to_vec().into())
    }

    pub(crate) fn decode(id: MountId, bytes: &[u8]) -> FsResult<Self> {
        let stored = proto::Mount::decode(bytes).map_err(corrupt)?;
        let StoredPolicies { policy, prefixes } = serde_json::from_str(&stored.policies).map_err(corrupt)?;
        let spec = MountSpec { path: stored.path, source: stored.source, policy, prefixes };
        Ok(Self { id, root: Ino(stored.root), spec })
    }
}

/// The mounts in memory.
#[derive(Default)]
pub(crate) struct Mounts(RwLock<Arc<BTreeMap<MountId, Arc<Mount>>>>);

impl Mounts {
    pub(crate) fn get(&self, id: MountId) -> Option<Arc<Mount>> {
        self.0.read().get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Mount>> {
        self.0.read().values().cloned().collect()
    }

    pub(crate) fn set(&self, mount: Mount) {
        Arc::make_mut(&mut *self.0.write()).insert(mount.id, Arc::new(mount));
    }

    pub(crate) fn remove(&self, id: MountId) {
        Arc::make_mut(&mut *self.0.write()).remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_decides() {
        let mut spec = MountSpec::new("/", "file:///data");
        let pinned = |pin| PolicyChange { pin: Some(pin), ..Default::default() };
        spec.prefixes.insert("a".into(), pinned(true));
        spec.prefixes.insert("a/b".into(), pinned(false));
        let mount = Mount { id: MountId(4), root: Ino(9), spec };
        let pins = ["", "a", "ab", "a/x", "a/b", "a/b/c", "a/bc"].map(|path| mount.policy_at(path).pin);
        assert_eq!(pins, [false, true, false, true, false, false, true]);
        assert_eq!(Mount::decode(MountId(4), &mount.encode().unwrap()).unwrap(), mount);
    }
}
