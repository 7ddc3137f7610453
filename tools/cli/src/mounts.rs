//! The under file systems of a running node: those it was started with, and those that are added and taken away.
//!
//! **Owns** the order in which a mount comes and goes in all parts that must know of it: the store is reached first,
//! then the name space has it, then the data path, then it is written down, and the kernel is told last. A step that
//! fails takes back the ones before it.
//!
//! **Never does** I/O on files. What is open or dirty in a mount keeps it where it is.

use crate::asked::{AskedFile, is_within};
use crate::config::{self, Mount};
use crate::failure::{Failure, Outcome};
use crate::plan::{Plan, PlannedMount};
use crate::walk;
use forebay_client::{Client, ReadPolicy};
use forebay_fuse::{FuseMount, Notice};
use forebay_namespace::{Mount as Mounted, MountSpec, Namespace};
use forebay_shard::ShardHandle;
use forebay_types::{FsErrorKind, MountId, Name, WriteMode};
use forebay_ufs::Ufs;
use forebay_vfs::Vfs;
use forebay_worker::UfsTable;
use serde::Serialize;
use serde_json::{Value, json};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many names are told of those that stand in the way.
const NAMED_MAX: usize = 5;

/// Where a mount comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Origin {
    /// The daemon was started with it.
    Configured,
    /// It was added while the daemon ran, or one before it.
    Added,
}

/// An under file system that was reached, to be mounted.
pub(crate) struct Reached {
    /// Where, and what applies.
    pub(crate) planned: PlannedMount,
    /// The way to it.
    pub(crate) store: Arc<dyn Ufs>,
}

impl Reached {
    /// Reaches it.
    ///
    /// # Errors
    /// It cannot be, with the remedy.
    pub(crate) async fn of(planned: PlannedMount) -> Outcome<Self> {
        let store = forebay_ufs::open(&planned.source, &planned.options).await.map_err(Failure::new)?;
        Ok(Self { planned, store })
    }
}

