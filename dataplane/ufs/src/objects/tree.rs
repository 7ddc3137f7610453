//! The file system that is seen in a store of keys.
//!
//! Owns the [`Ufs`] of every object store: what a key of the mount is (file, directory, shadowed object), and
//! the order of requests that keeps each change safe where a store has no transaction. An emptied directory
//! gets its marker before its last file goes, so that a crash between the two leaves it there. Where a store
//! cannot compare and replace in one step, we look just before, with this process's own changes of the key
//! held off; another client may still come between (see docs/UFS.md).

use super::bare::BareObjects;
use super::client::{ListQuery, ObjectClient};
use super::dirs_seen::DirsSeen;
use super::fault::Fault;
use super::keys::{KeySpace, SHADOWED_SUFFIX};
use super::many::OneOfMany;
use super::meta::Meta;
use super::sweep::{Underway, sweep};
use super::upload::{self, Target};
use crate::error::{UfsError, UfsResult};
use crate::options::{Attributes, UfsOptions};
use crate::ufs::{Capabilities, Expect, ListPage, PutAttrs, PutSpec, Ufs, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::limits::OBJECT_KEY_LEN_MAX;
use forebay_types::{Clock, FileKind, PageToken, SystemClock, TimeSpec, UfsAttr, UfsKey, UfsVersion};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};

/// Conditional changes of a key are ordered by one of these.
const KEY_LOCKS: usize = 1024;
/// The longest target of a symbolic link that surely fits into the 2 KiB of user metadata that S3 takes: each
/// byte takes three characters at most, and the other entries need some.
const LINK_TARGET_LEN_MAX: usize = 600;

/// An object store as an under file system.
#[derive(Debug)]
pub(crate) struct ObjectTree {
    pub(super) shared: Arc<Shared>,
    name: String,
    capabilities: Capabilities,
    part_len_min: u64,
}

/// What the calls of a store and its uploads share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) client: Arc<dyn ObjectClient>,
    pub(super) keys: KeySpace,
    /// What a listing tells is all there is.
    pub(super) bare: bool,
    pub(super) one_of_many: OneOfMany,
    locks: Vec<Mutex<()>>,
    pub(super) underway: Underway,
    pub(super) dirs_seen: DirsSeen,
    opened_at: TimeSpec,
}

/// What a key of the mount is in the store.
pub(super) enum Found {
    Nothing,
    /// A file, and the name of its object, which differs from the key's where a directory has that.
    File {
        object: String,
        attr: UfsAttr,
    },
    Directory {
        marker: Option<String>,
    },
}

impl ObjectTree {
    pub(crate) fn new(
        name: String,
        prefix: &str,
        client: Arc<dyn ObjectClient>,
        options: &UfsOptions,
    ) -> Self {
        let bare = options.attributes == Attributes::None;
        let client = if bare { Arc::new(BareObjects(client)) } else { client };
        let limits = client.limits();
        let keys = KeySpace::new(prefix, limits.turned);
        let capabilities = Capabilities {
            modes: !bare,
            owners: !bare,
            times: !bare,
            set_attr: false,
            symlinks: !bare,
            hard_links: false,
            empty_dirs: true,
            parents_needed: false,
            conditional_put: limits.conditional_put,
            rename: false,
            list_attrs: bare,
            copy: true,
            any_bytes: false,
            key_len_max: keys.key_len_max(),
            file_len_max: limits.object_len_max,
        };
        let locks = (0..KEY_LOCKS).map(|_| Mutex::new(())).collect();
        let shared = Shared {
            client,
            keys,
            bare,
            one_of_many: OneOfMany::new(options),
            locks,
            underway: Underway::default(),
            dirs_seen: DirsSeen::default(),
            opened_at: SystemClock.now(),
        };
        let part_len_min = options.part_len_min.as_u64().max(limits.part_len_min);
        Self { shared: Arc::new(shared), name, capabilities, part_len_min }
    }
}

