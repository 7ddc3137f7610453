//! The embedded engine: LMDB, always synchronous.
//!
//! **Owns** one LMDB environment in one directory, with one database, and the checksum in front of each
//! value: LMDB has none of its own, so the four bytes before each value are the CRC-32C of key and value,
//! little endian, checked on every read. The key is part of it so that a value that ends up under another
//! key is found out too.
//!
//! **Never does** NO_SYNC or WRITEMAP (a system crash may then damage the file), never keeps a read
//! transaction beyond a call, never opens an environment twice in a process.
//!
//! **Why LMDB:** a durable group commit costs 4-8 us an entry, a random read 2 us and scales over threads,
//! and the file opens at once after a crash, whatever its size.

use crate::{Batch, KEY_LEN_MAX, MetaError, MetaStore};
use forebay_types::crc32c;
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, RoTxn, WithoutTls};
use std::fs::File;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// Bytes before each value: its CRC-32C.
const CHECKSUM_LEN: usize = 4;

/// How the environment is opened.
#[derive(Clone, Debug)]
pub struct LmdbOptions {
    /// Address space for the file, in bytes, and so the most it can grow to. Costs no memory.
    pub map_size: usize,
    /// The most reads at one time.
    pub readers_max: u32,
}

impl Default for LmdbOptions {
    fn default() -> Self {
        Self { map_size: 1 << 40, readers_max: 512 }
    }
}

/// The embedded store.
pub struct LmdbStore {
    env: Env<WithoutTls>,
    entries: Database<'static, Bytes, Bytes>,
    /// The directory, for messages.
    dir: PathBuf,
    /// Held locked while the store is open: LMDB itself would let a second process in.
    _lock: File,
}

impl LmdbStore {
    /// Opens the store in `dir`, which it creates if there is none.
    ///
    /// # Errors
    /// [`MetaError::InUse`] if it is open anywhere already; [`MetaError::Corrupt`] if the file is no LMDB
    /// environment; [`MetaError::Storage`] and [`MetaError::NoSpace`] as the disk says.
    pub fn open(dir: &Path, options: &LmdbOptions) -> Result<Self, MetaError> {
        std::fs::create_dir_all(dir).map_err(|e| storage("create its directory", e))?;
        let lock = lock(dir)?;
        let env = open_env(dir, options).map_err(|e| failed("open its file", e, dir))?;
        let entries = open_table(&env).map_err(|e| failed("open its table", e, dir))?;
        // A new file is durable only once its name is.
        File::open(dir).and_then(|d| d.sync_all()).map_err(|e| storage("sync its directory", e))?;
        Ok(Self { env, entries, dir: dir.into(), _lock: lock })
    }

    /// The size of the file on disk, in bytes. It never shrinks.
    ///
    /// # Errors
    /// [`MetaError::Storage`] if the file cannot be looked at.
    pub fn file_len(&self) -> Result<u64, MetaError> {
        self.env.real_disk_size().map_err(|e| self.failed("measure its file", e))
    }

    fn failed(&self, attempt: &'static str, error: heed::Error) -> MetaError {
        failed(attempt, error, &self.dir)
    }

    fn begin_read(&self) -> Result<RoTxn<'_, WithoutTls>, MetaError> {
        self.env.read_txn().map_err(|e| self.failed("begin a read", e))
    }

    fn get_in(&self, txn: &RoTxn<'_, WithoutTls>, key: &[u8]) -> Result<Option<Box<[u8]>>, MetaError> {
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            return Err(MetaError::InvalidKey { len: key.len() });
        }
        let stored = self.entries.get(txn, key).map_err(|e| self.failed("read", e))?;
        stored.map(|stored| open_value(key, stored).map(Into::into)).transpose()
    }
}

