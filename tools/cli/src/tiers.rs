//! The tiers of the cache: one in the cache directory, or those that the configuration names.
//!
//! **Owns** what a list of tiers must be like, checked before anything is made, and the claims on their directories.
//! **Never does** anything inside a tier; that is the store's. Each directory is claimed like the cache directory
//! itself, since what is written and not carried yet lies in one of them, and is its only copy.
//!
//! A tier may lie in the cache directory itself. So a cache that was one directory keeps its content when it gets
//! further tiers.

use crate::cachedir::CacheDir;
use crate::cachesize::{CACHE_MIN, CacheSize};
use crate::config::{Cache, Tier};
use crate::failure::{Failure, Outcome};
use crate::plan::{Plan, absolute, refuse_overlap};
use forebay_store::{Store, TierConfig, TierKind};
use forebay_types::ByteSize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The folder of a directory that holds the tier.
const FOLDER: &str = "store";
/// What a single tier is called.
const SINGLE: &str = "cache";
/// File systems in memory: their types as statfs(2) gives them.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Checks the tiers of a configuration; none means one in the cache directory.
///
/// # Errors
/// The first thing that is wrong with them, with its remedy.
pub(crate) fn check(cache: &Cache, cache_dir: &Path) -> Outcome<Vec<Tier>> {
    if cache.tiers.is_empty() {
        return Ok(Vec::new());
    }
    if cache.size.is_some() {
        return Err(Failure::new("cache.size speaks of one tier, and cache.tiers names its own")
            .remedy("leave cache.size (--cache-size) out, or take [[cache.tiers]] out"));
    }
    let mut tiers = cache.tiers.clone();
    for tier in &mut tiers {
        tier.dir = absolute(&tier.dir)?;
        check_one(tier)?;
    }
    refuse_same(&tiers)?;
    for (at, tier) in tiers.iter().enumerate().filter(|(_, tier)| tier.dir != cache_dir) {
        let others = tiers[..at].iter().map(|other| ("tier", other.dir.as_path()));
        let apart: Vec<_> = others.chain([("cache directory", cache_dir)]).collect();
        refuse_overlap(("tier", &tier.dir), &apart)?;
    }
    if !tiers.is_sorted_by_key(|tier| tier.kind) {
        return Err(Failure::new("the tiers of cache.tiers are not in order")
            .remedy("write the fastest first: kind mem, then nvme, then hdd"));
    }
    if tiers.iter().all(|tier| tier.kind == TierKind::Mem) {
        return Err(Failure::new(
            "all tiers of cache.tiers are in memory, and what is written must outlive a reboot",
        )
        .remedy("add a tier of kind nvme or hdd"));
    }
    refuse_more_than_there_is(&tiers)?;
    Ok(tiers)
}

fn check_one(tier: &Tier) -> Outcome<()> {
    let is_plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if tier.name.is_empty() || !is_plain(&tier.name) {
        return Err(Failure::new(format!("{:?} is no name for a tier", tier.name))
            .remedy("write letters, digits, '-', '_' and '.'"));
    }
    let name = &tier.name;
    if tier.quota < CACHE_MIN {
        return Err(Failure::new(format!("a quota of {} for tier {name} is too small", tier.quota))
            .remedy(format!("give at least {CACHE_MIN}")));
    }
    let there = existing(&tier.dir);
    let found = rustix::fs::statfs(there)
        .map_err(|e| Failure::new(format!("cannot look at {} of tier {name}: {e}", tier.dir.display())))?;
    let in_memory = IN_MEMORY.contains(&(found.f_type as u64));
    if tier.kind == TierKind::Mem && !in_memory {
        let cause = format!("tier {name} is of kind mem, and {} is not on a tmpfs", tier.dir.display());
        return Err(Failure::new(cause)
            .remedy("choose a directory on a tmpfs, like /dev/shm/forebay, or another kind"));
    }
    if tier.kind != TierKind::Mem && in_memory {
        tracing::warn!(tier = name, dir = %tier.dir.display(), "a disk tier on a tmpfs: what is in it is gone after a reboot");
    }
    Ok(())
}

