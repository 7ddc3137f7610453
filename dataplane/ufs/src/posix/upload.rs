//! Puts: a staged file beside the target, then one rename.

use super::change::set_new_attrs;
use super::fault::OrFault;
use super::root::{Place, RESERVED_PREFIX, Root};
use super::stat::{kind_of, version_of};
use crate::blocking::Blocking;
use crate::error::{UfsError, UfsResult};
use crate::parts::PartLedger;
use crate::ufs::{Expect, PutAttrs, PutSpec, Upload};
use async_trait::async_trait;
use bytes::Bytes;
use forebay_types::{FileKind, UfsKey, UfsVersion};
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::sync::{Arc, LazyLock};

/// A temporary file on its way to a name. Unlinked when dropped before it got there.
pub(super) struct Staged {
    root: Arc<Root>,
    key: UfsKey,
    spec: PutSpec,
    place: Place,
    file: OwnedFd,
    /// The temporary name.
    temp: Vec<u8>,
    fate: Mutex<Fate>,
}

/// What became of a staged file.
#[derive(Clone, PartialEq, Eq)]
enum Fate {
    /// It still has its temporary name.
    Staged,
    /// It has the target's name; the directory may not be synced yet.
    Placed(UfsVersion),
    /// It was taken away.
    Gone,
}

/// Stages an empty file for a put at `key`.
pub(super) fn begin(root: Arc<Root>, key: &UfsKey, spec: PutSpec) -> UfsResult<Staged> {
    let place = root.place_for_new(key)?;
    let found = place.check(key, &spec.expect)?;
    refuse_directory(found.as_ref(), key)?;
    let temp = temp_name();
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&place.dir, temp.as_slice(), flags, Mode::RUSR | Mode::WUSR)
        .or_fault("create a temporary file for", key)?;
    // Tells a sweeper that the upload lives. Where locks are not supported, its age alone protects it.
    let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
    if let Err(error) = locked {
        tracing::debug!(%key, %error, "the temporary file of an upload cannot be locked");
    }
    Ok(Staged { root, key: key.clone(), spec, place, file, temp, fate: Mutex::new(Fate::Staged) })
}

/// Copies `version` of the file at `source` to `key`; blocks shared where the file system can.
pub(super) fn copy(
    root: Arc<Root>,
    source: (&UfsKey, &UfsVersion),
    key: &UfsKey,
    expect: Expect,
) -> UfsResult<UfsVersion> {
    let from = root.open_version(source.0, source.1)?;
    let stat = rustix::fs::fstat(&from).or_fault("stat", source.0)?;
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    let attrs = PutAttrs::from(&super::stat::attr_of(&stat, None));
    let staged = begin(Arc::clone(&root), key, PutSpec { len, attrs, expect, ..PutSpec::default() })?;
    copy_bytes(&from, &staged.file, len).or_fault("copy", source.0)?;
    // The source must still be what it was, or a mixture of two contents would be put.
    drop(root.open_version(source.0, source.1)?);
    staged.finish()
}

fn copy_bytes(from: &OwnedFd, to: &OwnedFd, len: u64) -> Result<(), Errno> {
    const CHUNK_MAX: u64 = 1 << 30;
    let mut done = 0;
    while done < len {
        let (mut read_at, mut write_at) = (done, done);
        let chunk = (len - done).min(CHUNK_MAX) as usize;
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), chunk)? {
            0 => return Err(Errno::IO),
            copied => done += copied as u64,
        }
    }
    Ok(())
}

