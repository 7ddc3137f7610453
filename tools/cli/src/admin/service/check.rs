//! `forebay fs check`: what is here against what the under file system has.
//!
//! A listing asks the under file system anyway and brings what is believed up to date. So what is believed is looked
//! at before its directory is listed; afterwards all of it would agree.

use super::{Service, tell};
use crate::admin::{Event, Progress};
use crate::walk::{self, Looked};
use forebay_namespace::{FileState, Namespace, QueuedName};
use forebay_types::{DirPageEntry, FileKind, FsResult, MountId, Name, Told, UfsKey, UfsMeta, UfsVersion};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::mpsc::Sender;

/// Entries asked for at a time.
const PAGE_LEN: usize = 1000;

/// What was counted.
#[derive(Default)]
struct Tally {
    files: AtomicU64,
    clean: AtomicU64,
    dirty: AtomicU64,
    native: AtomicU64,
    unpersistable: AtomicU64,
    missing: AtomicU64,
    changed: AtomicU64,
    new: AtomicU64,
    unknown: AtomicU64,
    set_aside: AtomicU64,
    failing: AtomicU64,
}

/// A difference, and what is to be done about it.
struct Finding {
    path: Vec<u8>,
    kind: &'static str,
    why: String,
    advice: &'static str,
}

impl Finding {
    fn event(&self) -> Event {
        let path = String::from_utf8_lossy(&self.path);
        Event::Finding {
            finding: json!({ "path": path, "finding": self.kind, "why": self.why, "advice": self.advice }),
        }
    }
}

const AS_IT_COMES: &str = "nothing: it is carried by itself; to wait for it run `forebay fs persist --wait`";
const SHOWS_SOON: &str =
    "nothing: listings show it at once, and opens by name within the mount's metadata_ttl";
const GOES_SOON: &str =
    "it goes from here within the mount's metadata_ttl; put it back there if that was a mistake";
const NOT_FOR_THE_UFS: &str =
    "it stays here only: rename it to something the under file system takes, or move it to a transient mount";
const SET_ASIDE: &str =
    "mend the cause, then run `forebay fs persist --wait` on it: nothing else waits for it any more";
const TRIED_AGAIN: &str =
    "mend the cause; it is tried again by itself, or at once by `forebay fs persist --wait`";
const ASK_AGAIN: &str = "see that the under file system can be reached, and check again";

impl Service {
    /// Compares everything at and below a path; each difference is told as it is found.
    pub(super) async fn check(&self, path: Vec<u8>, says: Sender<Event>) -> FsResult<Value> {
        let tally = Arc::new(Tally::default());
        self.check_queue(&path, &tally, &says).await?;
        let (vfs, names, ufs) = (Arc::clone(&self.vfs), Arc::clone(&self.names), Arc::clone(&self.ufs));
        let (counted, tells) = (Arc::clone(&tally), says.clone());
        let check = move || async move {
            let (names, ufs, tally, tells) = (&names, &*ufs, &counted, &tells);
            let compare = async |dir: &Looked<'_>| compare_dir(names, ufs, dir, tally, tells).await;
            walk::each(&vfs, &path, compare, |found| async move {
                tally.files.fetch_add(1, Relaxed);
                if let Some(finding) = look(names, &found, tally).await? {
                    tell_of(finding, tells).await;
                }
                Ok(())
            })
            .await
        };
        let so_far = || Progress { files: tally.files.load(Relaxed), ..Progress::default() };
        tell(self.on_shard(check), so_far, &says).await?;
        Ok(tally.as_json())
    }

    /// What waits to be carried, directories and removals among it.
    async fn check_queue(&self, path: &[u8], tally: &Tally, says: &Sender<Event>) -> FsResult<()> {
        let top = if path.is_empty() { Vec::new() } else { [b"/", path].concat() };
        for name in self.names.queued_below(&top).await? {
            let finding = finding_of(name, tally);
            tell_of(finding, says).await;
        }
        Ok(())
    }
}

fn finding_of(name: QueuedName, tally: &Tally) -> Finding {
    let QueuedName { path, failure, set_aside, open_for_write, .. } = name;
    let (kind, count, advice) = match (&failure, set_aside) {
        (_, true) => ("set-aside", &tally.set_aside, SET_ASIDE),
        (Some(_), false) => ("failing", &tally.failing, TRIED_AGAIN),
        (None, false) => ("dirty", &tally.dirty, AS_IT_COMES),
    };
    count.fetch_add(1, Relaxed);
    let why = match (failure, open_for_write) {
        (Some(failure), _) => failure,
        (None, true) => "it is open for writing, and is carried after its close".to_owned(),
        (None, false) => "the under file system does not have it yet".to_owned(),
    };
    Finding { path, kind, why, advice }
}

/// A client that went away takes the whole request with it: whether it heard does not matter.
async fn tell_of(finding: Finding, says: &Sender<Event>) {
    let _ = says.send(finding.event()).await;
}

