//! Cases about what is read.

use super::Outcome::{self, CannotShow, Passed};
use super::support::{Stage, content, kind};
use crate::error::UfsErrorKind;
use crate::ufs::Expect;
use forebay_types::FileKind;

pub(super) async fn ranges_are_exact(stage: Stage) -> Outcome {
    let (key, bytes) = (stage.key("f"), content(1, 100_003));
    let version = stage.put(&key, &bytes).await;
    let len = bytes.len();
    let ranges =
        [(0, 1), (0, len), (0, len + 9), (1, 4096), (65_535, 2), (len - 1, 1), (len - 1, 50), (len, 10)];
    for (offset, wanted) in ranges {
        let mut buf = vec![0; wanted];
        let found = stage.ufs.read(&key, &version, offset as u64, &mut buf).await.unwrap();
        let expected = &bytes[offset..len.min(offset + wanted)];
        assert!(buf[..found] == *expected, "{wanted} bytes from {offset}: got {found}");
    }
    assert_eq!(stage.ufs.read(&key, &version, len as u64 + 1000, &mut [0; 8]).await, Ok(0), "past the end");
    assert_eq!(stage.ufs.read(&key, &version, 5, &mut []).await, Ok(0), "an empty buffer");
    Passed
}

pub(super) async fn a_zero_length_file_is_a_file(stage: Stage) -> Outcome {
    let (key, empty) = (stage.key("empty"), content(0, 0));
    let version = stage.put(&key, &empty).await;
    let attr = stage.stat(&key).await.unwrap();
    assert_eq!((attr.kind, attr.size, &attr.version), (FileKind::Regular, 0, &version));
    assert_eq!(stage.ufs.read(&key, &version, 0, &mut [0; 8]).await, Ok(0));
    assert_eq!(stage.names(stage.dir()).await, [b"empty"]);
    stage.ufs.delete(&key, &Expect::Version(version)).await.unwrap();
    assert_eq!(stage.stat(&key).await, None);
    Passed
}

pub(super) async fn versions_agree_and_move(stage: Stage) -> Outcome {
    let key = stage.key("f");
    let first = stage.put(&key, &content(1, 5000)).await;
    assert_eq!(stage.version(&key).await, first, "stat and finish");
    let listed = stage.only_entry().await.told.attr().cloned().unwrap();
    assert_eq!(
        (listed.version, listed.size, listed.kind),
        (first.clone(), 5000, FileKind::Regular),
        "listing"
    );
    assert_eq!(stage.version(&key).await, first, "a version holds still");
    // The same length and, on a fast store, the same second.
    let second = stage.put(&key, &content(2, 5000)).await;
    assert_ne!(first, second);
    assert_eq!(stage.version(&key).await, second);
    stage.assert_content(&key, &content(2, 5000)).await;
    Passed
}

pub(super) async fn a_moved_version_is_not_read(stage: Stage) -> Outcome {
    let key = stage.key("f");
    let old = stage.put(&key, &content(1, 5000)).await;
    stage.put(&key, &content(2, 5000)).await;
    let mut buf = vec![0; 100];
    assert_eq!(kind(stage.ufs.read(&key, &old, 0, &mut buf).await), UfsErrorKind::Changed);
    assert_eq!(kind(stage.ufs.read(&key, &old, 9000, &mut buf).await), UfsErrorKind::Changed, "past the end");
    stage.ufs.delete(&key, &Expect::Any).await.unwrap();
    let gone = kind(stage.ufs.read(&key, &old, 0, &mut buf).await);
    assert!(matches!(gone, UfsErrorKind::NotFound | UfsErrorKind::Changed), "{gone:?}");
    Passed
}

pub(super) async fn nothing_is_none(stage: Stage) -> Outcome {
    stage.put(&stage.key("file"), &content(1, 10)).await;
    for path in ["missing", "missing/below", "file/below"] {
        assert_eq!(stage.stat(&stage.key(path)).await, None, "{path}");
    }
    let root = stage.stat(&forebay_types::UfsKey::root()).await.unwrap();
    assert_eq!((root.kind, root.size), (FileKind::Directory, 0));
    let dir = stage.stat(stage.dir()).await.unwrap();
    assert_eq!((dir.kind, dir.version.as_bytes()), (FileKind::Directory, &b""[..]));
    Passed
}

pub(super) async fn a_copy_is_the_version_asked_for(stage: Stage) -> Outcome {
    if !stage.can().copy {
        return CannotShow("the store does not copy by itself");
    }
    let (from, to) = (stage.key("from"), stage.key("to"));
    let old = stage.put(&from, &content(1, 70_000)).await;
    let copied = stage.ufs.copy((&from, &old), (&to, &Expect::Absent)).await.unwrap();
    assert_eq!(stage.version(&to).await, copied);
    stage.assert_content(&to, &content(1, 70_000)).await;
    let again = stage.ufs.copy((&from, &old), (&to, &Expect::Absent)).await;
    assert_eq!(kind(again), UfsErrorKind::Exists);
    stage.put(&from, &content(2, 70_000)).await;
    let stale = stage.ufs.copy((&from, &old), (&to, &Expect::Version(copied))).await;
    assert_eq!(kind(stale), UfsErrorKind::Changed);
    stage.assert_content(&to, &content(1, 70_000)).await;
    Passed
}
