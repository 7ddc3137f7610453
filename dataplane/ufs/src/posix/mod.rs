//! A directory as an under file system: a local disk, or NFS and its like where mounted.
//!
//! **Owns** one directory tree, reached only through a descriptor of its root: every path is resolved with
//! `openat2(2)` under `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, so nothing a file's name or a symbolic link says
//! leads out of it.
//!
//! **Never does** a blocking call on the runtime's own threads, never follows a symbolic link, never leaves a
//! half-written file under its final name.
//!
//! **How data comes in and leaves:** reads go through a reused buffer into the caller's; puts go to a
//! temporary file of a reserved name in the target's directory, which is synced and renamed over the target,
//! after which the directory is synced too. A version is inode, size and mtime; on a kernel or file
//! system whose timestamps are coarse (before Linux 6.13: about 4 ms), two changes within one tick that keep
//! the size cannot be told apart.
//!
//! **Why this shape:** `O_TMPFILE` would leave no debris after a crash, but a file made so can only be linked
//! to a free name, not over an old one, and NFS has none. A reserved name with a `flock` on it can be renamed,
//! and swept by whoever finds it unlocked.

mod change;
mod fault;
mod list;
mod root;
mod scratch;
mod stat;
mod upload;

use crate::blocking::Blocking;
use crate::error::{OpenError, UfsError, UfsResult};
use crate::options::UfsOptions;
use crate::ufs::{
    AttrChange, Capabilities, ConditionalPut, Expect, ListPage, PutAttrs, PutSpec, Space, Ufs, Upload,
};
use async_trait::async_trait;
use forebay_types::limits::{FILE_LEN_MAX, PATH_LEN_MAX};
use forebay_types::{PageToken, UfsAttr, UfsKey, UfsVersion};
use root::Root;
use scratch::Scratch;
pub use scratch::scratch_memory;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// A directory as an under file system. See the module for how.
pub struct PosixUfs {
    root: Arc<Root>,
    pool: Blocking,
    name: String,
    capabilities: Capabilities,
    part_len: u64,
}

impl fmt::Debug for PosixUfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PosixUfs({})", self.name)
    }
}

impl PosixUfs {
    /// Opens the directory at `path` and checks that it can be listed.
    ///
    /// # Errors
    /// [`OpenError`] if it is missing, no directory, or closed to us, or if the file system hangs.
    pub async fn open(path: PathBuf, options: &UfsOptions) -> Result<Self, OpenError> {
        let name = path.display().to_string();
        let pool = Blocking::new(options.concurrency.max(1), options.call_timeout);
        let stale_after = options.stale_upload_after;
        let opening = pool.run(move || Ok(Root::open(&path, stale_after)));
        let root = match tokio::time::timeout(options.connect_timeout, opening).await {
            Ok(Ok(opened)) => opened?,
            Ok(Err(error)) => return Err(unreachable(&name, error.to_string())),
            Err(_) => return Err(unreachable(&name, "the file system does not answer".to_owned())),
        };
        let capabilities = capabilities(&root);
        let part_len = options.part_len_min.as_u64().max(1);
        Ok(Self { root: Arc::new(root), pool, name, capabilities, part_len })
    }

    /// Runs `call` with the root on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Root) -> UfsResult<T> + Send + 'static,
    ) -> UfsResult<T> {
        let root = Arc::clone(&self.root);
        self.pool.run(move || call(&root)).await
    }
}

fn unreachable(name: &str, reason: String) -> OpenError {
    let remedy = "check that it is mounted and that its server is up".to_owned();
    OpenError::Unreachable { url: name.to_owned(), reason, remedy }
}

fn capabilities(root: &Root) -> Capabilities {
    Capabilities {
        modes: true,
        owners: root.may_chown(),
        times: true,
        set_attr: true,
        symlinks: true,
        hard_links: true,
        empty_dirs: true,
        parents_needed: true,
        conditional_put: ConditionalPut::CheckedBefore,
        rename: true,
        list_attrs: true,
        copy: true,
        any_bytes: true,
        key_len_max: PATH_LEN_MAX,
        file_len_max: FILE_LEN_MAX,
    }
}