impl Staged {
    fn write(&self, offset: u64, bytes: &[u8]) -> UfsResult<()> {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::pwrite(&self.file, &bytes[written..], offset + written as u64) {
                Ok(len) => written += len,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).or_fault("write", &self.key),
            }
        }
        Ok(())
    }

    /// Makes the content durable under the target's name. May be called again.
    fn finish(&self) -> UfsResult<UfsVersion> {
        let mut fate = self.fate.lock();
        let version = match &*fate {
            Fate::Placed(version) => version.clone(),
            Fate::Gone => return Err(UfsError::Invalid(format!("{}: the upload was aborted", self.key))),
            Fate::Staged => {
                self.prepare()?;
                let version = self.rename_over()?;
                *fate = Fate::Placed(version.clone());
                version
            }
        };
        self.place.sync(&self.key)?;
        Ok(version)
    }

    /// Gives the file its attributes, and makes it durable.
    fn prepare(&self) -> UfsResult<()> {
        let replaced = self.place.stat(&self.key)?.filter(|stat| kind_of(stat) == FileKind::Regular);
        let default_mode = self.root.default_mode(0o666);
        set_new_attrs(&self.file, &self.spec.attrs, replaced.as_ref(), default_mode, &self.key)?;
        let synced = rustix::fs::fsync(&self.file).or_fault("sync", &self.key);
        // The kernel tells of what it could not write once, and a sync after that would succeed: all of it is to be put anew.
        synced.map_err(|error| if error.is_transient() { UfsError::Io(error.to_string()) } else { error })
    }

    fn rename_over(&self) -> UfsResult<UfsVersion> {
        let _guard = self.place.lock();
        let found = self.place.check(&self.key, &self.spec.expect)?;
        refuse_directory(found.as_ref(), &self.key)?;
        // With nothing there, the kernel itself refuses to replace what comes between.
        let flags = if found.is_none() { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        rename_staged(&self.place, &self.temp, flags, &self.key)?;
        let stat = rustix::fs::fstat(&self.file).or_fault("stat", &self.key)?;
        Ok(version_of(&stat))
    }

    fn unlink(&self) -> UfsResult<()> {
        let mut fate = self.fate.lock();
        if *fate != Fate::Staged {
            return Ok(());
        }
        match rustix::fs::unlinkat(&self.place.dir, self.temp.as_slice(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => *fate = Fate::Gone,
            Err(errno) => return Err(errno).or_fault("take away the temporary file of", &self.key),
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Err(error) = self.unlink() {
            tracing::warn!(key = %self.key, %error, "an aborted upload left its temporary file");
        }
    }
}

/// Renames a staged file or link to its name. Where the file system has no `RENAME_NOREPLACE` (NFS), the check
/// that came before stands alone.
pub(super) fn rename_staged(place: &Place, temp: &[u8], flags: RenameFlags, key: &UfsKey) -> UfsResult<()> {
    let name = place.name.as_bytes();
    match rustix::fs::renameat_with(&place.dir, temp, &place.dir, name, flags) {
        Err(Errno::INVAL | Errno::NOSYS) if flags == RenameFlags::NOREPLACE => {
            rustix::fs::renameat(&place.dir, temp, &place.dir, name).or_fault("rename over", key)
        }
        renamed => renamed.or_fault("rename over", key),
    }
}

/// What the temporary names of this process begin with, behind what is reserved.
static PROCESS: LazyLock<String> = LazyLock::new(|| format!("{:08x}", rand::random::<u32>()));

/// A reserved name nobody else has.
pub(super) fn temp_name() -> Vec<u8> {
    let own = format!("{}{:016x}", *PROCESS, rand::random::<u64>());
    [RESERVED_PREFIX, own.as_bytes()].concat()
}

/// Whether a temporary name was given by this process.
pub(super) fn is_of_this_process(temp: &[u8]) -> bool {
    temp.strip_prefix(RESERVED_PREFIX).is_some_and(|own| own.starts_with(PROCESS.as_bytes()))
}

/// A file or link never takes the place of a directory.
pub(super) fn refuse_directory(found: Option<&Stat>, key: &UfsKey) -> UfsResult<()> {
    match found {
        Some(stat) if kind_of(stat) == FileKind::Directory => Err(UfsError::IsADirectory(key.clone())),
        _ => Ok(()),
    }
}

/// An upload to a staged file.
pub(super) struct PosixUpload {
    staged: Arc<Staged>,
    pool: Blocking,
    parts: PartLedger,
}

impl PosixUpload {
    pub(super) fn new(staged: Staged, pool: Blocking, part_len: u64) -> Self {
        let parts = PartLedger::new(staged.spec.len, part_len);
        Self { staged: Arc::new(staged), pool, parts }
    }
}

impl Drop for PosixUpload {
    fn drop(&mut self) {
        // The last owner unlinks; with a runtime at hand that is a blocking thread, not the caller's.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let staged = Arc::clone(&self.staged);
            runtime.spawn_blocking(move || drop(staged));
        }
    }
}

#[async_trait]
impl Upload for PosixUpload {
    fn part_len(&self) -> u64 {
        self.parts.part_len()
    }

    async fn part(&self, index: u64, bytes: Bytes) -> UfsResult<()> {
        let offset = self.parts.check(index, bytes.len())?;
        let staged = Arc::clone(&self.staged);
        self.pool.run(move || staged.write(offset, &bytes)).await?;
        self.parts.record(index);
        Ok(())
    }

    async fn finish(&mut self) -> UfsResult<UfsVersion> {
        self.parts.check_complete()?;
        let staged = Arc::clone(&self.staged);
        self.pool.run(move || staged.finish()).await
    }

    async fn abort(&mut self) -> UfsResult<()> {
        let staged = Arc::clone(&self.staged);
        self.pool.run(move || staged.unlink()).await
    }
}
