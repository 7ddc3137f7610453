//! Secrets that were given as options on a command line: off it again, before anything else is done.
//!
//! Every user of a machine can read the command lines of all processes. So a command that was given one starts itself anew
//! at once, under the same number, with its options on standard input, which nobody else can read. They were visible for
//! some milliseconds; for not even that there are the environment, profile files and a configuration file.
//!
//! **Owns** which options are secrets, and that way round. **Never does** log or show one.

use crate::failure::{Failure, Outcome};
use rustix::fs::{MemfdFlags, memfd_create};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// The flag that says that options come on standard input.
pub(crate) const FROM_STDIN: &str = "--ufs-options-from-stdin";
const OPTION: &str = "--ufs-option";
/// Options of under file systems that nobody else may see.
const SECRETS: [&str; 6] =
    ["secret_access_key", "session_token", "service_account_key", "bearer_token", "access_key", "sas_token"];
/// More than any command line holds.
const STDIN_LEN_MAX: u64 = 4 << 20;

/// Whether `KEY=VALUE` is a secret.
pub(crate) fn is_secret(option: &OsStr) -> bool {
    let key = option.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
    SECRETS.iter().any(|secret| secret.as_bytes() == key)
}

/// Starts this process anew without the secrets of its command line, if there are any.
///
/// # Errors
/// It could not be; then nothing is done at all.
pub(crate) fn leave_command_line() -> Outcome<()> {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let (kept, secrets) = parted(arguments);
    if secrets.is_empty() {
        return Ok(());
    }
    let cannot = |error: std::io::Error| {
        Failure::new(format!("cannot take the secrets off the command line: {error}"))
            .remedy("give them by the environment or by a profile file")
    };
    let program = std::env::current_exe().map_err(cannot)?;
    let mut command = Command::new(program);
    command.arg0(name).args(kept).arg(FROM_STDIN).stdin(stdin_of(&secrets)?);
    Err(cannot(command.exec()))
}

/// The arguments without options that are secrets, and those.
fn parted(arguments: impl Iterator<Item = OsString>) -> (Vec<OsString>, Vec<OsString>) {
    let (mut kept, mut secrets) = (Vec::new(), Vec::new());
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let joined = argument.as_bytes().strip_prefix(b"--ufs-option=").map(OsStr::from_bytes);
        if let Some(option) = joined.filter(|option| is_secret(option)) {
            secrets.push(option.to_owned());
        } else if argument == OPTION && arguments.peek().is_some_and(|option| is_secret(option)) {
            secrets.extend(arguments.next());
        } else {
            kept.push(argument);
        }
    }
    (kept, secrets)
}

/// Standard input from which a process reads `options`; in memory, and gone with it.
///
/// # Errors
/// There is no memory for it.
pub(crate) fn stdin_of(options: &[OsString]) -> Outcome<Stdio> {
    let written = memfd_create("options", MemfdFlags::CLOEXEC).map_err(std::io::Error::from).and_then(|fd| {
        let mut file = File::from(fd);
        for option in options {
            file.write_all(option.as_bytes())?;
            file.write_all(&[0])?;
        }
        file.rewind()?;
        Ok(Stdio::from(file))
    });
    written.map_err(|error| Failure::new(format!("cannot pass options on: {error}")))
}

/// The options on standard input, `KEY=VALUE` each with a zero behind it.
///
/// # Errors
/// They cannot be read, or are not such.
pub(crate) fn from_stdin() -> Outcome<Vec<(String, String)>> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_LEN_MAX).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(format!("cannot read options from standard input: {error}")))?;
    let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
    let pairs = texts.map(|text| {
        let text = OsString::from_vec(text.to_owned()).into_string().ok()?;
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    pairs.collect::<Option<_>>().ok_or_else(|| {
        Failure::new("what is on standard input are no options")
            .remedy("write KEY=VALUE with a zero behind each")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_other_options_however_they_are_written() {
        let words = "up s3://b /m --ufs-option region=x --ufs-option secret_access_key=hunter2 -o ro \
                     --ufs-option=sas_token=hunter2 --ufs-option=endpoint=http://h --ufs-option";
        let (kept, secrets) = parted(words.split_whitespace().map(OsString::from));
        assert_eq!(secrets, ["secret_access_key=hunter2", "sas_token=hunter2"]);
        let kept: Vec<_> = kept.iter().map(|word| word.to_str().unwrap()).collect();
        let left = "up s3://b /m --ufs-option region=x -o ro --ufs-option=endpoint=http://h --ufs-option";
        assert_eq!(kept.join(" "), left);
        assert!(!is_secret(OsStr::new("access_key_id=a")) && is_secret(OsStr::new("access_key=a")));
    }
}
