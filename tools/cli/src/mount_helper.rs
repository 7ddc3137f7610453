//! `mount.fuse.forebay SRC DIR -o OPTS`: how mount(8) and fstab start a daemon.
//!
//! The binary acts as the helper when it is called by that name (a link in /sbin). It starts `forebay up` in a
//! session of its own, waits until the mount can be used, and then ends, as mount(8) expects of a helper.
//! `remount` changes the flags of the mount that is there. `suid` and `dev` are on unless they are switched off, as
//! for every file system that is mounted by mount(8); `forebay up` alone has them off.
//!
//! Words that are settings of `forebay up` (`cache=`, `cache_size=`, `write_mode=`, `config=`, `log=`, and any word
//! beginning `ufs.`, as in `ufs.endpoint=http://...`) are taken out here; all others are mount options.

use crate::failure::{Failure, Outcome};
use crate::secrets;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The names under which the binary is the helper.
const NAMES: [&str; 2] = ["mount.fuse.forebay", "mount.forebay"];
/// The longest a mount may take to come up; an object store far away is the slow part.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Where daemons started by mount(8) write their logs.
const LOG_DIR: &str = "/var/log/forebay";

/// What mount(8) asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    source: String,
    dir: PathBuf,
    flags: Vec<OsString>,
    /// Options that must not stand on a command line.
    secrets: Vec<OsString>,
    options: Vec<String>,
    remount: bool,
}

/// Whether the binary was called as the helper.
pub(crate) fn is_called(program: Option<&OsStr>) -> bool {
    let name = program.map(Path::new).and_then(Path::file_name);
    name.is_some_and(|name| NAMES.iter().any(|known| name == *known))
}

/// Does what mount(8) asks for.
///
/// # Errors
/// What stood in the way; the mount is not there then.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>) -> Outcome<()> {
    let wanted = parse(arguments)?;
    if wanted.remount { remount(&wanted) } else { start(&wanted) }
}

/// `SRC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`, as mount(8) documents for its helpers.
fn parse(arguments: impl Iterator<Item = OsString>) -> Outcome<Wanted> {
    let mut wanted = Wanted::default();
    let mut plain = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("-o") => take_options(&mut wanted, &arguments.next().unwrap_or_default())?,
            Some("-t" | "-N") => drop(arguments.next()),
            Some(flag) if flag.starts_with('-') => {}
            _ => plain.push(argument),
        }
    }
    let usage = || {
        Failure::new("mount.fuse.forebay needs what to mount and where")
            .remedy("mount -t fuse.forebay UFS DIR")
    };
    let [source, dir] = <[OsString; 2]>::try_from(plain).map_err(|_| usage())?;
    wanted.source = source.into_string().map_err(|_| usage())?;
    wanted.dir = dir.into();
    Ok(wanted)
}

fn take_options(wanted: &mut Wanted, text: &OsStr) -> Outcome<()> {
    let text = text.to_str().ok_or_else(|| Failure::new("the mount options are not UTF-8"))?;
    for word in text.split(',').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let flag = match name {
            "cache" => Some("--cache".to_owned()),
            "cache_size" => Some("--cache-size".to_owned()),
            "write_mode" => Some("--write-mode".to_owned()),
            "config" => Some("--config".to_owned()),
            "log" => Some("--log".to_owned()),
            _ => None,
        };
        if let Some(flag) = flag {
            wanted.flags.extend([flag.into(), value.into()]);
        } else if let Some(option) =
            word.strip_prefix("ufs.").filter(|option| secrets::is_secret(option.as_ref()))
        {
            wanted.secrets.push(option.into());
        } else if let Some(option) = word.strip_prefix("ufs.") {
            wanted.flags.extend(["--ufs-option".into(), option.into()]);
        } else {
            wanted.remount |= word == "remount";
            wanted.options.push(word.to_owned());
        }
    }
    Ok(())
}

fn remount(wanted: &Wanted) -> Outcome<()> {
    let fixed = forebay_fuse::remount(&wanted.dir, &wanted.options.join(",")).map_err(Failure::new)?;
    if !fixed.is_empty() {
        eprintln!("note: {} counts from the next mount on; unmount and mount for it", fixed.join(","));
    }
    Ok(())
}

