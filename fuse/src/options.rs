//! Mount options as users know them from `mount(8)` and `mount.fuse(8)`, typed.
//!
//! **Owns** which words are understood, what they default to, and the errors for the others. **Never does** the
//! mounting, nor knows options of other parts: [`MountOptions::take`] says `false` to a word it does not know, so
//! that a caller with more words (`cache=...`) can offer each word to both.
//!
//! As `mount(8)` has it, the last of two contradicting words wins: `-o ro` in fstab is overridden by a later `rw`.

use crate::channel::{BadChannel, ChannelChoice};
use forebay_types::HumanDuration;
use std::time::Duration;

/// The longest timeout that is taken: beyond a year a typing error is likelier than a wish.
const TIMEOUT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// A mount option that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Nobody knows the word.
    #[error(
        "unknown mount option {0:?}; known are ro, rw, atime, noatime, dev, nodev, suid, nosuid, exec, noexec, \
         allow_other, allow_self, attr_timeout=, entry_timeout=, negative_timeout=, takeover_timeout=, channel=, and for \
         mount(8) remount"
    )]
    Unknown(String),
    /// The word is known and deliberately not supported.
    #[error("mount option {option:?} is not supported: {reason}")]
    Unsupported {
        /// The word.
        option: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// The value is not of the kind the option takes.
    #[error(
        "mount option {option:?}: {value:?} is not a time; write seconds (1, 0.5) or a unit (250ms, 30s)"
    )]
    BadTime {
        /// The option's name.
        option: &'static str,
        /// What was given.
        value: String,
    },
    /// There is no such channel.
    #[error("mount option channel: {0}")]
    BadChannel(BadChannel),
    /// The option takes no value, or needs one.
    #[error("mount option {0:?} {1}")]
    BadForm(String, &'static str),
}

/// How a mount is to behave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// Other users may use it. Default for root; a plain user needs `user_allow_other` in /etc/fuse.conf.
    pub allow_other: bool,
    /// Nothing may be changed through it.
    pub read_only: bool,
    /// Reading does not update the time of last read.
    pub noatime: bool,
    /// Device nodes work. Off by default, as for every FUSE mount: the under file system's content is foreign.
    pub dev: bool,
    /// Setuid and setgid bits work. Off by default, for the same reason.
    pub suid: bool,
    /// Programs may be run.
    pub exec: bool,
    /// The longest the kernel may keep attributes; unset, as long as the mount's `metadata_ttl` lets it.
    pub attr_timeout: Option<Duration>,
    /// The longest the kernel may keep that a name exists; unset, likewise.
    pub entry_timeout: Option<Duration>,
    /// The longest the kernel may keep that a name does not exist; unset, it may not.
    pub negative_timeout: Option<Duration>,
    /// Change the options of the mount that is there, instead of mounting.
    pub remount: bool,
    /// The way requests come; unset, as is best.
    pub channel: Option<ChannelChoice>,
    /// How long the mount waits for another daemon when this one has died; unset, as is usual.
    pub takeover_timeout: Option<Duration>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            allow_other: rustix::process::geteuid().is_root(),
            read_only: false,
            noatime: false,
            dev: false,
            suid: false,
            exec: true,
            attr_timeout: None,
            entry_timeout: None,
            negative_timeout: None,
            remount: false,
            channel: None,
            takeover_timeout: None,
        }
    }
}

impl MountOptions {
    /// Reads the argument of `-o`: words separated by commas.
    ///
    /// # Errors
    /// [`OptionError`] for the first word that cannot be taken.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if !options.take(word)? {
                return Err(OptionError::Unknown(word.to_owned()));
            }
        }
        Ok(options)
    }

    /// Takes one word; `false` if it is not one of these options.
    ///
    /// # Errors
    /// [`OptionError`] if the word is known but wrong.
    pub fn take(&mut self, word: &str) -> Result<bool, OptionError> {
        match word.split_once('=') {
            Some((name, value)) => self.take_valued(name, value),
            None => self.take_flag(word),
        }
    }

    fn take_flag(&mut self, word: &str) -> Result<bool, OptionError> {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "noatime" => self.noatime = true,
            "atime" | "relatime" => self.noatime = false,
            "dev" => self.dev = true,
            "nodev" => self.dev = false,
            "suid" => self.suid = true,
            "nosuid" => self.suid = false,
            "exec" => self.exec = true,
            "noexec" => self.exec = false,
            "allow_other" => self.allow_other = true,
            "allow_self" => self.allow_other = false,
            "remount" => self.remount = true,
            "attr_timeout" | "entry_timeout" | "negative_timeout" | "takeover_timeout" => {
                return Err(OptionError::BadForm(word.to_owned(), "needs a value, like attr_timeout=1"));
            }
            _ if is_for_others(word) => {}
            _ => return unsupported(word).map_or(Ok(false), Err),
        }
        Ok(true)
    }

    fn take_valued(&mut self, name: &str, value: &str) -> Result<bool, OptionError> {
        match name {
            "attr_timeout" => self.attr_timeout = Some(time("attr_timeout", value)?),
            "entry_timeout" => self.entry_timeout = Some(time("entry_timeout", value)?),
            "channel" => self.channel = Some(value.parse().map_err(OptionError::BadChannel)?),
            "takeover_timeout" => self.takeover_timeout = Some(time("takeover_timeout", value)?),
            "negative_timeout" => self.negative_timeout = Some(time("negative_timeout", value)?),
            _ if is_for_others(name) => {}
            "ro" | "rw" | "allow_other" | "noatime" | "dev" | "suid" | "exec" => {
                return Err(OptionError::BadForm(name.to_owned(), "takes no value"));
            }
            _ => return unsupported(name).map_or(Ok(false), Err),
        }
        Ok(true)
    }
}

