//! Carries the operations of the crash load out with real system calls.
//!
//! Some files stay open from one operation to the next, so that a daemon dies under open handles as it does in life.
//! Stores through a mapping are made by a process of their own: a page that cannot be written back ends it with
//! SIGBUS, and that must not end the load.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::world::Op;
use crate::kernel::{Mapping, Share};
use crate::pattern;

/// How many files a thread keeps open.
const OPEN_FILES: usize = 4;

/// The hands of one thread.
#[derive(Debug)]
pub(crate) struct Hands {
    root: PathBuf,
    open: BTreeMap<u64, File>,
    pretend_sync: bool,
}

impl Hands {
    /// Hands that work below `root`; with `pretend_sync` they leave every fsync out.
    pub(crate) fn new(root: &Path, pretend_sync: bool) -> Self {
        Self { root: root.to_owned(), open: BTreeMap::new(), pretend_sync }
    }

    /// Lets go of every open file.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
    }

    /// Carries `op` out. `id` is the identity of the file it changes, when there is one.
    pub(crate) fn perform(&mut self, op: &Op, tag: u64, id: Option<u64>) -> io::Result<()> {
        let at = |path: &String| self.root.join(path);
        match op {
            Op::Create { path, mode } => {
                let file =
                    OpenOptions::new().read(true).write(true).create_new(true).mode(*mode).open(at(path))?;
                self.keep(tag, file);
                Ok(())
            }
            Op::Write { path, offset, len } => {
                let data = pattern::bytes(tag, *offset, *len as usize);
                self.file(path, id)?.write_all_at(&data, *offset)
            }
            Op::SyncWrite { path, len } => {
                let flags = if self.pretend_sync { 0 } else { rustix::fs::OFlags::SYNC.bits() as i32 };
                let file = OpenOptions::new().write(true).custom_flags(flags).open(at(path))?;
                file.write_all_at(&pattern::bytes(tag, 0, *len as usize), 0)
            }
            Op::Append { path, len } => {
                let mut file = OpenOptions::new().append(true).open(at(path))?;
                let end = file.metadata()?.len();
                file.write_all(&pattern::bytes(tag, end, *len as usize))
            }
            Op::MapWrite { path, offset, len } => map_write_elsewhere(&at(path), *offset, *len, tag),
            Op::Truncate { path, len } => self.file(path, id)?.set_len(*len),
            Op::Rename { from, to } => fs::rename(at(from), at(to)),
            Op::Link { from, to } => fs::hard_link(at(from), at(to)),
            Op::Symlink { path, target } => symlink(target, at(path)),
            Op::Unlink { path } => fs::remove_file(at(path)),
            Op::Mkdir { path } => fs::create_dir(at(path)),
            Op::Rmdir { path } => fs::remove_dir(at(path)),
            Op::Chmod { path, mode } => fs::set_permissions(at(path), fs::Permissions::from_mode(*mode)),
            Op::Fsync { .. } | Op::FsyncDir { .. } if self.pretend_sync => Ok(()),
            Op::Fsync { path } => self.file(path, id)?.sync_all(),
            Op::FsyncDir { path } => File::open(at(path))?.sync_all(),
        }
    }

    fn file(&mut self, path: &str, id: Option<u64>) -> io::Result<&File> {
        let id = id.unwrap_or_default();
        if !self.open.contains_key(&id) {
            let file = OpenOptions::new().read(true).write(true).open(self.root.join(path))?;
            self.keep(id, file);
        }
        self.open.get(&id).ok_or_else(|| io::Error::other("a file just opened is not open"))
    }

    fn keep(&mut self, id: u64, file: File) {
        if self.open.len() >= OPEN_FILES {
            self.open.pop_first();
        }
        self.open.insert(id, file);
    }
}

fn map_write_elsewhere(path: &Path, offset: u64, len: u64, tag: u64) -> io::Result<()> {
    let numbers = [offset, len, tag].map(|number| number.to_string());
    let mut command = Command::new("/proc/self/exe");
    command.arg("map-write").arg(path).args(numbers).stderr(Stdio::null());
    let status = command.status()?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the storing process ended: {status}")))
    }
}

/// What the process of its own does: store the bytes through a shared mapping and wait until they are taken.
pub(crate) fn map_write(path: &Path, offset: u64, len: u64, tag: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let map = Mapping::new(&file, (offset + len) as usize, Share::SharedWrite)?;
    map.write(offset as usize, &pattern::bytes(tag, offset, len as usize));
    map.sync()
}
