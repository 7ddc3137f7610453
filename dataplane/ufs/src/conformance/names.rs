//! Cases about names and directories.

use super::Outcome::{self, CannotShow, Passed};
use super::support::{Stage, content, kind};
use crate::error::{UfsError, UfsErrorKind};
use crate::ufs::{Expect, PutAttrs};
use forebay_types::{FileKind, Told, UfsKey};
use futures_util::{StreamExt, stream};
use std::collections::BTreeSet;

const FILES: usize = 1_100;
const DIRS: usize = 30;
const AT_ONCE: usize = 16;

pub(super) async fn a_listing_has_each_name_once(stage: Stage) -> Outcome {
    let make_file = |n: usize| {
        let (stage, key) = (stage.clone(), stage.key(&format!("file-{n:04}")));
        async move { stage.put(&key, &content(n as u64, n)).await }
    };
    stream::iter(0..FILES).map(make_file).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let make_dir = |n: usize| {
        let (stage, key) = (stage.clone(), stage.key(&format!("dir-{n:02}")));
        async move { stage.mkdir(&key).await }
    };
    stream::iter(0..DIRS).map(make_dir).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;

    for limit in [100, 1000, 5000] {
        let pages = stage.pages(stage.dir(), limit).await;
        assert!(pages.iter().all(|page| page.entries.len() <= limit), "a page is longer than {limit}");
        let entries: Vec<_> = pages.into_iter().flat_map(|page| page.entries).collect();
        let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!((entries.len(), names.len()), (FILES + DIRS, FILES + DIRS), "pages of {limit}");
        for entry in &entries {
            let (name, attr) = (entry.name.to_string(), stage.listed(entry).await);
            match name.strip_prefix("file-") {
                Some(n) => assert_eq!((attr.kind, attr.size), (FileKind::Regular, n.parse().unwrap())),
                None => assert_eq!((attr.kind, attr.size), (FileKind::Directory, 0), "{name}"),
            }
        }
    }
    Passed
}

/// Only what has no bytes may be left open, and what is told is what a stat tells.
pub(super) async fn what_a_listing_leaves_open_is_told_when_asked(stage: Stage) -> Outcome {
    stage.put(&stage.key("empty"), &content(1, 0)).await;
    stage.put(&stage.key("full"), &content(1, 10)).await;
    stage.mkdir(&stage.key("dir")).await;
    if stage.can().symlinks {
        stage.ufs.symlink(&stage.key("link"), b"x", &PutAttrs::default(), &Expect::Absent).await.unwrap();
    }
    for entry in stage.pages(stage.dir(), 10).await.remove(0).entries {
        let key = stage.dir().child(&entry.name);
        let stat = stage.stat(&key).await.unwrap_or_else(|| panic!("{key} is not there"));
        assert_eq!(*entry.told.version(), stat.version, "{key}");
        match entry.told {
            Told::All(attr) => assert_eq!(attr, stat),
            Told::Content(attr) => assert_eq!((attr.kind, attr.size), (stat.kind, stat.size), "{key}"),
            Told::FileOrLink(_) => {
                assert!(
                    !stage.can().list_attrs && (stat.size == 0 || stat.kind == FileKind::Symlink),
                    "{key}"
                );
                assert_eq!(stage.ufs.stat_listed(&key).await, Ok(Some(stat)));
            }
        }
    }
    assert_eq!(stage.ufs.stat_listed(&stage.key("missing")).await, Ok(None));
    Passed
}

pub(super) async fn a_listing_stays_in_its_directory(stage: Stage) -> Outcome {
    for dir in ["a", "a/b", "a/b/c", "ab"] {
        stage.mkdir(&stage.key(dir)).await;
    }
    for file in ["a/f", "a/b/f", "a/b/c/deep", "ab/other", "a-file", "a.file"] {
        stage.put(&stage.key(file), &content(1, 10)).await;
    }
    assert_eq!(stage.names(&stage.key("a")).await, [&b"b"[..], b"f"]);
    assert_eq!(stage.names(&stage.key("a/b")).await, [&b"c"[..], b"f"]);
    assert_eq!(stage.names(&stage.key("ab")).await, [b"other"]);
    assert_eq!(stage.names(stage.dir()).await, [&b"a"[..], b"a-file", b"a.file", b"ab"]);
    // Pages of one entry end at every possible place.
    let pages = stage.pages(stage.dir(), 1).await;
    assert_eq!(pages.iter().map(|page| page.entries.len()).sum::<usize>(), 4);
    Passed
}

pub(super) async fn a_failed_listing_is_an_error(stage: Stage) -> Outcome {
    let missing = stage.ufs.list(&stage.key("missing"), None, 10).await;
    assert_eq!(kind(missing), UfsErrorKind::NotFound);
    stage.put(&stage.key("file"), &content(1, 10)).await;
    let file = stage.ufs.list(&stage.key("file"), None, 10).await;
    assert_eq!(kind(file), UfsErrorKind::NotADirectory);
    stage.mkdir(&stage.key("empty")).await;
    let page = stage.ufs.list(&stage.key("empty"), None, 10).await.unwrap();
    assert!(page.entries.is_empty() && page.left_out == 0);
    Passed
}