impl Shared {
    /// Looks up what is at `key`, which is not the root: the directory first, since it hides the object.
    pub(super) async fn find(&self, key: &UfsKey) -> UfsResult<Found> {
        let Ok(object) = self.keys.object(key) else { return Ok(Found::Nothing) };
        let (dir, file) = tokio::join!(self.first_below(&object), self.client.head(&object));
        if let Some(first) = dir.map_err(|fault| fault.at(key))? {
            let marker = object + "/";
            return Ok(Found::Directory { marker: (first == marker).then_some(marker) });
        }
        if let Some(found) = file.map_err(|fault| fault.at(key))? {
            return Ok(Found::File { attr: file_attr(&found), object });
        }
        self.find_shadowed(key, &object).await
    }

    /// The object that a directory hides, by the name under which it shows.
    async fn find_shadowed(&self, key: &UfsKey, object: &str) -> UfsResult<Found> {
        let Some(hidden) = object.strip_suffix(SHADOWED_SUFFIX) else { return Ok(Found::Nothing) };
        let (dir, file) = tokio::join!(self.first_below(hidden), self.client.head(hidden));
        match (dir.map_err(|fault| fault.at(key))?, file.map_err(|fault| fault.at(key))?) {
            (Some(_), Some(found)) => Ok(Found::File { attr: file_attr(&found), object: hidden.to_owned() }),
            _ => Ok(Found::Nothing),
        }
    }

    /// The first key in the directory of this name, its marker included; `None` if there is no directory.
    pub(super) async fn first_below(&self, object: &str) -> Result<Option<String>, Fault> {
        if object.len() >= OBJECT_KEY_LEN_MAX {
            return Ok(None);
        }
        let prefix = format!("{object}/");
        let query = ListQuery { prefix: &prefix, fold: false, after: None, token: None, max: 1 };
        let page = self.client.list(query).await?;
        Ok(page.objects.into_iter().next().map(|(key, _)| key))
    }

    pub(super) fn dir_attr(&self, marker: Option<&Meta>) -> UfsAttr {
        UfsAttr {
            kind: FileKind::Directory,
            size: 0,
            // Nothing tells when a directory changed; this at least stands still.
            mtime: marker.and_then(|meta| meta.mtime).unwrap_or(self.opened_at),
            version: UfsVersion::new([]),
            mode: marker.and_then(|meta| meta.mode),
            owner: marker.and_then(|meta| meta.owner),
            link_target: None,
            links: None,
        }
    }

