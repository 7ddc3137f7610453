//! From settings to a plan: every value checked and typed as far as that goes without making anything.
//!
//! A [`Plan`] is what a daemon is started from. Whatever is wrong with a path, an option or a name is found here,
//! while a refusal still leaves no trace.

use crate::args::UpArguments;
use crate::bounds;
use crate::cachedir;
use crate::config::{self, Cache, Config, Mount, Persist, Tier};
use crate::failure::{Failure, Outcome};
use crate::memory::{self, Split};
use crate::{secrets, takeover, tiers};
use forebay_fuse::{BadChannel, MountOptions};
use forebay_namespace::PolicyChange;
use forebay_types::{ByteSize, NodeId, PageSize};
use forebay_ufs::UfsOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything a daemon needs to know, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Who this node is.
    pub(crate) node: NodeId,
    /// Where everything is kept.
    pub(crate) cache_dir: PathBuf,
    /// The most content to keep; none: four fifths of what is free.
    pub(crate) cache_size: Option<ByteSize>,
    /// Where content is kept, fastest first; in the cache directory alone if empty.
    pub(crate) tiers: Vec<Tier>,
    /// How the cache is kept.
    pub(crate) cache: Cache,
    /// How what is dirty is carried.
    pub(crate) persist: Persist,
    /// The page size of new extents.
    pub(crate) page_size: PageSize,
    /// The under file systems, the one at the root first.
    pub(crate) mounts: Vec<PlannedMount>,
    /// Where the kernel shows the tree.
    pub(crate) dir: PathBuf,
    /// How.
    pub(crate) fuse: MountOptions,
    /// Whether the kernel may read and write by itself what is here.
    pub(crate) passthrough: bool,
    /// How long the mount waits for another daemon when this one has died; 0 does not.
    pub(crate) takeover_timeout: Duration,
    /// The mount of a daemon before this one waits there.
    pub(crate) takes_over: bool,
    /// The cores of the shards; all if empty.
    pub(crate) cores: Vec<usize>,
    /// The memory, and the limit of each part of it.
    pub(crate) memory: Split,
}

/// An under file system to mount.
#[derive(Debug, Clone)]
pub(crate) struct PlannedMount {
    /// As the user named it.
    pub(crate) named: String,
    /// As it is opened: one text for one store.
    pub(crate) source: String,
    /// How it is opened.
    pub(crate) options: UfsOptions,
    /// Where it stands and what applies to it.
    pub(crate) settings: Mount,
}