/// Words that `mount(8)`, `systemd` and fstab mean for themselves, or that describe what we do anyway.
fn is_for_others(word: &str) -> bool {
    const PLAIN: [&str; 13] = [
        "defaults",
        "auto",
        "noauto",
        "user",
        "users",
        "nouser",
        "owner",
        "group",
        "nofail",
        "_netdev",
        "async",
        "default_permissions",
        "comment",
    ];
    PLAIN.contains(&word) || word.starts_with("x-") || word.starts_with("X-")
}

/// Words of other FUSE file systems whose meaning we deliberately do not offer.
fn unsupported(word: &str) -> Option<OptionError> {
    let reason = match word {
        "sync" | "dirsync" => {
            "open files with O_SYNC, or set the policy sync_on_close (forebay mount set DIR sync_on_close=true)"
        }
        "allow_root" => "root may always use the mount when allow_other is on; use allow_other",
        "auto_unmount" => "the mount ends with the daemon",
        "fsname" | "subtype" => "the source is named by its own argument and the type is always fuse.forebay",
        "writeback_cache" => "it excludes passthrough; written data is cached on the local tier anyway",
        "direct_io" | "kernel_cache" | "auto_cache" => "the I/O mode is chosen for each open file",
        "max_read" | "max_write" | "max_background" => "request sizes are negotiated with the kernel",
        "mand" | "lazytime" | "strictatime" | "diratime" | "nodiratime" | "iversion" => {
            "FUSE has no use for it"
        }
        _ => return None,
    };
    Some(OptionError::Unsupported { option: word.to_owned(), reason })
}

/// Seconds with an optional fraction, as other FUSE file systems write them, or a number with a unit.
fn time(option: &'static str, value: &str) -> Result<Duration, OptionError> {
    let seconds = value.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let with_unit = || value.parse::<HumanDuration>().ok().map(|time| time.0);
    match seconds.or_else(with_unit) {
        Some(time) if time <= TIMEOUT_MAX => Ok(time),
        _ => Err(OptionError::BadTime { option, value: value.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_words_are_understood() {
        let options = MountOptions::parse("ro,noatime,dev,suid,noexec,allow_other,attr_timeout=2.5").unwrap();
        assert!(options.read_only && options.noatime && options.dev && options.suid && !options.exec);
        assert!(options.allow_other);
        assert_eq!(options.attr_timeout, Some(Duration::from_millis(2500)));
        let options = MountOptions::parse("entry_timeout=250ms, negative_timeout=0").unwrap();
        assert_eq!(options.entry_timeout, Some(Duration::from_millis(250)));
        assert_eq!(options.negative_timeout, Some(Duration::ZERO));
    }

    #[test]
    fn words_for_mount_and_systemd_pass() {
        let text =
            "defaults,noauto,nofail,_netdev,x-systemd.automount,x-systemd.idle-timeout=60,user,comment=hot";
        assert_eq!(MountOptions::parse(text), Ok(MountOptions::default()));
    }

    #[test]
    fn the_last_of_two_contradicting_words_wins() {
        assert!(!MountOptions::parse("ro,rw").unwrap().read_only);
        assert!(MountOptions::parse("rw,ro").unwrap().read_only);
        assert!(!MountOptions::parse("suid,dev,nosuid,nodev").unwrap().suid);
    }

    #[test]
    fn foreign_content_gets_no_devices_and_no_setuid_unless_asked() {
        let options = MountOptions::default();
        assert!(!options.dev && !options.suid && options.exec);
    }

    #[test]
    fn errors_name_the_word_and_what_would_do() {
        let error = |text: &str| MountOptions::parse(text).unwrap_err().to_string();
        assert!(error("ro,frobnicate").contains("\"frobnicate\""));
        assert!(error("frobnicate=3").contains("attr_timeout="));
        assert!(error("attr_timeout=soon").contains("250ms"));
        assert!(error("attr_timeout").contains("needs a value"));
        assert!(error("attr_timeout=-1").contains("not a time"));
        assert!(error("attr_timeout=1e300").contains("not a time"));
        assert!(error("ro=1").contains("takes no value"));
        assert!(error("sync").contains("O_SYNC"));
        assert!(error("subtype=s3fs").contains("fuse.forebay"));
    }

    #[test]
    fn a_word_of_another_part_is_left_to_it() {
        let mut options = MountOptions::default();
        assert_eq!(options.take("cache=/nvme"), Ok(false));
        assert_eq!(options.take("ro"), Ok(true));
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,64}") {
            let _ = MountOptions::parse(&text);
        }
    }
}