fn refuse_same(tiers: &[Tier]) -> Outcome<()> {
    for (at, tier) in tiers.iter().enumerate() {
        if let Some(other) = tiers[..at].iter().find(|other| other.dir == tier.dir) {
            let cause = format!(
                "tiers {} and {} have the same directory {}",
                other.name,
                tier.name,
                tier.dir.display()
            );
            return Err(Failure::new(cause).remedy("give each tier a directory of its own"));
        }
        if tiers[..at].iter().any(|other| other.name == tier.name) {
            return Err(Failure::new(format!("two tiers are called {}", tier.name))
                .remedy("give each tier a name of its own"));
        }
    }
    Ok(())
}

/// The quotas of all tiers on a disk must fit it together.
fn refuse_more_than_there_is(tiers: &[Tier]) -> Outcome<()> {
    let mut disks: BTreeMap<u64, (u64, Vec<&str>)> = BTreeMap::new();
    for tier in tiers {
        let there = existing(&tier.dir);
        let cannot = |e: std::io::Error| {
            Failure::new(format!("cannot see the size of the disk of tier {}: {e}", tier.name))
        };
        let device = std::fs::metadata(there).map_err(cannot)?.dev();
        let disk = rustix::fs::statvfs(there).map_err(|e| cannot(e.into()))?;
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        let (wanted, names) = disks.entry(device).or_default();
        *wanted = wanted.saturating_add(tier.quota.as_u64());
        names.push(&tier.name);
        if *wanted > total {
            let (wanted, total) = (ByteSize::bytes(*wanted), ByteSize::mib(total >> 20));
            let cause = format!(
                "{} may take {wanted}, and the disk of {} has {total}",
                names.join(" and "),
                tier.dir.display()
            );
            return Err(
                Failure::new(cause).remedy("give the tiers smaller quotas, or directories on larger disks")
            );
        }
    }
    Ok(())
}

/// The directory itself, or the one above it that is there.
fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"))
}

/// The directories of the tiers, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct TierDirs {
    /// Those beside the cache directory.
    claimed: Vec<CacheDir>,
    tiers: Vec<TierConfig>,
    /// The size of the only tier, where nobody has named any.
    size: Option<CacheSize>,
}

impl TierDirs {
    /// Claims the directories of all tiers, `cache` being ours already.
    ///
    /// # Errors
    /// One of them belongs to somebody else, its disk is full, or the one that may hold the only copy of something is
    /// no longer among them. What this made is taken away again.
    pub(crate) fn claim(plan: &Plan, cache: &CacheDir) -> Outcome<Self> {
        let mut dirs = Self { claimed: Vec::new(), tiers: Vec::new(), size: None };
        match dirs.claim_all(plan, cache) {
            Ok(()) => Ok(dirs),
            Err(failure) => {
                dirs.abandon();
                Err(failure)
            }
        }
    }

    fn claim_all(&mut self, plan: &Plan, cache: &CacheDir) -> Outcome<()> {
        let written_to = plan.tiers.iter().find(|tier| tier.kind != TierKind::Mem);
        cache.settle_written_to(written_to.map_or(&plan.cache_dir, |tier| &tier.dir), FOLDER)?;
        if plan.tiers.is_empty() {
            let dir = cache.folder(FOLDER);
            let size = CacheSize::look(&plan.cache_dir, plan.cache_size, dir.exists())?;
            let (quota, name) = (size.at_most(), SINGLE.to_owned());
            self.tiers.push(TierConfig { name, dir, quota, kind: TierKind::Nvme });
            self.size = Some(size);
            return Ok(());
        }
        for tier in &plan.tiers {
            if tier.dir != plan.cache_dir {
                self.claimed.push(CacheDir::claim(&tier.dir, &plan.node, plan.claim())?);
            }
            let dir = tier.dir.join(FOLDER);
            CacheSize::look(&tier.dir, Some(tier.quota), dir.exists())?;
            self.tiers.push(TierConfig { name: tier.name.clone(), dir, quota: tier.quota, kind: tier.kind });
        }
        Ok(())
    }

    /// What the store is opened with.
    pub(crate) fn tiers(&self) -> Vec<TierConfig> {
        self.tiers.clone()
    }