/// The mounts.
pub(crate) struct Mounts {
    pub(crate) mount: Arc<FuseMount>,
    pub(crate) vfs: Arc<Vfs>,
    pub(crate) names: Arc<Namespace>,
    pub(crate) client: Arc<Client>,
    pub(crate) ufs: UfsTable,
    pub(crate) asked: Arc<AskedFile>,
    pub(crate) shard: ShardHandle,
    /// Directories that no under file system may overlap, and what they are.
    pub(crate) apart: Vec<(&'static str, PathBuf)>,
    /// One change at a time.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

/// What the name space is told of a mount.
pub(crate) fn spec_of(planned: &PlannedMount) -> MountSpec {
    let settings = &planned.settings;
    MountSpec {
        policy: settings.policy.clone(),
        prefixes: settings.prefixes.clone(),
        ..MountSpec::new(settings.at.clone(), planned.source.clone())
    }
}

/// Brings the mounts below the root to what was asked for: those that are gone from there go, new ones come, the ones
/// above before the ones below. For the start, when nothing is served yet.
///
/// # Errors
/// A mount that cannot be put or taken away, with the remedy.
pub(crate) async fn settle(names: &Namespace, ufs: &UfsTable, wanted: Vec<Reached>) -> Outcome<()> {
    let mut known: Vec<_> = names.mounts().into_iter().filter(|known| known.id != MountId::ROOT).collect();
    known.sort_by(|a, b| b.spec.path.cmp(&a.spec.path));
    for known in known {
        let same =
            |m: &Reached| m.planned.settings.at == known.spec.path && m.planned.source == known.spec.source;
        if !wanted.iter().any(same) {
            names.remove_mount(known.id).await.map_err(|error| {
                let at = &known.spec.path;
                Failure::new(error.during(format!("take away the mount at {at}"))).remedy(format!(
                    "put {} back at {at}, start, and run `forebay fs persist --wait` on it first",
                    known.spec.source
                ))
            })?;
        }
    }
    for Reached { planned, store } in wanted {
        let spec = spec_of(&planned);
        let known = names.mounts().into_iter().find(|known| known.spec.path == spec.path);
        let settled = match known {
            Some(known) => names.set_policies(known.id, spec).await.map(|()| known.id),
            None => names.add_mount(spec).await,
        };
        let at = &planned.settings.at;
        ufs.insert(settled.map_err(|error| cannot_add(at, &error))?, store);
    }
    Ok(())
}

/// Tells the data path how the bytes of each mount are treated by reads.
pub(crate) fn set_read_policies(names: &Namespace, client: &Client) {
    for mount in names.mounts() {
        let policy = &mount.spec.policy;
        let (mode, admission) = (policy.read_mode, policy.admission);
        let reads = ReadPolicy { mode, admission, priority: Some(policy.priority) };
        client.set_read_policy(mount.id, reads);
    }
}

fn cannot_add(at: &str, error: &forebay_types::FsError) -> Failure {
    let failure = Failure::new(format!("cannot mount at {at}: {error}"));
    match error.kind() {
        FsErrorKind::NotFound => failure.remedy("make the directory above it first"),
        FsErrorKind::Exists => {
            failure.remedy("a mount stands there: take it away first, or choose another path")
        }
        FsErrorKind::NotEmpty => failure
            .remedy("something in it was made or changed here: choose a path with nothing of ours in it"),
        FsErrorKind::NotADirectory => failure.remedy("choose a directory, or a name that is free"),
        _ => failure,
    }
}

impl Mounts {
    /// Adds a mount, from now on and after every restart.
    ///
    /// # Errors
    /// What stands in the way, with the remedy; nothing has changed then.
    pub(crate) async fn add(&self, mount: Mount) -> Outcome<Value> {
        let _turn = self.turn.lock().await;
        let planned = Plan::check_mount(&mount)?;
        let apart: Vec<_> = self.apart.iter().map(|(what, dir)| (*what, dir.as_path())).collect();
        planned.refuse_overlap(&apart)?;
        let reached = Reached::of(planned).await?;
        let spec = spec_of(&reached.planned);
        let at = spec.path.clone();
        let id = self.names.add_mount(spec).await.map_err(|error| cannot_add(&at, &error))?;
        self.ufs.insert(id, reached.store);
        let planned = reached.planned;
        let written = self.write_down(move |asked| asked.mounts.push(planned.settings.clone())).await;
        if let Err(failure) = written {
            self.forget(id).await;
            return Err(failure);
        }
        set_read_policies(&self.names, &self.client);
        self.tell_kernel(&at).await;
        tracing::info!(at, ufs = mount.ufs, "mounted");
        Ok(json!({ "at": at, "ufs": mount.ufs }))
    }

    /// Takes back what was added a moment ago.
    async fn forget(&self, id: MountId) {
        self.ufs.remove(id);
        if let Err(error) = self.names.remove_mount(id).await {
            tracing::error!(%error, "a mount that could not be written down goes with the next restart");
        }
    }

    /// Takes a mount away that was added.
    ///
    /// # Errors
    /// What in it is open or dirty, or that it was not added; it stays then.
    pub(crate) async fn remove(&self, at: &str) -> Outcome<Value> {
        let _turn = self.turn.lock().await;
        let known = self.at(at).ok_or_else(|| {
            Failure::new(format!("nothing is mounted at {at}"))
                .remedy("`forebay mount list` shows what is, and where")
        })?;
        if self.origin(at) != Origin::Added {
            return Err(Failure::new(format!(
                "the mount at {at} is part of what the daemon was started with"
            ))
            .remedy("take it out of the configuration and start again"));
        }
        self.refuse_if_used(at).await?;
        let removed = self.names.remove_mount(known.id).await;
        removed.map_err(|error| {
            Failure::new(format!("cannot take away the mount at {at}: {error}")).remedy(
                "take away the mounts below it first; what was written here stays until it is persisted",
            )
        })?;
        self.ufs.remove(known.id);
        let gone = at.to_owned();
        self.write_down(move |asked| asked.mounts.retain(|mount| mount.at != gone)).await?;
        self.tell_kernel(at).await;
        tracing::info!(at, ufs = known.spec.source, "taken away");
        Ok(json!({ "at": at, "ufs": known.spec.source }))
    }

    /// Refuses while anything in a mount is dirty or in use, and says what.
    async fn refuse_if_used(&self, at: &str) -> Outcome<()> {
        let place = Path::new(at.trim_start_matches('/'));
        let users = {
            let dir = self.mount.dir().join(place);
            let looked = tokio::task::spawn_blocking(move || forebay_fuse::users_of(&dir)).await;
            looked.map_err(|error| Failure::new(format!("cannot see who uses {at}: {error}")))?
        };
        if !users.0.is_empty() {
            return Err(Failure::new(format!("the mount at {at} is in use by {users}"))
                .remedy("close these files, leave these directories, and try again"));
        }
        let queued = self.names.queued_below(at.as_bytes()).await.map_err(Failure::new)?;
        let stuck = queued.iter().filter_map(|name| Some((name, name.failure.as_ref()?)));
        let why = stuck.map(|(name, why)| format!("{}: {why}", name.path.escape_ascii()));
        let why: Vec<_> = why.take(NAMED_MAX).collect();
        if queued.is_empty() {
            return Ok(());
        }
        let named: Vec<_> =
            queued.iter().take(NAMED_MAX).map(|name| name.path.escape_ascii().to_string()).collect();
        let cause =
            format!("{} names in the mount at {at} are not persisted: {}", queued.len(), named.join(", "));
        let failure =
            Failure::new(if why.is_empty() { cause } else { format!("{cause} ({})", why.join("; ")) });
        Err(failure
            .remedy(format!("run `forebay fs persist --wait {}`", self.mount.dir().join(place).display())))
    }

    /// Changes what applies to the files at or below `path`, at once.
    ///
    /// # Errors
    /// No such policy, or one that cannot change under files that are there.
    pub(crate) async fn set(&self, path: &str, changes: &[(String, String)]) -> Outcome<Value> {
        let _turn = self.turn.lock().await;
        let known = self.holding(path);
        let below = path[known.spec.path.trim_end_matches('/').len()..].trim_matches('/').to_owned();
        let mut spec = known.spec.clone();
        if below.is_empty() {
            spec.policy = config::with_policy(&spec.policy, changes)?;
        } else {
            let change = config::with_policy(&spec.prefixes.remove(&below).unwrap_or_default(), changes)?;
            if change != forebay_namespace::PolicyChange::default() {
                spec.prefixes.insert(below.clone(), change);
            }
        }
        config::refuse_unsupported(&spec.policy, spec.prefixes.values())?;
        self.refuse_turning_transient(&known, &spec, path).await?;
        let at = spec.path.clone();
        let set = self.names.set_policies(known.id, spec.clone()).await;
        set.map_err(|error| Failure::new(format!("cannot change what applies to {path}: {error}")))?;
        set_read_policies(&self.names, &self.client);
        let lasts = self.origin(&at) == Origin::Added;
        if lasts {
            let (policy, prefixes) = (spec.policy.clone(), spec.prefixes.clone());
            let changed = at.clone();
            self.write_down(move |asked| {
                if let Some(mount) = asked.mounts.iter_mut().find(|mount| mount.at == changed) {
                    (mount.policy, mount.prefixes) = (policy, prefixes);
                }
            })
            .await?;
        }
        let applies = if below.is_empty() { json!(spec.policy) } else { json!(spec.prefixes.get(&below)) };
        let lasts =
            if lasts { "for good" } else { "until the daemon ends: write it into its configuration as well" };
        Ok(json!({ "at": at, "prefix": below, "policy": applies, "lasts": lasts }))
    }

    /// Whether files stay here for good is decided when they are first written: turning it under them would leave
    /// some that are never carried.
    async fn refuse_turning_transient(&self, known: &Mounted, spec: &MountSpec, path: &str) -> Outcome<()> {
        let turns = |mount: &MountSpec| {
            let prefixes =
                mount.prefixes.iter().filter_map(|(prefix, change)| Some((prefix, change.write_mode?)));
            let transient =
                prefixes.filter(|(_, mode)| *mode == WriteMode::Transient).map(|(prefix, _)| prefix.clone());
            (mount.policy.write_mode == WriteMode::Transient, transient.collect::<Vec<_>>())
        };
        if turns(&known.spec) == turns(spec) {
            return Ok(());
        }
        let (vfs, wanted) = (Arc::clone(&self.vfs), path.trim_matches('/').as_bytes().to_vec());
        let found = self.shard.call(move || async move { walk::find(&vfs, &wanted).await.map(|_| ()) }).await;
        match found {
            Ok(Err(error)) if error.kind() == FsErrorKind::NotFound => Ok(()),
            _ => Err(Failure::new(format!(
                "write_mode cannot turn to or from transient while {path} is there"
            ))
            .remedy("set it before the directory is made, or mount another under file system there")),
        }
    }

    /// All mounts, with what applies to them and how they are.
    pub(crate) async fn list(&self) -> Outcome<Value> {
        let mut mounts = self.names.mounts();
        mounts.sort_by(|a, b| a.spec.path.cmp(&b.spec.path));
        let mut listed = Vec::new();
        for mount in mounts {
            let at = mount.spec.path.as_str();
            let queued =
                self.names.queued_below(at.trim_end_matches('/').as_bytes()).await.map_err(Failure::new)?;
            let dirty: Vec<_> = queued.iter().filter(|name| name.mount == mount.id).collect();
            listed.push(json!({
                "at": at,
                "ufs": mount.spec.source,
                "origin": self.origin(at),
                "dirty_names": dirty.len(),
                "set_aside": dirty.iter().filter(|name| name.set_aside).count(),
                "policy": mount.spec.policy,
                "prefixes": mount.spec.prefixes,
            }));
        }
        let pins = self.asked.now().pins;
        Ok(json!({ "dir": self.mount.dir(), "mounts": listed, "pins": pins }))
    }

    fn at(&self, at: &str) -> Option<Mounted> {
        self.names.mounts().into_iter().find(|mount| mount.spec.path == at)
    }

    /// The mount that a path lies on.
    fn holding(&self, path: &str) -> Mounted {
        let holds = |mount: &Mounted| {
            let top = mount.spec.path.trim_matches('/');
            is_within(path.trim_matches('/').as_bytes(), top.as_bytes())
        };
        let all = self.names.mounts().into_iter().filter(holds);
        all.max_by_key(|mount| mount.spec.path.len()).expect("everything lies on the mount at the root")
    }

    fn origin(&self, at: &str) -> Origin {
        let added = self.asked.now().mounts.iter().any(|mount| mount.at == at);
        if added { Origin::Added } else { Origin::Configured }
    }

    async fn write_down(
        &self,
        change: impl FnOnce(&mut crate::asked::Asked) + Send + 'static,
    ) -> Outcome<()> {
        let asked = Arc::clone(&self.asked);
        let written = tokio::task::spawn_blocking(move || asked.change(change)).await;
        written.unwrap_or_else(|error| Err(Failure::new(format!("writing it down panicked: {error}"))))
    }

    /// What the kernel knows of the name is no longer so.
    async fn tell_kernel(&self, at: &str) {
        let path = Path::new(at.trim_start_matches('/'));
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return };
        let (vfs, above) = (Arc::clone(&self.vfs), above.as_os_str().as_bytes().to_vec());
        let found =
            self.shard.call(move || async move { walk::find(&vfs, &above).await.map(|dir| dir.ino) }).await;
        if let (Ok(Ok(parent)), Ok(name)) = (found, Name::new(name.as_bytes())) {
            self.mount.notifier().send(Notice::Entry { parent, name });
        }
    }
}