/// Compares what is believed of a directory with a listing of the under file system.
async fn compare_dir(
    names: &Namespace,
    ufs: &dyn UfsMeta,
    dir: &Looked<'_>,
    tally: &Tally,
    says: &Sender<Event>,
) -> FsResult<()> {
    let Some((mount, key)) = names.ufs_of(dir.ino).await? else { return Ok(()) };
    let compared = async {
        let carried = names.carried_files(dir.ino).await?;
        for (name, version) in &carried {
            let there = ufs.stat(mount, &key.child(name)).await?;
            let finding = tally.compare(dir, name, Some(version), there.map(|there| there.version).as_ref());
            if let Some(finding) = finding {
                tell_of(finding, says).await;
            }
        }
        let compared: HashSet<_> = carried.iter().map(|(name, _)| name).collect();
        let mut from = None;
        loop {
            let page = ufs.list(mount, &key, from, PAGE_LEN).await?;
            for entry in page.entries.iter().filter(|entry| !compared.contains(&entry.name)) {
                let Some(believed) = names.believed(dir.ino, &entry.name) else { continue };
                let there = entry.told.version();
                // Whether it is a link is asked only where that makes a difference.
                if believed.as_ref() == Some(there) || !is_file(ufs, mount, &key, entry).await? {
                    continue;
                }
                if let Some(finding) = tally.compare(dir, &entry.name, believed.as_ref(), Some(there)) {
                    tell_of(finding, says).await;
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return FsResult::Ok(()),
            }
        }
    };
    if let Err(error) = compared.await {
        tally.unknown.fetch_add(1, Relaxed);
        let path = [b"/", dir.path.as_slice()].concat();
        tell_of(Finding { path, kind: "unknown", why: error.to_string(), advice: ASK_AGAIN }, says).await;
    }
    Ok(())
}

/// Whether what a listing showed is a file.
async fn is_file(ufs: &dyn UfsMeta, mount: MountId, dir: &UfsKey, entry: &DirPageEntry) -> FsResult<bool> {
    let asked = match &entry.told {
        Told::FileOrLink(_) => ufs.stat_listed(mount, &dir.child(&entry.name)).await?,
        Told::All(_) | Told::Content(_) => None,
    };
    let attr = entry.told.attr().or(asked.as_ref());
    Ok(attr.is_some_and(|attr| attr.kind == FileKind::Regular))
}

/// Looks at one file. What is dirty was found in the queue.
async fn look(names: &Namespace, found: &Looked<'_>, tally: &Tally) -> FsResult<Option<Finding>> {
    let counted = match names.state(found.ino).await? {
        FileState::Dirty => return Ok(None),
        FileState::Native => &tally.native,
        FileState::Clean => &tally.clean,
        FileState::Unpersistable(why) => {
            tally.unpersistable.fetch_add(1, Relaxed);
            let path = [b"/", found.path.as_slice()].concat();
            return Ok(Some(Finding { path, kind: "unpersistable", why, advice: NOT_FOR_THE_UFS }));
        }
    };
    counted.fetch_add(1, Relaxed);
    Ok(None)
}

impl Tally {
    /// What the difference is between what is believed and what is there, if there is one.
    fn compare(
        &self,
        dir: &Looked<'_>,
        name: &Name,
        believed: Option<&UfsVersion>,
        there: Option<&UfsVersion>,
    ) -> Option<Finding> {
        let (kind, count, why, advice) = match (believed, there) {
            (Some(ours), Some(theirs)) if ours == theirs => return None,
            (None, None) => return None,
            (Some(_), Some(_)) => ("changed", &self.changed, "another version is there by now", SHOWS_SOON),
            (Some(_), None) => ("missing", &self.missing, "it is no longer there", GOES_SOON),
            (None, Some(_)) => ("new", &self.new, "it is there, and was not a while ago", SHOWS_SOON),
        };
        count.fetch_add(1, Relaxed);
        let separator: &[u8] = if dir.path.is_empty() { b"" } else { b"/" };
        let path = [b"/", dir.path.as_slice(), separator, name.as_bytes()].concat();
        Some(Finding { path, kind, why: why.to_owned(), advice })
    }

    fn as_json(&self) -> Value {
        json!({
            "files": self.files.load(Relaxed),
            "clean": self.clean.load(Relaxed),
            "dirty": self.dirty.load(Relaxed),
            "native": self.native.load(Relaxed),
            "unpersistable": self.unpersistable.load(Relaxed),
            "missing": self.missing.load(Relaxed),
            "changed": self.changed.load(Relaxed),
            "new": self.new.load(Relaxed),
            "unknown": self.unknown.load(Relaxed),
            "set_aside": self.set_aside.load(Relaxed),
            "failing": self.failing.load(Relaxed),
        })
    }
}