#[async_trait]
impl Ufs for PosixUfs {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn stat(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        let key = key.clone();
        self.blocking(move |root| root.attr(&key)).await
    }

    async fn list(&self, dir: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage> {
        let (dir, from) = (dir.clone(), from.cloned());
        self.blocking(move |root| root.list(&dir, from.as_ref(), limit)).await
    }

    async fn read(
        &self,
        key: &UfsKey,
        version: &UfsVersion,
        offset: u64,
        buf: &mut [u8],
    ) -> UfsResult<usize> {
        let (key, version) = (key.clone(), version.clone());
        let mut scratch = Scratch::of(buf.len());
        let reading = self.blocking(move |root| {
            let outcome = root.read(&key, &version, offset, scratch.bytes_mut());
            Ok((outcome, scratch))
        });
        let (outcome, scratch) = reading.await?;
        if let Ok(len) = outcome {
            buf[..len].copy_from_slice(&scratch.bytes()[..len]);
        }
        outcome
    }

    async fn begin_put(&self, key: &UfsKey, spec: &PutSpec) -> UfsResult<Box<dyn Upload>> {
        if spec.len > FILE_LEN_MAX {
            return Err(UfsError::TooLarge(key.to_string()));
        }
        let (root, pool, part_len) = (Arc::clone(&self.root), self.pool.clone(), self.part_len);
        let (key, spec) = (key.clone(), spec.clone());
        let begin = move || upload::begin(root, &key, spec);
        let staged = self.pool.run(begin).await?;
        Ok(Box::new(upload::PosixUpload::new(staged, pool, part_len)))
    }

    async fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        let (key, expect) = (key.clone(), expect.clone());
        self.blocking(move |root| root.delete(&key, &expect)).await
    }

    async fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()> {
        let (key, attrs) = (key.clone(), *attrs);
        self.blocking(move |root| root.mkdir(&key, &attrs)).await
    }

    async fn rmdir(&self, key: &UfsKey) -> UfsResult<()> {
        let key = key.clone();
        self.blocking(move |root| root.rmdir(&key)).await
    }

    async fn sweep(&self, key: &UfsKey) -> UfsResult<()> {
        let Some((dir, _)) = key.split() else { return Ok(()) };
        self.blocking(move |root| root.sweep_all(&dir)).await
    }

    async fn sync_name(&self, key: &UfsKey) -> UfsResult<()> {
        let key = key.clone();
        self.blocking(move |root| root.sync_name(&key)).await
    }

    async fn rename(&self, from: (&UfsKey, &Expect), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let from = (from.0.clone(), from.1.clone());
        let to = (to.0.clone(), to.1.clone());
        self.blocking(move |root| root.rename((&from.0, &from.1), (&to.0, &to.1))).await
    }

    async fn copy(&self, from: (&UfsKey, &UfsVersion), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let (root, source, version) = (Arc::clone(&self.root), from.0.clone(), from.1.clone());
        let (key, expect) = (to.0.clone(), to.1.clone());
        self.pool.run(move || upload::copy(root, (&source, &version), &key, expect)).await
    }

    async fn hard_link(&self, key: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        let (key, new, expect) = (key.clone(), to.0.clone(), to.1.clone());
        self.blocking(move |root| root.hard_link(&key, (&new, &expect))).await
    }

    async fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        let (key, target, attrs, expect) = (key.clone(), target.to_vec(), *attrs, expect.clone());
        self.blocking(move |root| root.symlink(&key, &target, &attrs, &expect)).await
    }

    async fn set_attr(&self, key: &UfsKey, change: &AttrChange, expect: &Expect) -> UfsResult<UfsVersion> {
        let (key, change, expect) = (key.clone(), *change, expect.clone());
        self.blocking(move |root| root.set_attr(&key, &change, &expect)).await
    }

    async fn space(&self) -> UfsResult<Option<Space>> {
        self.blocking(|root| root.space().map(Some)).await
    }
}