impl MetaStore for LmdbStore {
    fn get(&self, key: &[u8]) -> Result<Option<Box<[u8]>>, MetaError> {
        self.get_in(&self.begin_read()?, key)
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Box<[u8]>>>, MetaError> {
        let txn = self.begin_read()?;
        keys.iter().map(|key| self.get_in(&txn, key)).collect()
    }

    fn visit(
        &self,
        from: &[u8],
        until: &[u8],
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), MetaError> {
        if from >= until || limit == 0 {
            return Ok(());
        }
        let txn = self.begin_read()?;
        let range = (Bound::Included(from), Bound::Excluded(until));
        let found = self.entries.range(&txn, &range).map_err(|e| self.failed("scan", e))?;
        for entry in found.take(limit) {
            let (key, stored) = entry.map_err(|e| self.failed("scan", e))?;
            each(key, open_value(key, stored)?);
        }
        Ok(())
    }

    fn commit(&self, batch: &Batch) -> Result<(), MetaError> {
        for key in batch.changes().iter().map(|c| &c.key) {
            if key.is_empty() || key.len() > KEY_LEN_MAX {
                return Err(MetaError::InvalidKey { len: key.len() });
            }
        }
        let mut txn = self.env.write_txn().map_err(|e| self.failed("begin a write", e))?;
        for expected in batch.preconditions() {
            let stored = self.entries.get(&txn, &expected.key).map_err(|e| self.failed("read", e))?;
            let found = stored.map(|stored| open_value(&expected.key, stored)).transpose()?;
            if found != expected.value.as_deref() {
                return Err(MetaError::PreconditionFailed { key: expected.key.escape_ascii().to_string() });
            }
        }
        let mut sealed = Vec::new();
        for change in batch.changes() {
            let applied = match &change.value {
                Some(value) => {
                    seal_value(&change.key, value, &mut sealed);
                    self.entries.put(&mut txn, &change.key, &sealed)
                }
                None => self.entries.delete(&mut txn, &change.key).map(|_| ()),
            };
            applied.map_err(|e| self.failed("write", e))?;
        }
        txn.commit().map_err(|e| self.failed("commit", e))
    }
}

/// The one place of this crate that is unsafe.
#[expect(unsafe_code, reason = "heed can open a memory-mapped file in no other way")]
fn open_env(dir: &Path, options: &LmdbOptions) -> heed::Result<Env<WithoutTls>> {
    let mut open = EnvOpenOptions::new().read_txn_without_tls();
    open.map_size(options.map_size).max_readers(options.readers_max).max_dbs(1);
    // SAFETY: opening is unsafe because the map would change under safe references if another writer changed
    // the file, and because flags such as NO_LOCK break LMDB's own rules. No flags are set; the lock file
    // that the caller holds keeps every other process of ours out, and heed refuses a second open of the
    // path in this one.
    unsafe { open.open(dir) }
}

fn open_table(env: &Env<WithoutTls>) -> heed::Result<Database<'static, Bytes, Bytes>> {
    let opened: CommitOrAbort<_, ()> =
        env.create_databases_and_commit(env.write_txn()?, |opener, txn| -> heed::Result<_> {
            Ok(CommitOrAbort::Commit(opener.create_database::<Bytes, Bytes>(txn, None)?))
        })?;
    Ok(opened.unwrap_commit())
}

/// Takes the directory's lock, without waiting.
fn lock(dir: &Path) -> Result<File, MetaError> {
    let file = File::options().create(true).write(true).truncate(false).open(dir.join("forebay.lock"));
    let file = file.map_err(|e| storage("create its lock file", e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(MetaError::InUse(dir.display().to_string())),
        Err(std::fs::TryLockError::Error(e)) => Err(storage("lock its lock file", e)),
    }
}

fn seal_value(key: &[u8], value: &[u8], sealed: &mut Vec<u8>) {
    sealed.clear();
    sealed.extend_from_slice(&checksum(key, value).to_le_bytes());
    sealed.extend_from_slice(value);
}

fn open_value<'a>(key: &[u8], stored: &'a [u8]) -> Result<&'a [u8], MetaError> {
    let matching = stored
        .split_first_chunk::<CHECKSUM_LEN>()
        .filter(|(sum, value)| u32::from_le_bytes(**sum) == checksum(key, value));
    match matching {
        Some((_, value)) => Ok(value),
        None => Err(MetaError::Corrupt(format!("the value of {} fails its checksum", key.escape_ascii()))),
    }
}

/// CRC-32C of the value, and of the key folded in by its own CRC.
fn checksum(key: &[u8], value: &[u8]) -> u32 {
    crc32c(key).rotate_left(16) ^ crc32c(value)
}

fn storage(attempt: &'static str, source: std::io::Error) -> MetaError {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            MetaError::NoSpace(source.to_string())
        }
        _ => MetaError::Storage { attempt, source },
    }
}

fn failed(attempt: &'static str, error: heed::Error, dir: &Path) -> MetaError {
    match error {
        heed::Error::Io(source) => storage(attempt, source),
        heed::Error::EnvAlreadyOpened => MetaError::InUse(dir.display().to_string()),
        heed::Error::Mdb(MdbError::MapFull | MdbError::TxnFull) => MetaError::NoSpace(error.to_string()),
        heed::Error::Mdb(MdbError::Other(code)) => storage(attempt, std::io::Error::from_raw_os_error(code)),
        heed::Error::Mdb(_) | heed::Error::Encoding(_) | heed::Error::Decoding(_) => {
            MetaError::Corrupt(format!("{attempt} in {}: {error}", dir.display()))
        }
    }
}