/// The words for `forebay up`. mount(8) takes `suid` and `dev` out, since they are defaults of disks; so for root, as
/// with other FUSE file systems, they are on unless they are switched off.
fn words_of_up(wanted: &Wanted, is_root: bool) -> String {
    let on: &[&str] = if is_root { &["suid", "dev"] } else { &[] };
    let words = on.iter().copied().chain(wanted.options.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(",")
}

fn start(wanted: &Wanted) -> Outcome<()> {
    let program =
        std::env::current_exe().map_err(|e| Failure::new(format!("cannot find our own program: {e}")))?;
    let mut log = Log::open(&wanted.dir)?;
    let mut command = Command::new(program);
    command.arg("up").arg(&wanted.source).arg(&wanted.dir).args(&wanted.flags).arg("--detached");
    command.arg("-o").arg(words_of_up(wanted, rustix::process::geteuid().is_root()));
    let stdin = match wanted.secrets.is_empty() {
        true => Stdio::null(),
        false => {
            command.arg(secrets::FROM_STDIN);
            secrets::stdin_of(&wanted.secrets)?
        }
    };
    let child = command.stdin(stdin).stdout(Stdio::piped()).stderr(log.for_child()?).spawn();
    let ready = wait_until_ready(child.map_err(|e| Failure::new(format!("cannot start the daemon: {e}")))?);
    if ready.is_err() {
        log.pass_on();
    }
    ready
}

fn wait_until_ready(mut child: Child) -> Outcome<()> {
    let out = child.stdout.take().expect("its output was asked for");
    let (says, said) = mpsc::channel();
    std::thread::spawn(move || {
        let ready = BufReader::new(out).lines().map_while(Result::ok).any(|line| line.starts_with("ready"));
        // The receiver is gone only when this process is about to end anyway.
        let _ = says.send(ready);
    });
    let failure = match said.recv_timeout(READY_WITHIN) {
        Ok(true) => return Ok(()),
        Ok(false) => "the daemon did not come up".to_owned(),
        Err(_) => format!("the mount was not ready within {READY_WITHIN:?}"),
    };
    // It may have ended already; what counts is that it has ended when mount(8) hears of the failure.
    let _ = child.kill();
    let _ = child.wait();
    Err(Failure::new(failure))
}

/// Where a daemon without a terminal writes its log, and how much stood there before.
struct Log {
    file: File,
    before: u64,
}

impl Log {
    fn open(mount_point: &Path) -> Outcome<Self> {
        let name: String = mount_point.to_string_lossy().trim_matches('/').replace('/', "-");
        let path = Path::new(LOG_DIR).join(format!("{name}.log"));
        let opened = std::fs::create_dir_all(LOG_DIR)
            .and_then(|()| File::options().create(true).append(true).read(true).open(&path))
            .and_then(|file| file.metadata().map(|found| Self { file, before: found.len() }));
        opened.map_err(|e| Failure::new(format!("cannot open the log {}: {e}", path.display())))
    }

    fn for_child(&self) -> Outcome<File> {
        self.file.try_clone().map_err(|e| Failure::new(format!("cannot share the log: {e}")))
    }

    /// Shows what the daemon said before it failed.
    fn pass_on(&mut self) {
        let mut said = String::new();
        let read =
            self.file.seek(SeekFrom::Start(self.before)).and_then(|_| self.file.read_to_string(&mut said));
        if read.is_ok() {
            eprint!("{said}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Wanted {
        parse(words.iter().map(OsString::from)).unwrap()
    }

    #[test]
    fn what_mount_passes_is_understood() {
        let options =
            "rw,allow_other,cache=/nvme,cache_size=4GiB,ufs.endpoint=http://h:1,_netdev,ufs.sas_token=x";
        let wanted = parsed(&["s3://b/p", "/mnt/x", "-o", options, "-t", "fuse.forebay", "-v"]);
        assert_eq!((wanted.source.as_str(), wanted.dir.as_path()), ("s3://b/p", Path::new("/mnt/x")));
        let flags: Vec<_> = wanted.flags.iter().map(|flag| flag.to_str().unwrap()).collect();
        assert_eq!(
            flags,
            ["--cache", "/nvme", "--cache-size", "4GiB", "--ufs-option", "endpoint=http://h:1"]
        );
        assert_eq!(wanted.secrets, ["sas_token=x"]);
        assert_eq!(wanted.options, ["rw", "allow_other", "_netdev"]);
        assert!(!wanted.remount && parsed(&["a", "/b", "-o", "remount,ro"]).remount);
        assert!(parse(["only-one".into()].into_iter()).is_err());
    }

    #[test]
    fn what_mount_takes_out_as_a_default_is_on() {
        let words = |options: &str, is_root| words_of_up(&parsed(&["a", "/b", "-o", options]), is_root);
        let flags = |options: &str| {
            let options = forebay_fuse::MountOptions::parse(&words(options, true)).unwrap();
            (options.suid, options.dev, options.exec)
        };
        assert_eq!(flags("rw"), (true, true, true));
        assert_eq!(flags("rw,nosuid,nodev,noexec"), (false, false, false));
        assert_eq!(flags("rw,nodev"), (true, false, true));
        assert_eq!(words("rw", false), "rw");
    }

    #[test]
    fn it_answers_to_its_names_only() {
        assert!(is_called(Some(OsStr::new("/sbin/mount.fuse.forebay"))));
        assert!(!is_called(Some(OsStr::new("/usr/bin/forebay"))) && !is_called(None));
    }
}
