//! The mount table: which UFS stands where, and what applies to its files.
//!
//! **Owns** [`MountSpec`] and the table of mounts in memory, read on every lookup and replaced whole by the home.
//! **Never does** anything to the tree: a mount's root is an inode and its name a dentry like any other.

use crate::policy::{Policy, PolicyChange};
use crate::proto;
use crate::record::corrupt;
use arc_swap::ArcSwap;
use forebay_types::{FsResult, Ino, MountId};
use prost::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

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

type ById = BTreeMap<MountId, Arc<Mount>>;

/// The mounts in memory. Every lookup reads them, on every core: who reads takes no lock and counts nothing.
#[derive(Default)]
pub(crate) struct Mounts(ArcSwap<ById>);

impl Mounts {
    pub(crate) fn get(&self, id: MountId) -> Option<Arc<Mount>> {
        self.0.load().get(&id).cloned()
    }

    /// What `read` says of a mount.
    pub(crate) fn peek<T>(&self, id: MountId, read: impl FnOnce(&Mount) -> T) -> Option<T> {
        self.0.load().get(&id).map(|mount| read(mount))
    }

    pub(crate) fn all(&self) -> Vec<Arc<Mount>> {
        self.0.load().values().cloned().collect()
    }

    pub(crate) fn set(&self, mount: Mount) {
        let mount = Arc::new(mount);
        self.change(|mounts| drop(mounts.insert(mount.id, Arc::clone(&mount))));
    }

    pub(crate) fn remove(&self, id: MountId) {
        self.change(|mounts| drop(mounts.remove(&id)));
    }

    fn change(&self, change: impl Fn(&mut ById)) {
        self.0.rcu(|mounts| {
            let mut mounts = ById::clone(mounts);
            change(&mut mounts);
            mounts
        });
    }
}
