//! Whether a file is in memory, as the kernel says it.

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

const PAGE: usize = 4096;

/// Fails unless every page of the one file of `len` bytes below `top` is in the page cache.
pub fn require(top: &Path, len: u64) -> Result<(), String> {
    let path = found(top, len)
        .map_err(|error| format!("{}: {error}", top.display()))?
        .ok_or_else(|| format!("no file of {len} bytes is below {}", top.display()))?;
    let pages = pages(&path, len as usize).map_err(|error| format!("{}: {error}", path.display()))?;
    match pages.iter().filter(|page| **page & 1 == 0).count() {
        0 => Ok(()),
        absent => Err(format!(
            "{absent} of {} pages of {} are not in memory: give the machine more, or leave it alone",
            pages.len(),
            path.display()
        )),
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

/// A byte for each page; its lowest bit says that the page is in memory.
fn pages(path: &Path, len: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut pages = vec![0; len.div_ceil(PAGE)];
    // SAFETY: the mapping is new, nothing is read through it, it is taken away below, and the vector has a byte for each page.
    unsafe {
        let map = mmap(null_mut(), len, ProtFlags::READ, MapFlags::SHARED, &file, 0)?;
        let looked = libc::mincore(map, len, pages.as_mut_ptr());
        let looked = if looked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
        munmap(map, len)?;
        looked?;
    }
    Ok(pages)
}
