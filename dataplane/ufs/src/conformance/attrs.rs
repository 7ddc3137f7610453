//! Cases about attributes and links.

use super::Outcome::{self, CannotShow, Passed};
use super::support::{Stage, content, kind, send_parts};
use crate::error::UfsErrorKind;
use crate::ufs::{AttrChange, Expect, PutAttrs, PutSpec};
use forebay_types::{FileKind, TimeSpec, Told, UfsVersion};

const MTIME: TimeSpec = TimeSpec { secs: 1_234_567_890, nanos: 123_456_789 };

pub(super) async fn attributes_come_with_a_put(stage: Stage) -> Outcome {
    if !(stage.can().modes && stage.can().times) {
        return CannotShow("it holds no modes or times");
    }
    let (key, dir) = (stage.key("f"), stage.key("d"));
    let owner = stage.can().owners.then_some((1234, 4321));
    let attrs = PutAttrs { mode: Some(0o4751), owner, mtime: Some(MTIME) };
    let bytes = content(1, 100);
    let mut upload = stage
        .ufs
        .begin_put(&key, &PutSpec { len: 100, attrs, expect: Expect::Absent, ..PutSpec::default() })
        .await
        .unwrap();
    send_parts(&*upload, &bytes).await.unwrap();
    upload.finish().await.unwrap();
    let attr = stage.stat(&key).await.unwrap();
    assert_eq!((attr.mode, attr.mtime), (Some(0o4751), MTIME));
    if stage.can().list_attrs {
        assert_eq!(stage.only_entry().await.told, Told::All(attr.clone()));
    }
    if stage.can().empty_dirs {
        stage.ufs.mkdir(&dir, &PutAttrs { mtime: None, mode: Some(0o2750), owner }).await.unwrap();
        assert_eq!(stage.stat(&dir).await.unwrap().mode, Some(0o2750));
    }
    if owner.is_some() {
        assert_eq!(attr.owner, owner);
        let shown = stage.stat(&dir).await.and_then(|attr| attr.owner);
        assert_eq!(shown, if stage.can().empty_dirs { owner } else { None });
    }
    Passed
}

pub(super) async fn a_symbolic_link_is_a_link(stage: Stage) -> Outcome {
    let (key, attrs) = (stage.key("link"), PutAttrs::default());
    if !stage.can().symlinks {
        let refused = stage.ufs.symlink(&key, b"x", &attrs, &Expect::Any).await;
        assert_eq!(kind(refused), UfsErrorKind::Unsupported);
        return CannotShow("it holds no symbolic links");
    }
    let targets = [&b"../else where/\xc3\xbc%41"[..], b"/absolute", b"nowhere"];
    let mut expect = Expect::Absent;
    for target in targets {
        let version = stage.ufs.symlink(&key, target, &attrs, &expect).await.unwrap();
        let attr = stage.stat(&key).await.unwrap();
        assert_eq!((attr.kind, attr.link_target.as_deref()), (FileKind::Symlink, Some(target)));
        assert_eq!(attr.version, version);
        expect = Expect::Version(version);
    }
    assert_eq!(kind(stage.ufs.symlink(&key, b"x", &attrs, &Expect::Absent).await), UfsErrorKind::Exists);
    let listed = stage.listed(&stage.only_entry().await).await;
    assert_eq!((listed.kind, listed.link_target.as_deref()), (FileKind::Symlink, Some(&b"nowhere"[..])));
    // A file takes the link's place; nothing is written where the link led.
    stage.put(&key, &content(1, 10)).await;
    stage.assert_content(&key, &content(1, 10)).await;
    assert_eq!(stage.names(stage.dir()).await, [b"link"]);
    Passed
}

pub(super) async fn a_hard_link_is_a_second_name(stage: Stage) -> Outcome {
    let (key, second) = (stage.key("f"), stage.key("second"));
    stage.put(&key, &content(1, 100)).await;
    if !stage.can().hard_links {
        let refused = stage.ufs.hard_link(&key, (&second, &Expect::Absent)).await;
        assert_eq!(kind(refused), UfsErrorKind::Unsupported);
        return CannotShow("it has no hard links");
    }
    let version = stage.ufs.hard_link(&key, (&second, &Expect::Absent)).await.unwrap();
    assert_eq!((stage.version(&key).await, stage.version(&second).await), (version.clone(), version));
    let again = stage.ufs.hard_link(&key, (&second, &Expect::Absent)).await;
    assert_eq!(kind(again), UfsErrorKind::Exists);
    stage.ufs.delete(&key, &Expect::Any).await.unwrap();
    stage.assert_content(&second, &content(1, 100)).await;
    Passed
}

pub(super) async fn a_hard_link_takes_the_place_of_what_is_expected(stage: Stage) -> Outcome {
    if !stage.can().hard_links {
        return CannotShow("it has no hard links");
    }
    let (key, other) = (stage.key("f"), stage.key("other"));
    let (first, theirs) =
        (stage.put(&key, &content(1, 100)).await, stage.put(&other, &content(2, 200)).await);
    let over = |version: &UfsVersion| Expect::Version(version.clone());
    let refused = stage.ufs.hard_link(&key, (&other, &over(&first))).await;
    assert_eq!(kind(refused), UfsErrorKind::Changed);
    stage.assert_content(&other, &content(2, 200)).await;
    assert_eq!(stage.ufs.hard_link(&key, (&other, &over(&theirs))).await.unwrap(), first);
    stage.assert_content(&other, &content(1, 100)).await;
    // Once more over itself, which is no change.
    assert_eq!(stage.ufs.hard_link(&key, (&other, &over(&first))).await.unwrap(), first);
    assert_eq!(stage.names(stage.dir()).await, [b"f".to_vec(), b"other".to_vec()]);
    Passed
}

pub(super) async fn attributes_change_alone(stage: Stage) -> Outcome {
    let (key, bytes) = (stage.key("f"), content(1, 100));
    let old = stage.put(&key, &bytes).await;
    let change = AttrChange { mode: Some(0o640), mtime: Some(MTIME), ..Default::default() };
    if !stage.can().set_attr {
        assert_eq!(kind(stage.ufs.set_attr(&key, &change, &Expect::Any).await), UfsErrorKind::Unsupported);
        return CannotShow("attributes change with the content only");
    }
    let new = stage.ufs.set_attr(&key, &change, &Expect::Version(old)).await.unwrap();
    let attr = stage.stat(&key).await.unwrap();
    assert_eq!((attr.mode, attr.mtime, attr.version), (Some(0o640), MTIME, new));
    stage.assert_content(&key, &bytes).await;
    let missing = stage.ufs.set_attr(&stage.key("missing"), &change, &Expect::Any).await;
    assert_eq!(kind(missing), UfsErrorKind::NotFound);
    Passed
}