    /// Holds this process's other conditional changes of an object off.
    pub(super) async fn lock(&self, object: &str) -> MutexGuard<'_, ()> {
        let mut hash = DefaultHasher::new();
        object.hash(&mut hash);
        self.locks[(hash.finish() % KEY_LOCKS as u64) as usize].lock().await
    }

    /// Looks whether the object is as expected.
    pub(super) async fn check(&self, key: &UfsKey, object: &str, expect: &Expect) -> UfsResult<()> {
        if *expect == Expect::Any {
            return Ok(());
        }
        let found = self.client.head(object).await.map_err(|fault| fault.at(key))?;
        expect.check(key, found.map(|found| found.version).as_ref())
    }

    /// Puts a small object where no directory hides it, if what is there is as expected.
    pub(super) async fn put_target(
        &self,
        key: &UfsKey,
        target: &Target,
        body: Bytes,
        meta: &Meta,
        spec: &PutSpec,
    ) -> UfsResult<UfsVersion> {
        let PutSpec { expect, believed, .. } = spec;
        let _guard = match *expect {
            Expect::Any => None,
            Expect::Absent | Expect::Version(_) => Some(self.lock(&target.object).await),
        };
        let object = &target.object;
        let _below = self.dirs_seen.putting(object);
        let believes = *expect == Expect::Absent && !believed.is_zero();
        let put = if believes && target.is_known_free(self, *believed).await {
            self.client.put_new(object, body.clone(), meta).await
        } else {
            target.check(self, key, expect).await?;
            self.client.put(object, body.clone(), meta, expect).await
        };
        let version = put.map_err(|fault| fault.about(key, expect))?;
        if !believes {
            return Ok(version);
        }
        Ok(self.client.try_conditions(&target.object, &body, meta).await.unwrap_or(version))
    }

    /// Takes away an object that no directory hides, if it is as expected. Its own directory stays.
    async fn delete_shown(&self, key: &UfsKey, object: &str, expect: &Expect) -> UfsResult<()> {
        let _guard = self.lock(object).await;
        let (around, emptied) = tokio::join!(self.around(object), self.emptied_without(key, object));
        let around = around.map_err(|fault| fault.at(key))?;
        if around.is_dir {
            return Err(UfsError::IsADirectory(key.clone()));
        }
        let Some(found) = around.object else { return Err(UfsError::NotFound(key.clone())) };
        expect.check(key, Some(&found.version))?;
        self.put_marker(emptied?).await?;
        self.client.delete(object, expect).await.map_err(|fault| fault.about(key, expect))
    }

    /// Takes away an object that a directory of its name hides, if it is as expected.
    async fn delete_hidden(&self, key: &UfsKey, object: &str, expect: &Expect) -> UfsResult<()> {
        let _guard = self.lock(object).await;
        self.check(key, object, expect).await?;
        self.client.delete(object, expect).await.map_err(|fault| fault.about(key, expect))
    }

    /// The directory of an object that is about to go, and its marker, if nothing else is in it.
    async fn emptied_without(&self, key: &UfsKey, object: &str) -> UfsResult<Option<(UfsKey, String)>> {
        let Some((parent, _)) = key.split().filter(|(parent, _)| !parent.is_root()) else { return Ok(None) };
        let marker = self.keys.dir(&parent)?;
        let query = ListQuery { prefix: &marker, fold: false, after: None, token: None, max: 2 };
        let page = self.client.list(query).await.map_err(|fault| fault.at(key))?;
        let emptied = page.next.is_none() && page.objects.iter().all(|(key, _)| key == object);
        Ok(emptied.then_some((parent, marker)))
    }

    /// Keeps a directory that is about to have nothing in it.
    async fn put_marker(&self, emptied: Option<(UfsKey, String)>) -> UfsResult<()> {
        let Some((dir, marker)) = emptied else { return Ok(()) };
        let _below = self.dirs_seen.putting(&marker);
        let put = self.client.put(&marker, Bytes::new(), &Meta::default(), &Expect::Any).await;
        put.map(drop).map_err(|fault| fault.at(&dir))
    }
}

/// What the store says of an object, as a file.
pub(super) fn file_attr(object: &super::client::Object) -> UfsAttr {
    let link = object.meta.link.clone().filter(|_| object.size == 0);
    UfsAttr {
        kind: if link.is_some() { FileKind::Symlink } else { FileKind::Regular },
        size: link.as_ref().map_or(object.size, |target| target.len() as u64),
        mtime: object.meta.mtime.unwrap_or(object.put_at),
        version: object.version.clone(),
        mode: object.meta.mode,
        owner: object.meta.owner,
        link_target: link,
        links: None,
    }
}

#[async_trait]
impl Ufs for ObjectTree {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn stat(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        if key.is_root() {
            return Ok(Some(self.shared.dir_attr(None)));
        }
        match self.shared.find(key).await? {
            Found::Nothing => Ok(None),
            Found::File { attr, .. } => Ok(Some(attr)),
            Found::Directory { marker: Some(marker) } if !self.shared.bare => {
                let found = self.shared.client.head(&marker).await.map_err(|fault| fault.at(key))?;
                Ok(Some(self.shared.dir_attr(found.map(|found| found.meta).as_ref())))
            }
            Found::Directory { .. } => Ok(Some(self.shared.dir_attr(None))),
        }
    }

    async fn stat_listed(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        self.shared.look_up(key).await
    }

    async fn sweep(&self, key: &UfsKey) -> UfsResult<()> {
        if key.is_root() {
            return Ok(());
        }
        let object = self.shared.keys.object(key)?;
        sweep(&self.shared, &object).await.map_err(|fault| fault.at(key))
    }

