//! Two trees side by side: names, kinds, bytes, link targets, and permission bits when both sides keep them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{During, Error, Result};

/// Bytes compared at a time.
const CHUNK: usize = 1 << 20;
/// Findings printed at most.
const SHOWN: usize = 20;

/// Which trees, and how strictly.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// One tree
    left: PathBuf,
    /// The other
    right: PathBuf,
    /// Permission bits must agree as well
    #[arg(long)]
    modes: bool,
    /// Names that begin so are left out
    #[arg(long)]
    except: Option<String>,
}

/// Compares; findings are printed and counted.
pub(crate) fn compare(args: &CompareArgs) -> Result<()> {
    let except = args.except.as_deref();
    let (left, right) = (names(&args.left, except)?, names(&args.right, except)?);
    let mut findings: Vec<String> = Vec::new();
    findings.extend(left.iter().filter(|name| !right.contains(*name)).map(|name| only(name, &args.left)));
    findings.extend(right.iter().filter(|name| !left.contains(*name)).map(|name| only(name, &args.right)));
    for name in left.iter().filter(|name| right.contains(*name)) {
        let differs = one(args, name).during("compare", &args.left.join(name))?;
        findings.extend(differs.map(|how| format!("{}: {how}", name.display())));
    }
    if findings.is_empty() {
        println!("{} names are equal", left.len());
        return Ok(());
    }
    findings.iter().take(SHOWN).for_each(|finding| println!("FINDING {finding}"));
    Err(Error::Found(findings.len()))
}

fn only(name: &Path, tree: &Path) -> String {
    format!("{} is only in {}", name.display(), tree.display())
}

/// All names below a tree.
fn names(tree: &Path, except: Option<&str>) -> Result<BTreeSet<PathBuf>> {
    let mut names = BTreeSet::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let at = tree.join(&dir);
        for entry in fs::read_dir(&at).during("list", &at)? {
            let entry = entry.during("list", &at)?;
            if except.is_some_and(|except| entry.file_name().as_bytes().starts_with(except.as_bytes())) {
                continue;
            }
            let name = dir.join(entry.file_name());
            if entry.file_type().during("look at", &at)?.is_dir() {
                open.push(name.clone());
            }
            names.insert(name);
        }
    }
    Ok(names)
}

fn one(args: &CompareArgs, name: &Path) -> io::Result<Option<String>> {
    let (left, right) = (args.left.join(name), args.right.join(name));
    let (a, b) = (fs::symlink_metadata(&left)?, fs::symlink_metadata(&right)?);
    if a.file_type() != b.file_type() {
        return Ok(Some("the kinds differ".to_owned()));
    }
    if args.modes && a.mode() != b.mode() {
        return Ok(Some(format!("modes {:o} and {:o}", a.mode(), b.mode())));
    }
    if a.is_symlink() && fs::read_link(&left)? != fs::read_link(&right)? {
        return Ok(Some("the link targets differ".to_owned()));
    }
    if a.is_file() && a.len() != b.len() {
        return Ok(Some(format!("{} and {} bytes", a.len(), b.len())));
    }
    if a.is_file() { first_difference(&left, &right) } else { Ok(None) }
}

fn first_difference(left: &Path, right: &Path) -> io::Result<Option<String>> {
    let (mut left, mut right) = (File::open(left)?, File::open(right)?);
    let (mut a, mut b) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    let mut offset = 0;
    loop {
        a.clear();
        b.clear();
        left.by_ref().take(CHUNK as u64).read_to_end(&mut a)?;
        right.by_ref().take(CHUNK as u64).read_to_end(&mut b)?;
        if a != b {
            let at = a.iter().zip(&b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
            return Ok(Some(format!("bytes differ from {} on", offset + at)));
        }
        if a.is_empty() {
            return Ok(None);
        }
        offset += a.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(content: &[u8]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), content).unwrap();
        std::os::unix::fs::symlink("there", dir.path().join("l")).unwrap();
        dir
    }

    fn result(left: &Path, right: &Path) -> Result<()> {
        compare(&CompareArgs { left: left.to_owned(), right: right.to_owned(), modes: true, except: None })
    }

    #[test]
    fn equal_trees_are_equal() {
        let (a, b) = (tree(b"same"), tree(b"same"));
        assert!(result(a.path(), b.path()).is_ok());
    }

    #[test]
    fn a_byte_a_name_and_a_target_are_found() {
        let (a, b) = (tree(b"same"), tree(b"sane"));
        assert!(matches!(result(a.path(), b.path()), Err(Error::Found(1))));
        fs::write(b.path().join("extra"), b"").unwrap();
        fs::remove_file(b.path().join("l")).unwrap();
        std::os::unix::fs::symlink("elsewhere", b.path().join("l")).unwrap();
        assert!(matches!(result(a.path(), b.path()), Err(Error::Found(3))));
    }
}
