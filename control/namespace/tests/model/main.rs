//! The name space against a plain model of a POSIX file system: the same random operations on both, crashes
//! and reopenings among them, and after each the same tree.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "../common/mod.rs"]
mod common;
mod ops;
mod plain;
mod real;

use common::{World, block_on};
use forebay_namespace::RenameMode;
use forebay_types::{Clock, FileKind, Ino};
use ops::{Op, Path, Tell, arb_op, arb_path, mode_of};
use plain::{Model, ROOT};
use proptest::prelude::*;
use real::Real;
use std::collections::HashMap;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// Puts a tree into the UFS and into the model.
fn seed(world: &World, model: &mut Model, paths: &[(Path, bool)]) {
    for (path, is_dir) in paths {
        let Ok((dir, last)) = model.parent(path) else { continue };
        if model.nodes[dir].children.contains_key(last) {
            continue;
        }
        let (kind, at) = (if *is_dir { FileKind::Directory } else { FileKind::Regular }, path.join("/"));
        if *is_dir {
            std::fs::create_dir(world.ufs_path(&at)).unwrap();
        } else {
            world.put_ufs(&at, b"0123456789");
        }
        let node = model.add(kind, mode_of(kind), false);
        model.nodes[node].size = if *is_dir { 0 } else { 10 };
        model.nodes[dir].children.insert(last, node);
    }
}

/// How long what the UFS said is believed where a listing is dear: longer than any case, since nobody else changes it.
const BELIEVED: Duration = Duration::from_secs(1 << 40);

/// `bare`: the UFS is like an object store, of which little is asked for again.
fn run(seeds: &[(Path, bool)], ops: &[Op], (small_tables, bare): (bool, bool)) {
    let world = World::with(|config| {
        if bare {
            config.root = common::root_spec(BELIEVED);
        }
        if small_tables {
            // Room for the two inodes that a rename needs at a time, though they stand in the same of 256 slices.
            (config.inodes_max, config.names_max) = (2 * 256, 1);
            config.log_segment_max = 500;
            config.commit_gather = Duration::ZERO;
        }
    });
    world.ufs.bare_lists.store(bare, SeqCst);
    let mut model = Model::new();
    seed(&world, &mut model, seeds);
    let mut real = Real { world, looked_up: Vec::new(), carried: false, taken: Vec::new() };
    let mut known = HashMap::new();
    block_on(async {
        for op in ops {
            real.world.clock.advance(Duration::from_secs(1));
            let now = real.world.clock.now();
            let wanted = model.apply(op, now);
            let got = real.apply(op, now).await.map_err(|error| error.kind());
            if !matches!(op, Op::Crash) {
                real.forget();
            }
            real.looked_up.clear();
            assert_eq!(got, wanted, "{op:?}");
            real.compare(&model, ROOT, Ino::ROOT, &mut known).await;
            if matches!(op, Op::Carry(None)) {
                assert_eq!(real.world.names().dirty_stats().names, 0, "something is left to carry");
                model.compare_ufs(ROOT, real.world.ufs_dir.path());
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("FOREBAY_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(60),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn behaves_as_a_plain_file_system(
        seeds in prop::collection::vec((arb_path(), any::<bool>()), 0..12),
        ops in prop::collection::vec(arb_op(), 1..40),
        tables_and_lists in any::<(bool, bool)>(),
    ) {
        run(&seeds, &ops, tables_and_lists);
    }
}

/// What the UFS has at first, and what is done.
type Case = (Vec<(Path, bool)>, Vec<Op>);

/// Cases that failed once.
#[test]
fn what_changes_while_a_task_is_out_is_carried_too() {
    let cases: [Case; 6] = [
        (
            vec![(vec!["a"], false), (vec!["b"], false)],
            vec![
                Op::Rename(vec!["b"], vec!["a"], RenameMode::Exchange),
                Op::Take,
                Op::Unlink(vec!["a"]),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["c"], false), (vec!["b"], true)],
            vec![Op::Link(vec!["c"], vec!["b", "a"]), Op::Take, Op::Unlink(vec!["c"]), Op::Carry(None)],
        ),
        (
            vec![(vec!["b"], false), (vec!["a"], false)],
            vec![
                Op::Rename(vec!["b"], vec!["a"], RenameMode::Exchange),
                Op::Take,
                Op::Rename(vec!["b"], vec!["a"], RenameMode::Replace),
                Op::Do(0),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["c"], false), (vec!["a"], false)],
            vec![
                Op::Rename(vec!["a"], vec!["c"], RenameMode::Exchange),
                Op::Take,
                Op::Take,
                Op::Do(0),
                Op::Tell(1, Tell::Truth),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["a"], false)],
            vec![
                Op::Create(vec!["b"], FileKind::Fifo),
                Op::Take,
                Op::Rename(vec!["a"], vec!["b"], RenameMode::Replace),
                Op::Carry(None),
            ],
        ),
        (
            vec![(vec!["a"], true)],
            vec![
                Op::Create(vec!["b"], FileKind::Regular),
                Op::Carry(None),
                Op::Sync,
                Op::Rename(vec!["b"], vec!["a", "b"], RenameMode::Replace),
                Op::Take,
                Op::Do(0),
                Op::Rename(vec!["a", "b"], vec!["b"], RenameMode::Replace),
                Op::Take,
                Op::Carry(None),
            ],
        ),
    ];
    for (seeds, ops) in cases {
        run(&seeds, &ops, (false, false));
        run(&seeds, &ops, (false, true));
    }
}