impl Plan {
    /// Checks the settings of a daemon.
    ///
    /// # Errors
    /// The first thing that stands in the way, with its remedy.
    pub(crate) fn check(config: &Config) -> Outcome<Self> {
        let mut fuse = MountOptions::parse(&config.fuse.options).map_err(Failure::new)?;
        refuse_remount(&fuse, config)?;
        bounds::check(config)?;
        if let Some(channel) = &config.fuse.channel {
            let channel = channel
                .parse()
                .map_err(|error: BadChannel| Failure::new(format!("fuse.channel: {error}")))?;
            // A mount option is nearer to the mount.
            fuse.channel.get_or_insert(channel);
        }
        let mut mounts = config.mounts.iter().map(Self::check_mount).collect::<Outcome<Vec<_>>>()?;
        mounts.sort_by(|a, b| a.settings.at.cmp(&b.settings.at));
        let root = mounts.first().filter(|mount| mount.settings.at == "/").ok_or_else(|| {
            Failure::new("no under file system is mounted at /")
                .remedy("add a [[mounts]] table with at = \"/\"")
        })?;
        let cache_dir = match &config.cache.dir {
            Some(dir) => absolute(dir)?,
            None => cachedir::default_dir(&root.source)?,
        };
        let dir = config.fuse.dir.as_deref().ok_or_else(|| {
            Failure::new("there is no directory to mount on").remedy("set fuse.dir (FOREBAY_FUSE_DIR)")
        })?;
        let apart = mounts.iter().filter(|mount| mount.source.starts_with('/'));
        let mut apart: Vec<_> = apart.map(|m| ("under file system", Path::new(&m.source))).collect();
        let tiers = tiers::check(&config.cache, &cache_dir)?;
        let kept = [("cache directory", cache_dir.as_path())].into_iter();
        let kept: Vec<_> = kept.chain(tiers.iter().map(|tier| ("tier", tier.dir.as_path()))).collect();
        kept.iter().try_for_each(|kept| refuse_overlap(*kept, &apart))?;
        apart.extend(kept);
        let takeover_timeout = fuse.takeover_timeout.unwrap_or(config.fuse.takeover_timeout.0);
        let waiting = mount_that_waits(dir, &root.named, &cache_dir, takeover_timeout);
        let takes_over = waiting.is_some();
        let dir = match waiting {
            Some(dir) => dir,
            None => mount_point(dir, &root.named)?,
        };
        refuse_overlap(("mount point", &dir), &apart)?;
        Ok(Self {
            node: node_name(config)?,
            cache_size: config.cache.size,
            tiers,
            cache: config.cache.clone(),
            persist: config.persist.clone(),
            page_size: config.cache.page_size,
            dir,
            passthrough: config.fuse.passthrough,
            fuse,
            takeover_timeout,
            takes_over,
            cores: config.node.cores.clone(),
            memory: Split::of(config, memory::available())?,
            cache_dir,
            mounts,
        })
    }

    /// Checks the settings of one mount.
    ///
    /// # Errors
    /// The first thing that stands in the way, with its remedy.
    pub(crate) fn check_mount(mount: &Mount) -> Outcome<PlannedMount> {
        let mut settings = mount.clone();
        settings.at = normal_place(&mount.at)?;
        settings.prefixes = mount.prefixes.iter().map(normal_prefix).collect::<Outcome<_>>()?;
        config::refuse_unsupported(&settings.policy, settings.prefixes.values())?;
        let source = plain_or_url(&mount.ufs)?;
        let options = UfsOptions::named(&source, &mount.options).map_err(Failure::new)?;
        let options = UfsOptions { read_only: mount.policy.read_only, ..options };
        Ok(PlannedMount { named: mount.ufs.clone(), source, options, settings })
    }

    /// What the mount table shows as the source: the under file system at the root, as the user named it.
    pub(crate) fn shown_source(&self) -> &str {
        &self.mounts[0].named
    }

    /// Whose the cache is: the under file system at the root.
    pub(crate) fn claim(&self) -> &str {
        &self.mounts[0].source
    }
}

impl PlannedMount {
    /// Refuses a directory that overlaps one of `others`: a mount that serves itself would wait for itself.
    ///
    /// # Errors
    /// Which two overlap.
    pub(crate) fn refuse_overlap(&self, others: &[(&str, &Path)]) -> Outcome<()> {
        match self.source.starts_with('/') {
            true => refuse_overlap(("under file system", Path::new(&self.source)), others),
            false => Ok(()),
        }
    }
}

/// A start makes a mount; mount(8) and its helper change one.
fn refuse_remount(fuse: &MountOptions, config: &Config) -> Outcome<()> {
    if !fuse.remount {
        return Ok(());
    }
    let words = config.fuse.options.split(',').map(str::trim).filter(|word| *word != "remount");
    let words: Vec<_> = ["remount"].into_iter().chain(words).collect();
    let dir = config.fuse.dir.as_deref().unwrap_or(Path::new("DIR"));
    Err(Failure::new("a daemon cannot be started with the mount option \"remount\": it makes a mount anew")
        .remedy(format!(
            "change the mount that is there with `mount -o {} {}`",
            words.join(","),
            dir.display()
        )))
}

