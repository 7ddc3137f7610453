//! How long the kernel may keep what it is told.

use crate::options::MountOptions;
use crate::reply::Validity;
use forebay_vfs::Lent;
use std::time::Duration;

/// The mount's upper bounds. What the file system says is never exceeded: a file that is open for write has 0, and a
/// kernel that kept its size would show an old one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    attr_max: Duration,
    entry_max: Duration,
    negative: Duration,
}

impl Timeouts {
    pub(crate) fn of(options: &MountOptions) -> Self {
        Self {
            attr_max: options.attr_timeout.unwrap_or(Duration::MAX),
            entry_max: options.entry_timeout.unwrap_or(Duration::MAX),
            negative: options.negative_timeout.unwrap_or_default(),
        }
    }

    /// For attributes that the file system lets live so long.
    pub(crate) fn attr(&self, ttl: Duration) -> Duration {
        ttl.min(self.attr_max)
    }

    /// For a name and its attributes.
    pub(crate) fn entry(&self, entry: Lent<'_>) -> Validity {
        Validity { entry: entry.entry_ttl.min(self.entry_max), attr: self.attr(entry.attr_ttl) }
    }

    /// For a name that is not there; `None` if the kernel is to ask each time.
    pub(crate) fn negative(&self) -> Option<Duration> {
        (!self.negative.is_zero()).then_some(self.negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_option_shortens_and_never_lengthens() {
        let timeouts = Timeouts::of(&MountOptions::parse("attr_timeout=2").unwrap());
        assert_eq!(timeouts.attr(Duration::from_secs(9)), Duration::from_secs(2));
        assert_eq!(timeouts.attr(Duration::ZERO), Duration::ZERO);
        assert_eq!(timeouts.negative(), None);
        let timeouts = Timeouts::of(&MountOptions::parse("negative_timeout=3").unwrap());
        assert_eq!(timeouts.attr(Duration::from_secs(9)), Duration::from_secs(9));
        assert_eq!(timeouts.negative(), Some(Duration::from_secs(3)));
    }
}
