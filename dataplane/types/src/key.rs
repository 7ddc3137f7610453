//! Where something lies within an under file system: a bytes-faithful path relative to the mount's root.

use crate::name::Name;
use std::fmt;

/// A byte string that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no key: a key has no leading, trailing or double slash, no '.' or '..' and no zero byte")]
pub struct InvalidKey(String);

/// A path below a mount's root in its under file system: `a/b/c`, empty for the root itself.
///
/// A key never begins or ends with a slash and has no empty, `.` or `..` component, so it can neither leave
/// the mount nor name one thing in two ways. Object stores hold keys that break these rules; an adapter
/// leaves such objects out of its listings and counts them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UfsKey(Box<[u8]>);

impl UfsKey {
    /// The mount's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks and takes a key.
    ///
    /// # Errors
    /// [`InvalidKey`] if a component is not a [`Name`].
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, InvalidKey> {
        let bytes = bytes.into();
        let well_formed = bytes.is_empty() || bytes.split(|b| *b == b'/').all(|part| Name::new(part).is_ok());
        if well_formed { Ok(Self(bytes)) } else { Err(InvalidKey(bytes.escape_ascii().to_string())) }
    }

    /// The key of `name` in this directory.
    #[must_use]
    pub fn child(&self, name: &Name) -> Self {
        if self.0.is_empty() {
            return Self(name.as_bytes().into());
        }
        Self([&self.0, &b"/"[..], name.as_bytes()].concat().into_boxed_slice())
    }

    /// The directory that holds this key, and the name in it; `None` for the root.
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.0.is_empty() {
            return None;
        }
        let at = self.0.iter().rposition(|b| *b == b'/');
        let (dir, name) = match at {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (&[][..], &self.0[..]),
        };
        let name = Name::new(name).expect("every component of a key was checked to be a name");
        Some((Self(dir.into()), name))
    }

    /// Whether this is the mount's root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this key is `dir` itself or lies below it.
    pub fn is_within(&self, dir: &Self) -> bool {
        match self.0.strip_prefix(&*dir.0) {
            Some(rest) => rest.is_empty() || dir.is_root() || rest[0] == b'/',
            None => false,
        }
    }

    /// This key below `to` instead of `from`; `None` if it is not within `from`, or too long then.
    pub fn rebased(&self, from: &Self, to: &Self) -> Option<Self> {
        if !self.is_within(from) {
            return None;
        }
        Self::new([to.as_bytes(), &self.0[from.0.len()..]].concat()).ok()
    }

    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for UfsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for UfsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(text: &str) -> UfsKey {
        UfsKey::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn keys_move_with_the_directory_above_them() {
        let key = |text: &str| UfsKey::new(text.as_bytes()).unwrap();
        assert_eq!(key("a/b/c").rebased(&key("a/b"), &key("x")), Some(key("x/c")));
        assert_eq!(key("a/b").rebased(&key("a/b"), &key("x/y")), Some(key("x/y")));
        assert_eq!(key("a/bc").rebased(&key("a/b"), &key("x")), None);
    }

    #[test]
    fn keys_cannot_leave_the_mount() {
        for bad in ["/a", "a/", "a//b", "..", "a/../b", "./a", "a\0"] {
            assert!(UfsKey::new(bad.as_bytes()).is_err(), "{bad:?} was taken");
        }
        assert!(key("").is_root());
    }

    #[test]
    fn within_counts_components_not_bytes() {
        assert!(key("a/b").is_within(&key("a")));
        assert!(key("a").is_within(&key("a")));
        assert!(key("a").is_within(&UfsKey::root()));
        assert!(!key("ab").is_within(&key("a")));
    }

    proptest! {
        #[test]
        fn a_child_splits_into_its_parts(dir in "[a-z]{1,3}(/[a-z]{1,3}){0,3}", name in "[a-z]{1,5}") {
            let (dir, name) = (key(&dir), Name::new(name.as_bytes()).unwrap());
            prop_assert_eq!(dir.child(&name).split(), Some((dir, name)));
        }
    }
}
