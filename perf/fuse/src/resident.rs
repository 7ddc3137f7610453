//! Keeping a file in memory while it is read: proactive reclaim of the machine would take pages away between two reads.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ffi::c_void;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

const PAGE: usize = 4096;

/// A file all of whose pages stay in memory until this is dropped.
pub struct Held {
    map: *mut c_void,
    len: usize,
}

/// Holds the one file of `len` bytes below `top` in memory. Fails unless every page of it is there.
pub fn hold(top: &Path, len: u64) -> Result<Held, String> {
    let path = found(top, len)
        .map_err(|error| format!("{}: {error}", top.display()))?
        .ok_or_else(|| format!("no file of {len} bytes is below {}", top.display()))?;
    let told = |error: io::Error| format!("{}: {error}", path.display());
    let held = Held::of(&File::open(&path).map_err(told)?, len as usize).map_err(told)?;
    match held.absent().map_err(told)? {
        0 => Ok(held),
        absent => Err(format!("{}: {absent} pages are not in memory: give the machine more", path.display())),
    }
}

impl Held {
    fn of(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the mapping is new, and nothing is read through it.
        let map = unsafe { mmap(null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        let held = Self { map, len };
        // SAFETY: the range is that mapping.
        match unsafe { libc::mlock(map, len) } {
            0 => Ok(held),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// How many pages are not in memory.
    fn absent(&self) -> io::Result<usize> {
        let mut pages = vec![0_u8; self.len.div_ceil(PAGE)];
        // SAFETY: the range is mapped, and the vector has a byte for each of its pages.
        match unsafe { libc::mincore(self.map, self.len, pages.as_mut_ptr()) } {
            0 => Ok(pages.iter().filter(|page| **page & 1 == 0).count()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nothing refers to it. What cannot be unmapped ends with the process.
        let _ = unsafe { munmap(self.map, self.len) };
    }
}

fn found(top: &Path, len: u64) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(top)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_file() && meta.len() == len {
            return Ok(Some(entry.path()));
        }
        if meta.is_dir()
            && let Some(path) = found(&entry.path(), len)?
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
