//! A single file name: bytes, not text.

use crate::limits::NAME_LEN_MAX;
use std::fmt;

/// Why a byte string is not a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Longer than [`NAME_LEN_MAX`] bytes.
    #[error("the name is longer than {NAME_LEN_MAX} bytes")]
    TooLong,
    /// Empty, `.` or `..`, or holds a slash or a zero byte.
    #[error("the name is empty, a dot name, or holds a slash or a zero byte")]
    Malformed,
}

impl From<InvalidName> for crate::FsError {
    fn from(error: InvalidName) -> Self {
        match error {
            InvalidName::TooLong => crate::FsErrorKind::NameTooLong.into(),
            InvalidName::Malformed => crate::FsErrorKind::Invalid.into(),
        }
    }
}

/// One component of a path: 1 to 255 bytes without `/` and NUL, and neither `.` nor `..`.
///
/// Any other bytes are allowed, also such as are not UTF-8: Linux allows them, so users have them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidName`] says which rule it broke.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, InvalidName> {
        let bytes = bytes.into();
        if bytes.len() > NAME_LEN_MAX {
            return Err(InvalidName::TooLong);
        }
        let malformed = matches!(&*bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | 0));
        if malformed { Err(InvalidName::Malformed) } else { Ok(Self(bytes)) }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<Name> for Box<[u8]> {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.escape_ascii().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_components() {
        assert!(Name::new(*b"a b\xff").is_ok());
        assert!(Name::new(vec![b'x'; 255]).is_ok());
        assert_eq!(Name::new(vec![b'x'; 256]), Err(InvalidName::TooLong));
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(Name::new(bad), Err(InvalidName::Malformed));
        }
    }
}
