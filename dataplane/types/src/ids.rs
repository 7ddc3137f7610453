//! Ids: one newtype each, so that none can stand where another is meant.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A text that is not an id of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {expected}")]
pub struct InvalidId {
    /// The kind of id that was asked for.
    pub what: &'static str,
    /// What the caller gave.
    pub text: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $show:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $show, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $show, ")"), self.0)
            }
        }
    };
}

numeric_id!(
    /// An inode number, which is also the FUSE node id. Never reused.
    ///
    /// Numbers below 2^63 are handed out from per-node ranges to inodes born in Forebay; numbers with the top
    /// bit set are derived from what the under file system holds (mount, key, version), so that every node
    /// and every restart gives the same clean file the same number without writing it down.
    Ino(u64), "{}"
);
numeric_id!(
    /// A mounted under file system. 0 is the root mount.
    MountId(u32), "{}"
);
numeric_id!(
    /// An extent file on this node. Never changes and is never reused.
    ExtentId(u64), "{:016x}"
);
numeric_id!(
    /// An open file or directory, as the front door knows it.
    HandleId(u64), "{}"
);
numeric_id!(
    /// One shard of this process: 0 to the number of cores in use.
    ShardId(u16), "{}"
);
numeric_id!(
    /// Counts the changes of an inode's content or name, so that a persist that ran beside a later change is
    /// recognised and thrown away.
    Generation(u64), "{}"
);

impl Ino {
    /// The root directory of the name space; fixed by the FUSE protocol (`FUSE_ROOT_ID`).
    pub const ROOT: Self = Self(1);
    /// Set in numbers derived from the under file system.
    pub const DERIVED_BIT: u64 = 1 << 63;

    /// Whether the number was derived from the under file system rather than handed out here.
    pub const fn is_derived(self) -> bool {
        self.0 & Self::DERIVED_BIT != 0
    }
}

impl MountId {
    /// The mount at `/`.
    pub const ROOT: Self = Self(0);
}

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A node of the cluster: 1 to 63 characters of `[a-z0-9-]`, as in a host name's label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

impl NodeId {
    /// The longest name, that of a DNS label (RFC 1035, section 2.3.4).
    pub const LEN_MAX: usize = 63;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidId`] if the name is empty, too long or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        let fits = (1..=Self::LEN_MAX).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits && plain {
            return Ok(Self(text));
        }
        Err(InvalidId { what: "node name", text, expected: "1 to 63 characters of a-z, 0-9 and '-'" })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodeId {
    type Error = InvalidId;
    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_are_host_labels() {
        assert!(NodeId::new("gpu-007").is_ok());
        for bad in ["", "GPU", "a.b", "a_b", &"x".repeat(64)] {
            assert!(NodeId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn derived_numbers_are_told_from_allocated_ones() {
        assert!(!Ino::ROOT.is_derived());
        assert!(Ino(Ino::DERIVED_BIT | 5).is_derived());
    }
}