/// Where a mount stands, with a slash before each name.
fn normal_place(at: &str) -> Outcome<String> {
    let names: Vec<_> = at.split('/').filter(|name| !name.is_empty()).collect();
    if !at.starts_with('/') || names.iter().any(|name| matches!(*name, "." | "..")) {
        return Err(Failure::new(format!("{at:?} is no place for a mount"))
            .remedy("write an absolute path in the tree, like at = \"/sets\""));
    }
    Ok(format!("/{}", names.join("/")))
}

/// A prefix, without slashes around it.
fn normal_prefix((prefix, change): (&String, &PolicyChange)) -> Outcome<(String, PolicyChange)> {
    let names: Vec<_> = prefix.split('/').filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names.iter().any(|name| matches!(*name, "." | "..")) {
        return Err(Failure::new(format!("{prefix:?} is no prefix"))
            .remedy("write a path below the mount, like [mounts.prefixes.\"checkpoints/old\"]"));
    }
    Ok((names.join("/"), change.clone()))
}

/// Absolute and free of links as far as it exists, so that overlaps are seen.
pub(crate) fn absolute(path: &Path) -> Outcome<PathBuf> {
    let plain = std::path::absolute(path)
        .map_err(|error| Failure::new(format!("cannot resolve {}: {error}", path.display())))?;
    let there = plain.ancestors().find_map(|dir| std::fs::canonicalize(dir).ok().map(|real| (dir, real)));
    let Some((dir, real)) = there else { return Ok(plain) };
    let rest = plain.strip_prefix(dir).expect("an ancestor is a prefix");
    Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) })
}

/// The settings of `forebay up`: file and environment, with the command line over them.
///
/// # Errors
/// A fault of the configuration, or an `up` whose file brings mounts of its own.
pub(crate) fn of_up(arguments: UpArguments) -> Outcome<Config> {
    let mut config = config::load(arguments.config.as_deref(), std::env::vars())?;
    if !config.mounts.is_empty() {
        return Err(Failure::new("`forebay up` mounts one under file system, and the file names its own")
            .remedy("take [[mounts]] out of the file, or run `forebay node --config FILE`"));
    }
    let mut mount = Mount::at_root(arguments.ufs);
    mount.policy.write_mode = arguments.write_mode.unwrap_or_default();
    mount.policy.metadata_ttl = arguments.metadata_ttl.unwrap_or(mount.policy.metadata_ttl);
    mount.options = arguments.ufs_options.into_iter().collect();
    if arguments.ufs_options_from_stdin {
        mount.options.extend(secrets::from_stdin()?);
    }
    config.mounts.push(mount);
    config.fuse.dir = Some(arguments.dir);
    if !arguments.options.is_empty() {
        config.fuse.options = arguments.options.join(",");
    }
    config.cache.dir = arguments.cache.or(config.cache.dir);
    config.cache.size = arguments.cache_size.or(config.cache.size);
    config.log.filter = arguments.log.unwrap_or(config.log.filter);
    config.log.format = arguments.log_format.unwrap_or(config.log.format);
    Ok(config)
}

/// A URL stays as it is; a plain path becomes absolute and free of links, so that one directory has one name.
fn plain_or_url(ufs: &str) -> Outcome<String> {
    let path = match ufs.split_once("://") {
        Some(("file", path)) => path,
        Some(_) => return Ok(ufs.trim_end_matches('/').to_owned()),
        None => ufs,
    };
    let real = std::fs::canonicalize(path).map_err(|error| {
        Failure::new(format!("cannot reach the under file system {ufs}: {error}"))
            .remedy("give an existing directory, or a URL like s3://bucket/prefix")
    })?;
    if !real.is_dir() {
        return Err(Failure::new(format!("the under file system {ufs} is not a directory"))
            .remedy("give a directory, or a URL like s3://bucket/prefix"));
    }
    real.into_os_string().into_string().map_err(|name| {
        Failure::new(format!("the path {} is not UTF-8", name.display()))
            .remedy("reach it by a link with a plain name")
    })
}