/// Names that one or another store re-encodes, folds or splits.
const ODD: [&str; 22] = [
    "a b",
    " leading",
    "trailing ",
    "100%",
    "%41",
    "%2F",
    "a+b",
    "a&b=c",
    "what?",
    "#hash",
    "semi;colon",
    "quote\"'`",
    "<xml>&amp;",
    "star*",
    "~tilde~",
    "{curly}",
    "pi|pe^",
    "ümläut",
    "u\u{308}",
    "日本語",
    "🦀",
    "...",
];

pub(super) async fn odd_names_are_kept(stage: Stage) -> Outcome {
    for (seed, name) in ODD.iter().enumerate() {
        stage.put(&stage.key(name), &content(seed as u64, 100)).await;
    }
    let mut expected: Vec<_> = ODD.iter().map(|name| name.as_bytes().to_vec()).collect();
    expected.sort();
    assert_eq!(stage.names(stage.dir()).await, expected);
    for (seed, name) in ODD.iter().enumerate() {
        stage.assert_content(&stage.key(name), &content(seed as u64, 100)).await;
    }
    for name in ODD {
        let dir = stage.key(&format!("dir {name}"));
        stage.mkdir(&dir).await;
        stage.put(&stage.key(&format!("dir {name}/{name}")), &content(9, 10)).await;
        assert_eq!(stage.names(&dir).await, [name.as_bytes()], "in a directory named {name:?}");
    }
    for name in ODD {
        stage.ufs.delete(&stage.key(name), &Expect::Any).await.unwrap();
        assert_eq!(stage.stat(&stage.key(name)).await, None, "{name:?}");
    }
    Passed
}

pub(super) async fn a_backslash_is_kept(stage: Stage) -> Outcome {
    let key = stage.key("back\\slash");
    match stage.try_put(&key, &content(1, 10), Expect::Any).await {
        Err(UfsError::Unpersistable(_)) => {
            assert!(stage.names(stage.dir()).await.is_empty());
            return CannotShow("it takes a backslash for a slash; the put is refused as it should be");
        }
        put => drop(put.unwrap()),
    }
    assert_eq!(stage.names(stage.dir()).await, [b"back\\slash"]);
    stage.assert_content(&key, &content(1, 10)).await;
    Passed
}

pub(super) async fn control_characters_are_kept(stage: Stage) -> Outcome {
    let names = ["bell\u{7}", "new\nline", "tab\t"];
    for (seed, name) in names.iter().enumerate() {
        stage.put(&stage.key(name), &content(seed as u64, 100)).await;
        stage.assert_content(&stage.key(name), &content(seed as u64, 100)).await;
    }
    assert_eq!(stage.names(stage.dir()).await, names.map(|name| name.as_bytes().to_vec()));
    Passed
}

pub(super) async fn names_that_are_no_text(stage: Stage) -> Outcome {
    let key = stage.key_bytes(b"caf\xe9-\xff\x01");
    if !stage.can().any_bytes {
        let refused = stage.try_put(&key, &content(1, 10), Expect::Any).await;
        assert_eq!(kind(refused), UfsErrorKind::Unpersistable);
        assert_eq!(stage.stat(&key).await, None);
        return CannotShow("its names are text; the put is refused as it should be");
    }
    stage.put(&key, &content(1, 10)).await;
    assert_eq!(stage.names(stage.dir()).await, [b"caf\xe9-\xff\x01"]);
    stage.assert_content(&key, &content(1, 10)).await;
    Passed
}

pub(super) async fn names_that_are_too_long(stage: Stage) -> Outcome {
    let longest = stage.can().key_len_max;
    let depth = longest / 200 + 1;
    let path = vec!["x".repeat(200); depth].join("/");
    let key = stage.key(&path);
    assert!(key.as_bytes().len() > longest);
    let refused = kind(stage.try_put(&key, &content(1, 10), Expect::Any).await);
    assert_eq!(refused, UfsErrorKind::Unpersistable);
    // A name of the greatest length is fine.
    let name = stage.key(&"n".repeat(255));
    stage.put(&name, &content(2, 10)).await;
    stage.assert_content(&name, &content(2, 10)).await;
    Passed
}

pub(super) async fn directories_come_and_go(stage: Stage) -> Outcome {
    let (dir, file) = (stage.key("d"), stage.key("d/f"));
    stage.mkdir(&dir).await;
    assert_eq!(stage.stat(&dir).await.unwrap().kind, FileKind::Directory);
    assert_eq!(stage.names(stage.dir()).await, [b"d"]);
    assert_eq!(kind(stage.ufs.mkdir(&dir, &PutAttrs::default()).await), UfsErrorKind::Exists);
    stage.put(&file, &content(1, 10)).await;
    assert_eq!(kind(stage.ufs.mkdir(&file, &PutAttrs::default()).await), UfsErrorKind::Exists);
    assert_eq!(kind(stage.ufs.rmdir(&dir).await), UfsErrorKind::NotEmpty);
    assert_eq!(kind(stage.ufs.rmdir(&file).await), UfsErrorKind::NotADirectory);
    stage.ufs.delete(&file, &Expect::Any).await.unwrap();
    stage.ufs.rmdir(&dir).await.unwrap();
    assert_eq!(stage.stat(&dir).await, None);
    assert_eq!(kind(stage.ufs.rmdir(&dir).await), UfsErrorKind::NotFound);
    let refused = stage.try_put(&stage.key("no/parent"), &content(1, 10), Expect::Any).await;
    match stage.can().parents_needed {
        true => assert_eq!(kind(refused), UfsErrorKind::NotFound),
        false => drop(refused.unwrap()),
    }
    Passed
}