    /// Gives the only tier the size that nobody has named, now that the store is open.
    ///
    /// # Errors
    /// There is no tier.
    pub(crate) fn settle(&self, store: &Store) -> Outcome<()> {
        let Some(size) = &self.size else { return Ok(()) };
        let quota = size.settle(store)?;
        tracing::info!(%quota, "the cache has its size");
        Ok(())
    }

    /// Where what is written lies.
    pub(crate) fn written_to(&self) -> PathBuf {
        let tier = self.tiers.iter().find(|tier| tier.kind != TierKind::Mem);
        tier.expect("one tier is not in memory").dir.clone()
    }

    /// Takes away what this process made, after a start that failed before the mount was served.
    pub(crate) fn abandon(self) {
        self.claimed.into_iter().for_each(CacheDir::abandon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(name: &str, dir: &Path, kind: TierKind, quota: ByteSize) -> Tier {
        Tier { name: name.to_owned(), dir: dir.to_owned(), kind, quota }
    }

    fn refusal(tiers: Vec<Tier>, cache_dir: &Path) -> String {
        let cache = Cache { tiers, ..Cache::default() };
        check(&cache, cache_dir).unwrap_err().to_string()
    }

    #[test]
    fn tiers_that_cannot_be_are_refused_with_a_remedy() {
        let (disk, memory) =
            (tempfile::tempdir_in("/var/tmp").unwrap(), tempfile::tempdir_in("/dev/shm").unwrap());
        let (disk, memory) = (disk.path().canonicalize().unwrap(), memory.path().canonicalize().unwrap());
        let (cache, small) = (disk.join("cache"), ByteSize::mib(64));
        let mem = |dir: &Path| tier("ram", dir, TierKind::Mem, small);
        let nvme = |dir: &Path| tier("ssd", dir, TierKind::Nvme, small);
        let check = |tiers: Vec<Tier>| check(&Cache { tiers, ..Cache::default() }, &cache);
        assert_eq!(check(vec![mem(&memory), nvme(&cache)]).unwrap().len(), 2);

        assert!(refusal(vec![mem(&disk.join("m")), nvme(&cache)], &cache).contains("is not on a tmpfs"));
        assert!(refusal(vec![mem(&memory)], &cache).contains("must outlive a reboot"));
        assert!(refusal(vec![nvme(&cache), mem(&memory)], &cache).contains("the fastest first"));
        let same = vec![nvme(&disk.join("a")), tier("hdd", &disk.join("b/../a"), TierKind::Hdd, small)];
        std::fs::create_dir(disk.join("b")).unwrap();
        assert!(refusal(same, &cache).contains("ssd and hdd have the same directory"));
        assert!(
            refusal(vec![nvme(&disk.join("a")), nvme(&disk.join("b"))], &cache)
                .contains("two tiers are called ssd")
        );
        assert!(refusal(vec![nvme(&cache.join("in"))], &cache).contains("overlap"));
        let large = vec![tier("a", &disk.join("a"), TierKind::Nvme, ByteSize::gib(1 << 20))];
        assert!(refusal(large, &cache).contains("give the tiers smaller quotas"));
        let half = rustix::fs::statvfs(&disk).unwrap();
        let half = ByteSize::bytes(half.f_blocks * half.f_frsize / 5 * 3);
        let both = vec![
            tier("a", &disk.join("a"), TierKind::Nvme, half),
            tier("b", &disk.join("b"), TierKind::Hdd, half),
        ];
        assert!(refusal(both, &cache).contains("a and b may take"));
        assert!(
            refusal(vec![tier("a b", &disk, TierKind::Nvme, small)], &cache)
                .contains("is no name for a tier")
        );
        assert!(
            refusal(vec![tier("a", &disk, TierKind::Nvme, ByteSize::mib(1))], &cache)
                .contains("at least 64MiB")
        );
        let sized = Cache { size: Some(small), tiers: vec![nvme(&cache)], ..Cache::default() };
        assert!(super::check(&sized, &cache).unwrap_err().to_string().contains("leave cache.size"));
    }
}
