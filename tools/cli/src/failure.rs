//! How the binary fails: one sentence that names the cause, one that names the remedy, and an exit status.

use std::fmt;

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) struct Failure {
    cause: String,
    remedy: Option<String>,
}

/// The result of a command.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure by its cause: what was attempted on what, and what was said.
    pub(crate) fn new(cause: impl fmt::Display) -> Self {
        Self { cause: cause.to_string(), remedy: None }
    }

    /// Adds what the person at the keyboard can do about it.
    #[must_use]
    pub(crate) fn remedy(self, remedy: impl fmt::Display) -> Self {
        Self { remedy: Some(remedy.to_string()), ..self }
    }

    /// The cause and the remedy, to be told elsewhere.
    pub(crate) fn into_parts(self) -> (String, Option<String>) {
        (self.cause, self.remedy)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forebay: {}", self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  remedy: {remedy}"),
            None => Ok(()),
        }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::new(error).remedy("correct it, or see `forebay config list` for every setting with its meaning")
    }
}
