//! Cases about what is put.

use super::Outcome::{self, Passed};
use super::support::{Stage, content, kind, part_count, part_of, send_parts};
use crate::error::UfsErrorKind;
use crate::ufs::Expect;
use bytes::Bytes;
use futures_util::future::join_all;

/// A length that takes three parts, the last one short.
async fn three_parts(stage: &Stage) -> usize {
    let mut probe = stage.begin(&stage.key("probe"), 1, Expect::Any).await.unwrap();
    let part_len = probe.part_len() as usize;
    probe.abort().await.unwrap();
    part_len * 2 + part_len / 3 + 1
}

pub(super) async fn parts_come_in_any_order(stage: Stage) -> Outcome {
    let key = stage.key("big");
    let bytes = content(7, three_parts(&stage).await);
    let mut upload = stage.begin(&key, bytes.len(), Expect::Absent).await.unwrap();
    assert_eq!(part_count(&*upload, &bytes), 3);
    let parts = [2, 0, 1].map(|index| upload.part(index, part_of(&*upload, &bytes, index)));
    for sent in join_all(parts).await {
        sent.unwrap();
    }
    assert_eq!(stage.stat(&key).await, None, "it appears only when it finishes");
    let version = upload.finish().await.unwrap();
    assert_eq!(stage.version(&key).await, version);
    stage.assert_content(&key, &bytes).await;
    Passed
}

pub(super) async fn a_part_may_be_sent_again(stage: Stage) -> Outcome {
    let key = stage.key("f");
    let bytes = content(3, three_parts(&stage).await);
    let mut upload = stage.begin(&key, bytes.len(), Expect::Any).await.unwrap();
    upload.part(1, part_of(&*upload, &bytes, 1)).await.unwrap();
    send_parts(&*upload, &bytes).await.unwrap();
    upload.part(2, part_of(&*upload, &bytes, 2)).await.unwrap();
    upload.finish().await.unwrap();
    stage.assert_content(&key, &bytes).await;
    Passed
}

pub(super) async fn parts_must_fit(stage: Stage) -> Outcome {
    let upload = stage.begin(&stage.key("f"), 10, Expect::Any).await.unwrap();
    for (index, len) in [(0, 9), (0, 11), (1, 1), (u64::MAX, 10)] {
        let refused = upload.part(index, content(0, len)).await;
        assert_eq!(kind(refused), UfsErrorKind::Invalid, "part {index} of {len} bytes");
    }
    Passed
}

pub(super) async fn an_incomplete_upload_does_not_finish(stage: Stage) -> Outcome {
    let key = stage.key("f");
    let bytes = content(3, three_parts(&stage).await);
    let mut upload = stage.begin(&key, bytes.len(), Expect::Any).await.unwrap();
    for index in [0, 2] {
        upload.part(index, part_of(&*upload, &bytes, index)).await.unwrap();
    }
    assert_eq!(kind(upload.finish().await), UfsErrorKind::Invalid);
    assert_eq!(stage.stat(&key).await, None);
    upload.part(1, part_of(&*upload, &bytes, 1)).await.unwrap();
    upload.finish().await.unwrap();
    stage.assert_content(&key, &bytes).await;
    Passed
}

pub(super) async fn abort_leaves_nothing(stage: Stage) -> Outcome {
    let (key, kept) = (stage.key("f"), content(1, 1000));
    let bytes = content(2, three_parts(&stage).await);
    for present in [false, true] {
        let mut upload = stage.begin(&key, bytes.len(), Expect::Any).await.unwrap();
        send_parts(&*upload, &bytes).await.unwrap();
        upload.abort().await.unwrap();
        assert_eq!(kind(upload.finish().await), UfsErrorKind::Invalid, "an aborted upload cannot finish");
        match present {
            false => assert_eq!(stage.stat(&key).await, None),
            true => stage.assert_content(&key, &kept).await,
        }
        stage.put(&key, &kept).await;
    }
    assert_eq!(stage.names(stage.dir()).await, [b"f"]);
    Passed
}

pub(super) async fn a_dropped_upload_leaves_nothing(stage: Stage) -> Outcome {
    let bytes = content(2, three_parts(&stage).await);
    let upload = stage.begin(&stage.key("f"), bytes.len(), Expect::Any).await.unwrap();
    send_parts(&*upload, &bytes).await.unwrap();
    drop(upload);
    assert_eq!(stage.stat(&stage.key("f")).await, None);
    assert!(stage.names(stage.dir()).await.is_empty());
    Passed
}

