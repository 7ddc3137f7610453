//! `mount -o remount`: other flags for a mount that is there.
//!
//! **Owns** what the words of a remount mean, given what mount(8) does to them first, and the call. **Never does** touch
//! the session: what belongs to it (`allow_other`, timeouts, the channel) stays until the mount ends.
//!
//! mount(8) changes the words on their way. Called with the mount point alone it puts before them what the kernel's
//! table of mounts has, `user_id=0` and the like included: then the list is whole. Called with the source too, or where
//! fstab knows the mount point, it does not. And it always takes `suid`, `dev` and `exec` out, as defaults. So in a
//! whole list what is not switched off is on, and in any other what is not named stays as it is.

use super::mountinfo::{self, MountEntry};
use super::point::flags_of;
use crate::error::MountError;
use crate::mounting::holders;
use crate::options::{MountOptions, OptionError};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount_remount};
use std::path::Path;

/// Words that the kernel shows of a FUSE mount and that nobody gives; a list with the first one is whole.
const SHOWN_BY_KERNEL: [&str; 7] =
    ["user_id", "group_id", "rootmode", "fd", "max_read", "blksize", "default_permissions"];

/// Changes `ro`, `noatime`, `dev`, `suid` and `exec` of the mount at `dir` as the `words` of `mount -o` say. Gives back
/// the words that change nothing before the mount is made anew.
///
/// # Errors
/// [`MountError::Option`] for a word nobody knows; [`MountError::NotMounted`]; [`MountError::Written`] names who has
/// files open for writing that keep it from becoming read-only; [`MountError::Refused`] with what the kernel says.
pub fn remount(dir: &Path, words: &str) -> Result<Vec<String>, MountError> {
    let entry = mountinfo::at(dir).or_else(|| mountinfo::at(&std::fs::canonicalize(dir).ok()?));
    let entry = entry.ok_or_else(|| MountError::NotMounted(dir.to_owned()))?;
    let (options, fixed) = wanted(words, &entry)?;
    match mount_remount(&entry.dir, flags_to_set(&options), c"") {
        Ok(()) => Ok(fixed),
        Err(Errno::BUSY) => {
            let holders = holders::writers_of(&entry.dir);
            Err(MountError::Written { dir: entry.dir, holders })
        }
        Err(errno) => Err(MountError::Refused {
            dir: entry.dir,
            step: "remount",
            source: errno.into(),
            detail: String::new(),
        }),
    }
}

/// The kernel keeps the way of access times where none is named, so the default is named.
fn flags_to_set(options: &MountOptions) -> MountFlags {
    let mut flags = flags_of(options);
    flags.set(MountFlags::RELATIME, !options.noatime);
    flags
}

/// The options that the mount shall have, and the words that cannot take effect.
fn wanted(words: &str, entry: &MountEntry) -> Result<(MountOptions, Vec<String>), OptionError> {
    let words: Vec<_> = words.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let is_whole = words.iter().any(|word| word.starts_with("user_id="));
    let mut options = if is_whole { all_on() } else { of_entry(entry) };
    let mut fixed = Vec::new();
    for word in words {
        let name = word.split_once('=').map_or(word, |(name, _)| name);
        if SHOWN_BY_KERNEL.contains(&name) {
            continue;
        }
        if !options.take(word)? {
            return Err(OptionError::Unknown(word.to_owned()));
        }
        let is_so = name == "allow_other" && entry.has("allow_other");
        if is_of_session(name) && !is_so {
            fixed.push(word.to_owned());
        }
    }
    Ok((options, fixed))
}

fn is_of_session(name: &str) -> bool {
    ["allow_other", "allow_self", "attr_timeout", "entry_timeout", "negative_timeout", "channel"]
        .contains(&name)
}

fn all_on() -> MountOptions {
    MountOptions { dev: true, suid: true, exec: true, ..MountOptions::default() }
}

fn of_entry(entry: &MountEntry) -> MountOptions {
    MountOptions {
        read_only: entry.has("ro"),
        noatime: entry.has("noatime"),
        dev: !entry.has("nodev"),
        suid: !entry.has("nosuid"),
        exec: !entry.has("noexec"),
        ..MountOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(options: &str) -> MountEntry {
        let line = format!("36 35 0:98 / /mnt {options} - fuse.forebay /data rw,user_id=0,allow_other");
        mountinfo::parse(line.as_bytes()).unwrap()
    }

    fn flags(words: &str, now: &str) -> MountFlags {
        flags_of(&wanted(words, &entry(now)).unwrap().0)
    }

    #[test]
    fn what_is_not_named_stays() {
        let all = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
        let now = "rw,nosuid,nodev,noexec,noatime";
        assert_eq!(flags("ro,remount", now), all | MountFlags::RDONLY);
        assert_eq!(flags("remount", "ro,relatime"), MountFlags::RDONLY);
        assert_eq!(flags("rw,remount,exec,atime", now), MountFlags::NOSUID | MountFlags::NODEV);
    }

    #[test]
    fn in_a_whole_list_what_is_not_switched_off_is_on() {
        let merged = "ro,nosuid,nodev,remount,relatime,user_id=0,group_id=0,default_permissions,allow_other";
        assert_eq!(
            flags(merged, "rw,nosuid,nodev,relatime"),
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV
        );
        assert_eq!(flags("rw,nodev,remount,user_id=0", "rw,nosuid,nodev"), MountFlags::NODEV);
    }

    #[test]
    fn what_belongs_to_the_session_is_told() {
        let fixed = |words: &str| wanted(words, &entry("rw")).unwrap().1;
        assert_eq!(
            fixed("remount,ro,allow_other,attr_timeout=3,channel=uring"),
            ["attr_timeout=3", "channel=uring"]
        );
        assert_eq!(fixed("remount,allow_self"), ["allow_self"]);
        assert!(wanted("remount,frobnicate", &entry("rw")).unwrap_err().to_string().contains("frobnicate"));
    }

    #[test]
    fn a_place_where_nothing_is_mounted_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let said = remount(dir.path(), "ro").unwrap_err().to_string();
        assert!(said.contains("nothing is mounted"), "{said}");
    }
}