/// This machine's name: as configured, else made from the host's name.
pub(crate) fn node_name(config: &Config) -> Outcome<NodeId> {
    if let Some(name) = &config.node.name {
        return Ok(name.clone());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let label = host.split('.').next().unwrap_or_default();
    let plain: String =
        label.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-').collect();
    NodeId::new(plain.chars().take(NodeId::LEN_MAX).collect::<String>()).map_err(|_| {
        Failure::new(format!("the host's name {host:?} is no node name"))
            .remedy("set node.name (FOREBAY_NODE_NAME)")
    })
}

/// The mount point, if a mount of the same source waits there for a daemon with this cache. Asking it anything would mean
/// to wait along. One that waits elsewhere, or is not wanted, is let go.
fn mount_that_waits(dir: &Path, source: &str, cache_dir: &Path, timeout: Duration) -> Option<PathBuf> {
    if !takeover::is_kept(cache_dir) {
        return None;
    }
    let there = forebay_fuse::mounted_from(dir, source).filter(|_| !timeout.is_zero());
    match takeover::is_waiting(cache_dir) {
        true if there.is_some() => there,
        true => {
            takeover::abandon(cache_dir);
            None
        }
        false => None,
    }
}

/// The mount point, checked: an existing directory on which nothing is mounted yet. What a daemon of the same
/// source left there when it died is taken away first, so that a service that is started again comes up by itself.
///
/// # Errors
/// What stands in the way, with its remedy.
pub(crate) fn mount_point(dir: &Path, source: &str) -> Outcome<PathBuf> {
    if forebay_fuse::clear_dead(dir, source).map_err(Failure::new)? {
        tracing::warn!(dir = %dir.display(), "took away the mount of a daemon that is gone");
    }
    forebay_fuse::check_mount_point(dir).map_err(Failure::new)
}

pub(crate) fn refuse_overlap((what, dir): (&str, &Path), others: &[(&str, &Path)]) -> Outcome<()> {
    let overlap = others.iter().find(|(_, other)| dir.starts_with(other) || other.starts_with(dir));
    let Some((other_what, other)) = overlap else { return Ok(()) };
    let cause = format!("the {what} {} and the {other_what} {} overlap", dir.display(), other.display());
    Err(Failure::new(cause).remedy("choose directories of which none lies within another"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_directory_has_one_name() {
        let base = tempfile::tempdir().unwrap();
        let real = base.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("d")).unwrap();
        std::os::unix::fs::symlink("d", real.join("link")).unwrap();
        let wanted = real.join("d").display().to_string();
        for alias in [format!("{}/d/", real.display()), format!("file://{}/link", real.display())] {
            assert_eq!(plain_or_url(&alias).unwrap(), wanted);
        }
        assert_eq!(plain_or_url("s3://bucket/prefix/").unwrap(), "s3://bucket/prefix");
        assert!(plain_or_url("/no/such").unwrap_err().to_string().contains("cannot reach"));
    }

    #[test]
    fn a_mount_point_that_cannot_serve_is_refused_with_a_remedy() {
        let base = tempfile::tempdir().unwrap();
        let real = base.path().canonicalize().unwrap();
        let refusal = |dir: &Path| mount_point(dir, "x").unwrap_err().to_string();
        assert!(refusal(&real.join("missing")).contains("mkdir -p"));
        assert!(refusal(Path::new("/proc")).contains("is in use: proc"));
        assert_eq!(mount_point(&real, "x").unwrap(), real);
        let overlap = refuse_overlap(("mount point", &real), &[("cache", &real.join("inside"))]);
        assert!(overlap.unwrap_err().to_string().contains("overlap"));
    }

    #[test]
    fn the_host_gives_the_node_its_name() {
        let mut config = Config::default();
        assert!(!node_name(&config).unwrap().as_str().is_empty());
        config.node.name = Some(NodeId::new("gpu-1").unwrap());
        assert_eq!(node_name(&config).unwrap().as_str(), "gpu-1");
    }
}