    async fn list(&self, dir: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage> {
        self.shared.list_dir(dir, from, limit).await
    }

    async fn read(
        &self,
        key: &UfsKey,
        version: &UfsVersion,
        offset: u64,
        buf: &mut [u8],
    ) -> UfsResult<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Ok(object) = self.shared.keys.object(key) else { return Err(UfsError::NotFound(key.clone())) };
        let expect = Expect::Version(version.clone());
        match self.shared.client.get(&object, version, offset, buf).await {
            Err(Fault::Missing(_)) if object.ends_with(SHADOWED_SUFFIX) => {
                let Found::File { object, .. } = self.shared.find(key).await? else {
                    return Err(UfsError::NotFound(key.clone()));
                };
                let read = self.shared.client.get(&object, version, offset, buf).await;
                read.map_err(|fault| fault.about(key, &expect))
            }
            read => read.map_err(|fault| fault.about(key, &expect)),
        }
    }

    async fn begin_put(&self, key: &UfsKey, spec: &PutSpec) -> UfsResult<Box<dyn Upload>> {
        upload::begin(&self.shared, key, spec, self.part_len_min).await
    }

    async fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        if key.is_root() {
            return Err(UfsError::IsADirectory(key.clone()));
        }
        let Ok(object) = self.shared.keys.object(key) else { return Err(UfsError::NotFound(key.clone())) };
        match self.shared.delete_shown(key, &object, expect).await {
            Err(UfsError::NotFound(_)) if object.ends_with(SHADOWED_SUFFIX) => {
                match self.shared.find_shadowed(key, &object).await? {
                    Found::File { object, .. } => self.shared.delete_hidden(key, &object, expect).await,
                    Found::Nothing | Found::Directory { .. } => Err(UfsError::NotFound(key.clone())),
                }
            }
            deleted => deleted,
        }
    }

    async fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()> {
        if key.is_root() {
            return Err(UfsError::Exists(key.clone()));
        }
        let marker = self.shared.keys.dir(key)?;
        match self.shared.find(key).await? {
            Found::Nothing => {}
            Found::File { .. } | Found::Directory { .. } => return Err(UfsError::Exists(key.clone())),
        }
        let _guard = self.shared.lock(&marker).await;
        self.shared.check(key, &marker, &Expect::Absent).await?;
        let _below = self.shared.dirs_seen.putting(&marker);
        let put = self.shared.client.put(&marker, Bytes::new(), &Meta::from(attrs), &Expect::Absent).await;
        put.map(drop).map_err(|fault| fault.about(key, &Expect::Absent))
    }

    async fn rmdir(&self, key: &UfsKey) -> UfsResult<()> {
        if key.is_root() {
            return Err(UfsError::Invalid("the root itself cannot be removed".into()));
        }
        let Ok(marker) = self.shared.keys.dir(key) else { return Err(UfsError::NotFound(key.clone())) };
        let query = ListQuery { prefix: &marker, fold: false, after: None, token: None, max: 2 };
        let page = self.shared.client.list(query).await.map_err(|fault| fault.at(key))?;
        match &page.objects[..] {
            [] => match self.shared.find(key).await? {
                Found::File { .. } => Err(UfsError::NotADirectory(key.clone())),
                Found::Nothing | Found::Directory { .. } => Err(UfsError::NotFound(key.clone())),
            },
            [(only, _)] if *only == marker && page.next.is_none() => {
                let emptied = self.shared.emptied_without(key, &marker).await?;
                self.shared.put_marker(emptied).await?;
                self.shared.client.delete(&marker, &Expect::Any).await.map_err(|fault| fault.at(key))
            }
            _ => Err(UfsError::NotEmpty(key.clone())),
        }
    }

    async fn copy(&self, from: (&UfsKey, &UfsVersion), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        upload::copy(&self.shared, from, to, self.part_len_min).await
    }

    async fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        if !self.capabilities.symlinks {
            return Err(UfsError::Unsupported("symbolic link (attributes=none)"));
        }
        if target.len() > LINK_TARGET_LEN_MAX {
            let story =
                format!("{key}: a link's target of {} bytes is too long to be metadata", target.len());
            return Err(UfsError::Unpersistable(story));
        }
        let meta = Meta { link: Some(target.into()), put: Some(upload::put_name()), ..Meta::from(attrs) };
        let target = Target::of(&self.shared, key).await?;
        let spec = PutSpec { expect: expect.clone(), ..PutSpec::default() };
        self.shared.put_target(key, &target, Bytes::new(), &meta, &spec).await
    }
}
