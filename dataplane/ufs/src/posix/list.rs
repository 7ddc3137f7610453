//! Listings, streamed from the kernel a page at a time.
//!
//! A page goes on where the kernel's own seek cookie says, so no listing is held in memory and a directory of
//! ten million names costs what its pages cost. Temporary files of uploads are hidden, and swept when nobody
//! holds them any more.

use super::fault::{OrFault, fault};
use super::root::{Root, is_reserved};
use super::stat::{attr_of, kind_of, read_link};
use super::upload::is_of_this_process;
use crate::error::{UfsError, UfsResult};
use crate::ufs::ListPage;
use forebay_types::{DirPageEntry, FileKind, Name, PageToken, Told, UfsAttr, UfsKey};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RawDir, SeekFrom, Stat};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Room for the kernel's answers: some 800 names of 20 bytes at once.
const BUFFER_LEN: usize = 32 << 10;
/// A longer page than this would hold up a blocking thread for too long.
const PAGE_LEN_MAX: usize = 10_000;

/// Where a listing of one directory goes on.
struct Cursor {
    dir_inode: u64,
    cookie: u64,
}

impl Cursor {
    fn token(&self) -> PageToken {
        let bytes = [self.dir_inode.to_le_bytes(), self.cookie.to_le_bytes()].concat();
        PageToken(bytes.into_boxed_slice())
    }

    fn parse(token: &PageToken) -> Option<Self> {
        let (inode, cookie) = token.0.split_first_chunk::<8>()?;
        let cookie: [u8; 8] = cookie.try_into().ok()?;
        Some(Self { dir_inode: u64::from_le_bytes(*inode), cookie: u64::from_le_bytes(cookie) })
    }
}

impl Root {
    pub(super) fn list(&self, key: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage> {
        let dir = self.open_dir(key)?;
        let dir_inode = rustix::fs::fstat(&dir).or_fault("stat", key)?.st_ino;
        if let Some(token) = from {
            seek(&dir, key, dir_inode, token)?;
        }
        let mut page = ListPage { entries: Vec::new(), next: None, left_out: 0 };
        let limit = limit.clamp(1, PAGE_LEN_MAX);
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_LEN];
        let mut names = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = names.next() {
            let entry = entry.or_fault("list", key)?;
            self.take(&dir, key, entry.file_name().to_bytes(), &mut page)?;
            if page.entries.len() == limit {
                page.next = Some(Cursor { dir_inode, cookie: entry.next_entry_cookie() }.token());
                break;
            }
        }
        Ok(page)
    }

    /// Adds one name to the page, unless it is ours, is no name, or went away meanwhile.
    fn take(&self, dir: &OwnedFd, key: &UfsKey, bytes: &[u8], page: &mut ListPage) -> UfsResult<()> {
        if matches!(bytes, b"." | b"..") {
            return Ok(());
        }
        if is_reserved(bytes) {
            sweep_if_stale(dir.as_fd(), bytes, self.stale_after);
            return Ok(());
        }
        let Ok(name) = Name::new(bytes) else {
            page.left_out += 1;
            return Ok(());
        };
        match attr_in(dir.as_fd(), bytes) {
            Ok(attr) => page.entries.push(DirPageEntry { name, told: Told::All(attr) }),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(fault(errno, "stat", &key.child(&name))),
        }
        Ok(())
    }

    /// Takes away what dead uploads left in the directory `key`, however young: nobody but this process puts there.
    pub(super) fn sweep_all(&self, key: &UfsKey) -> UfsResult<()> {
        let dir = self.open_dir(key)?;
        let mut buffer = vec![MaybeUninit::uninit(); BUFFER_LEN];
        let mut names = RawDir::new(&dir, &mut buffer);
        while let Some(entry) = names.next() {
            let entry = entry.or_fault("list", key)?;
            let name = entry.file_name().to_bytes();
            if is_reserved(name) {
                sweep_if_stale(dir.as_fd(), name, Duration::ZERO);
            }
        }
        Ok(())
    }
}

fn seek(dir: &OwnedFd, key: &UfsKey, dir_inode: u64, token: &PageToken) -> UfsResult<()> {
    let cursor =
        Cursor::parse(token).ok_or_else(|| UfsError::Invalid("a page token of another maker".into()))?;
    if cursor.dir_inode != dir_inode {
        // Another directory has taken the name: its cookies mean nothing there.
        return Err(UfsError::Changed(key.clone()));
    }
    rustix::fs::seek(dir, SeekFrom::Start(cursor.cookie)).or_fault("seek in", key)?;
    Ok(())
}

fn attr_in(dir: BorrowedFd<'_>, name: &[u8]) -> Result<UfsAttr, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let target = match kind_of(&stat) {
        FileKind::Symlink => Some(read_link(dir, name)?),
        _ => None,
    };
    Ok(attr_of(&stat, target))
}

/// Takes a temporary file away if it is old enough and no upload holds its lock. A failure leaves it for the
/// next one who comes by.
fn sweep_if_stale(dir: BorrowedFd<'_>, name: &[u8], stale_after: Duration) {
    let swept = try_sweep(dir, name, stale_after);
    match swept {
        Ok(true) => tracing::info!(name = %name.escape_ascii(), "swept the remains of an upload"),
        Ok(false) | Err(Errno::NOENT) => {}
        Err(error) => tracing::debug!(name = %name.escape_ascii(), %error, "remains of an upload stay"),
    }
}

fn try_sweep(dir: BorrowedFd<'_>, name: &[u8], stale_after: Duration) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if age_of(&stat) < stale_after {
        return Ok(false);
    }
    if kind_of(&stat) == FileKind::Regular {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        return Ok(true);
    }
    let is_dead = || match stale_after {
        Duration::ZERO => !is_of_this_process(name),
        _ => age_of(&stat) >= LINK_STAGED_MAX,
    };
    if kind_of(&stat) == FileKind::Symlink && is_dead() {
        rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        return Ok(true);
    }
    Ok(false)
}

/// A symbolic link cannot be locked, but it is staged for two system calls only. Where all that is not under way in this
/// process is to go, its name tells.
const LINK_STAGED_MAX: Duration = Duration::from_secs(60);

/// How long ago anything about the file changed, by its server's clock read with ours; 0 if that lies ahead.
fn age_of(stat: &Stat) -> Duration {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let changed = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or(0));
    since_epoch.saturating_sub(changed)
}