pub(super) async fn an_emptied_directory_stays(stage: Stage) -> Outcome {
    if !stage.can().empty_dirs {
        return CannotShow("it has no empty directories");
    }
    let (dir, file) = (stage.key("d"), stage.key("d/f"));
    if stage.can().parents_needed {
        stage.mkdir(&dir).await;
    }
    stage.put(&file, &content(1, 10)).await;
    stage.ufs.delete(&file, &Expect::Any).await.unwrap();
    assert_eq!(stage.stat(&dir).await.map(|attr| attr.kind), Some(FileKind::Directory));
    assert!(stage.names(&dir).await.is_empty());
    assert_eq!(stage.names(stage.dir()).await, [b"d"]);
    stage.ufs.rmdir(&dir).await.unwrap();
    Passed
}

pub(super) async fn deletes_are_exact(stage: Stage) -> Outcome {
    let key = stage.key("f");
    assert_eq!(kind(stage.ufs.delete(&key, &Expect::Any).await), UfsErrorKind::NotFound);
    let old = stage.put(&key, &content(1, 10)).await;
    let new = stage.put(&key, &content(2, 10)).await;
    let stale = stage.ufs.delete(&key, &Expect::Version(old)).await;
    assert_eq!(kind(stale), UfsErrorKind::Changed);
    stage.assert_content(&key, &content(2, 10)).await;
    stage.ufs.delete(&key, &Expect::Version(new)).await.unwrap();
    assert_eq!(stage.stat(&key).await, None);
    stage.mkdir(&stage.key("d")).await;
    let dir = stage.ufs.delete(&stage.key("d"), &Expect::Any).await;
    assert_eq!(kind(dir), UfsErrorKind::IsADirectory);
    assert!(stage.stat(&stage.key("d")).await.is_some());
    Passed
}

pub(super) async fn renames_replace(stage: Stage) -> Outcome {
    if !stage.can().rename {
        let refused =
            stage.ufs.rename((&stage.key("a"), &Expect::Any), (&stage.key("b"), &Expect::Any)).await;
        assert_eq!(kind(refused), UfsErrorKind::Unsupported);
        return CannotShow("it cannot rename in one step");
    }
    let (a, b, c) = (stage.key("a"), stage.key("b"), stage.key("c"));
    let any = &Expect::Any;
    let old = stage.put(&a, &content(1, 100)).await;
    stage.put(&b, &content(2, 100)).await;
    assert_eq!(kind(stage.ufs.rename((&a, any), (&b, &Expect::Absent)).await), UfsErrorKind::Exists);
    let wrong = Expect::Version(stage.version(&b).await);
    assert_eq!(kind(stage.ufs.rename((&a, &wrong), (&c, any)).await), UfsErrorKind::Changed);
    assert_eq!(kind(stage.ufs.rename((&c, any), (&b, any)).await), UfsErrorKind::NotFound);
    let renamed = stage.ufs.rename((&a, &Expect::Version(old)), (&b, &wrong)).await.unwrap();
    assert_eq!(stage.version(&b).await, renamed);
    stage.assert_content(&b, &content(1, 100)).await;
    assert_eq!(stage.names(stage.dir()).await, [b"b"]);
    Passed
}

pub(super) async fn directories_are_renamed(stage: Stage) -> Outcome {
    if !stage.can().rename {
        return CannotShow("it cannot rename in one step");
    }
    let (from, to): (UfsKey, UfsKey) = (stage.key("from"), stage.key("to"));
    let any = &Expect::Any;
    stage.mkdir(&from).await;
    stage.put(&stage.key("from/f"), &content(1, 100)).await;
    stage.ufs.rename((&from, any), (&to, &Expect::Absent)).await.unwrap();
    stage.assert_content(&stage.key("to/f"), &content(1, 100)).await;
    assert_eq!(stage.stat(&from).await, None);
    stage.mkdir(&from).await;
    assert_eq!(kind(stage.ufs.rename((&from, any), (&to, any)).await), UfsErrorKind::NotEmpty);
    stage.ufs.rename((&to, any), (&from, any)).await.unwrap();
    stage.assert_content(&stage.key("from/f"), &content(1, 100)).await;
    let into_itself = stage.ufs.rename((&from, any), (&stage.key("from/below"), any)).await;
    assert_eq!(kind(into_itself), UfsErrorKind::Invalid);
    Passed
}