pub(super) async fn a_put_expects_what_is_there(stage: Stage) -> Outcome {
    let (key, other) = (stage.key("f"), stage.key("other"));
    let first = stage.try_put(&key, &content(1, 100), Expect::Absent).await.unwrap();
    let taken = stage.try_put(&key, &content(2, 100), Expect::Absent).await;
    assert_eq!(kind(taken), UfsErrorKind::Exists);
    let second = stage.try_put(&key, &content(3, 100), Expect::Version(first.clone())).await.unwrap();
    let moved = stage.try_put(&key, &content(4, 100), Expect::Version(first.clone())).await;
    assert_eq!(kind(moved), UfsErrorKind::Changed);
    stage.assert_content(&key, &content(3, 100)).await;
    assert_eq!(stage.version(&key).await, second);
    let nothing_there = stage.try_put(&other, &content(5, 100), Expect::Version(first)).await;
    assert_eq!(kind(nothing_there), UfsErrorKind::Changed);
    assert_eq!(stage.stat(&other).await, None);
    // The expectation is settled at the end, also of an upload in parts.
    let bytes = content(6, three_parts(&stage).await);
    let mut late = stage.begin(&other, bytes.len(), Expect::Absent).await.unwrap();
    send_parts(&*late, &bytes).await.unwrap();
    stage.put(&other, &content(7, 10)).await;
    assert_eq!(kind(late.finish().await), UfsErrorKind::Exists);
    stage.assert_content(&other, &content(7, 10)).await;
    Passed
}

const WRITERS: u64 = 8;

pub(super) async fn of_puts_at_once_one_wins(stage: Stage) -> Outcome {
    let key = stage.key("f");
    let mut expect = Expect::Absent;
    for round in 0..3 {
        let puts = (0..WRITERS).map(|writer| {
            let (stage, key, expect) = (stage.clone(), key.clone(), expect.clone());
            let bytes = content(round * WRITERS + writer, 3000);
            async move { (writer, stage.try_put(&key, &bytes, expect).await) }
        });
        let outcomes = join_all(puts).await;
        let mut winners = Vec::new();
        for (writer, outcome) in outcomes {
            match outcome {
                Ok(version) => winners.push((writer, version)),
                Err(e) => assert!(matches!(e.kind(), UfsErrorKind::Exists | UfsErrorKind::Changed), "{e}"),
            }
        }
        let [(winner, version)] = &winners[..] else { panic!("{} writers won", winners.len()) };
        stage.assert_content(&key, &content(round * WRITERS + winner, 3000)).await;
        expect = Expect::Version(version.clone());
    }
    Passed
}

pub(super) async fn puts_at_once_never_mix(stage: Stage) -> Outcome {
    let key = stage.key("f");
    let puts = (0..WRITERS).map(|writer| {
        let (stage, key) = (stage.clone(), key.clone());
        async move { stage.put(&key, &content(writer, 60_000)).await }
    });
    join_all(puts).await;
    let version = stage.version(&key).await;
    let mut found = vec![0; 60_000];
    assert_eq!(stage.ufs.read(&key, &version, 0, &mut found).await, Ok(60_000));
    let found = Bytes::from(found);
    assert!((0..WRITERS).any(|writer| content(writer, 60_000) == found), "the content is no writer's");
    Passed
}

pub(super) async fn a_finish_may_be_repeated(stage: Stage) -> Outcome {
    let (key, bytes) = (stage.key("f"), content(1, 100));
    let mut upload = stage.begin(&key, bytes.len(), Expect::Absent).await.unwrap();
    send_parts(&*upload, &bytes).await.unwrap();
    let version = upload.finish().await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), version);
    drop(upload);
    stage.assert_content(&key, &bytes).await;
    Passed
}

pub(super) async fn a_directory_is_not_replaced(stage: Stage) -> Outcome {
    let dir = stage.key("d");
    stage.mkdir(&dir).await;
    let put = stage.try_put(&dir, &content(1, 10), Expect::Any).await;
    assert_eq!(kind(put), UfsErrorKind::IsADirectory);
    let put = stage.try_put(&dir, &content(1, 10), Expect::Absent).await;
    assert!(matches!(kind(put), UfsErrorKind::Exists | UfsErrorKind::IsADirectory));
    assert!(stage.names(&dir).await.is_empty());
    Passed
}

/// What is believed of other names may be old; what this process did itself, and the file itself, never is.
pub(super) async fn a_put_that_believes_spares_what_is_there(stage: Stage) -> Outcome {
    let (ours, other) = (content(1, 1000), content(2, 1000));
    let is_in_the_way = |put| matches!(kind(put), UfsErrorKind::Exists | UfsErrorKind::IsADirectory);
    let put = |name: &str, expect| {
        let (key, stage, ours) = (stage.key(name), &stage, &ours);
        async move { stage.put_believing(&key, ours, expect).await }
    };
    for name in ["a", "b", "c", "d"] {
        put(name, Expect::Absent).await.unwrap();
    }
    let first = stage.version(&stage.key("d")).await;
    assert_eq!(kind(put("d", Expect::Absent).await), UfsErrorKind::Exists);
    stage.put(&stage.key("d"), &other).await;
    assert_eq!(kind(put("d", Expect::Version(first)).await), UfsErrorKind::Changed);
    stage.assert_content(&stage.key("d"), &other).await;
    stage.mkdir(&stage.key("made")).await;
    assert!(is_in_the_way(put("made", Expect::Absent).await));
    if !stage.can().parents_needed {
        put("below/f", Expect::Absent).await.unwrap();
        assert!(is_in_the_way(put("below", Expect::Absent).await));
    }
    stage.ufs.rmdir(&stage.key("made")).await.unwrap();
    put("made", Expect::Absent).await.unwrap();
    Passed
}
