//! The memory of an arena: one mapping, aligned to 2 MiB, in huge pages where the machine has them.

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::{io, ptr::NonNull};

/// The size of a huge page, and the unit in which the arena is divided.
pub(crate) const GRANULE_LEN: usize = 2 << 20;

/// What kind of pages the arena got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Huge pages reserved by the operator (`vm.nr_hugepages`).
    Reserved,
    /// Transparent huge pages.
    Transparent,
    /// Pages of 4 KiB: direct I/O in large blocks runs at about half speed.
    Small,
}

/// One prefaulted anonymous mapping. It is unmapped only by [`Self::unmap`].
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
    backing: Backing,
}

// SAFETY: the mapping is plain memory with no tie to a thread; who may touch which part of it is decided by
// `Blocks`, which hands every byte to one frame at most.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared `Memory` gives out addresses only.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps and prefaults `len` bytes, a multiple of [`GRANULE_LEN`].
    pub(crate) fn map(len: usize) -> io::Result<Self> {
        assert!(len > 0 && len.is_multiple_of(GRANULE_LEN), "the arena is made of whole granules");
        if let Ok(base) = Self::map_reserved(len) {
            return Ok(Self { base, len, backing: Backing::Reserved });
        }
        let base = Self::map_aligned(len)?;
        let mut memory = Self { base, len, backing: Backing::Small };
        if let Err(error) = memory.populate() {
            memory.unmap();
            return Err(error);
        }
        Ok(memory)
    }

    /// Tries the huge pages that the operator reserved.
    fn map_reserved(len: usize) -> rustix::io::Result<NonNull<u8>> {
        let flags = MapFlags::PRIVATE | MapFlags::HUGETLB | MapFlags::HUGE_2MB | MapFlags::POPULATE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let base =
            unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, flags)? };
        Ok(NonNull::new(base.cast()).expect("mmap never returns null on success"))
    }

    /// Maps normal memory whose start is aligned to a huge page, as transparent huge pages need.
    fn map_aligned(len: usize) -> rustix::io::Result<NonNull<u8>> {
        let whole = len + GRANULE_LEN;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice aliases nothing.
        let raw = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                whole,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        let head = raw.align_offset(GRANULE_LEN);
        let tail = whole - head - len;
        // SAFETY: head and tail lie inside the mapping just made, and nothing refers to them yet.
        unsafe {
            if head > 0 {
                munmap(raw, head)?;
            }
            if tail > 0 {
                munmap(raw.byte_add(head + len), tail)?;
            }
            Ok(NonNull::new(raw.byte_add(head).cast()).expect("mmap never returns null on success"))
        }
    }

    /// Asks for transparent huge pages and touches every page, so that no request pays for it later.
    fn populate(&mut self) -> io::Result<()> {
        // SAFETY: the range is our own mapping; the advice changes its pages, not its contents.
        let huge = unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxHugepage) };
        // SAFETY: as above.
        unsafe { madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxPopulateWrite)? };
        if huge.is_ok() && self.is_mostly_huge() {
            self.backing = Backing::Transparent;
        }
        Ok(())
    }

    /// Whether the kernel did give huge pages: it may lack unfragmented memory, or be told to give none.
    fn is_mostly_huge(&self) -> bool {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let huge = huge_bytes_at(&smaps, self.base.as_ptr().addr()).unwrap_or(0);
        huge >= self.len / 2
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The kind of pages.
    pub(crate) fn backing(&self) -> Backing {
        self.backing
    }

    /// Gives the memory back. The caller makes sure that no frame is out and none will be given again.
    pub(crate) fn unmap(&self) {
        // SAFETY: the range is our own mapping; by the caller's promise nothing refers into it.
        if let Err(error) = unsafe { munmap(self.base.as_ptr().cast(), self.len) } {
            tracing::warn!(%error, "the arena's memory could not be unmapped");
        }
    }
}

/// The `AnonHugePages:` bytes of the mapping that holds `address`, in the format of /proc/self/smaps (proc(5)).
fn huge_bytes_at(smaps: &str, address: usize) -> Option<usize> {
    let mut lines = smaps.lines().skip_while(|line| !range_of(line).is_some_and(|r| r.contains(&address)));
    lines.next()?;
    let mut fields = lines.take_while(|line| range_of(line).is_none());
    let value = fields.find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    let kib: usize = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The addresses of a mapping, from the line that begins its entry.
fn range_of(line: &str) -> Option<std::ops::Range<usize>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMAPS: &str = "7f0000000000-7f0000200000 rw-p 00000000 00:00 0 \nSize:  2048 kB\nAnonHugePages:      0 kB\n\
                         7f0000200000-7f0001000000 rw-p 00000000 00:00 0 \nSize: 14336 kB\nAnonHugePages:  14336 kB\n";

    #[test]
    fn the_kernels_word_on_huge_pages_is_read() {
        assert_eq!(huge_bytes_at(SMAPS, 0x7f00_0000_0000), Some(0));
        assert_eq!(huge_bytes_at(SMAPS, 0x7f00_0020_0000), Some(14336 << 10));
        assert_eq!(huge_bytes_at(SMAPS, 0x1000), None);
    }

    #[test]
    fn the_memory_is_there_and_aligned() {
        let memory = Memory::map(3 * GRANULE_LEN).unwrap();
        assert!(memory.base().as_ptr().addr().is_multiple_of(GRANULE_LEN));
        // SAFETY: the mapping is this test's alone and as long as that.
        let bytes = unsafe { std::slice::from_raw_parts_mut(memory.base().as_ptr(), memory.len()) };
        bytes.fill(7);
        memory.unmap();
    }

    proptest! {
        #[test]
        fn garbage_is_no_answer_and_no_panic(text in "[0-9a-f \\-\n:kBAnonHugePages]{0,200}", address: usize) {
            let _ = huge_bytes_at(&text, address);
        }
    }
}
