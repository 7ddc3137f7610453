//! The checker must find each kind of loss, and nothing where all is well.

use super::*;

fn op_create(path: &str) -> Op {
    Op::Create { path: path.to_owned(), mode: 0o644 }
}

fn op_write(path: &str, offset: u64, len: u64) -> Op {
    Op::Write { path: path.to_owned(), offset, len }
}

fn op_fsync(path: &str) -> Op {
    Op::Fsync { path: path.to_owned() }
}

fn op_rename(from: &str, to: &str) -> Op {
    Op::Rename { from: from.to_owned(), to: to.to_owned() }
}

fn seen_of(world: &World) -> BTreeMap<String, Seen> {
    let see = |node: &Node| match node {
        Node::Dir => Seen::Dir,
        Node::Link(target) => Seen::Link(target.clone()),
        Node::File(id) => Seen::File {
            data: world.files[id].data.clone(),
            mode: world.files[id].mode,
            inode: *id,
            mtime: 0,
        },
    };
    world.names.iter().map(|(path, node)| (path.clone(), see(node))).collect()
}

fn data_mut<'a>(seen: &'a mut BTreeMap<String, Seen>, path: &str) -> &'a mut Vec<u8> {
    match seen.get_mut(path) {
        Some(Seen::File { data, .. }) => data,
        other => panic!("{path} is {other:?}"),
    }
}

fn expect_after(loss: Loss, ops: &[Op]) -> Expect {
    let mut expect = Expect::new(loss, World::default());
    for (tag, op) in ops.iter().enumerate() {
        expect.acked(op, 1 + tag as u64);
    }
    expect
}

#[test]
fn a_lost_name_a_ghost_and_a_lost_byte_are_found() {
    let expect = expect_after(Loss::Daemon, &[op_create("a"), op_write("a", 0, 5000), op_create("b")]);
    let good = seen_of(&expect.world);
    assert_eq!(expect.check(&good).unwrap(), expect.world);

    let mut lost = good.clone();
    lost.remove("b");
    assert!(expect.check(&lost).is_err());
    let mut ghost = good.clone();
    ghost.insert("c".to_owned(), Seen::Dir);
    assert!(expect.check(&ghost).is_err());
    let mut zero = good.clone();
    data_mut(&mut zero, "a")[4096] = 0;
    assert!(expect.check(&zero).unwrap_err()[0].contains("1 of them zero"));
    let mut short = good;
    data_mut(&mut short, "a").truncate(4999);
    assert!(expect.check(&short).is_err());
}

#[test]
fn a_write_in_flight_may_be_mixed_but_not_with_other_bytes() {
    let mut expect = expect_after(Loss::Daemon, &[op_create("a"), op_write("a", 0, 100)]);
    let before = seen_of(&expect.world);
    expect.in_flight(&op_write("a", 50, 100), 9);
    assert!(expect.check(&before).is_ok());
    let mut mixed = before.clone();
    pattern_into(data_mut(&mut mixed, "a"), 9, 50, 30);
    assert!(expect.check(&mixed).is_ok());
    pattern_into(data_mut(&mut mixed, "a"), 8, 50, 30);
    assert!(expect.check(&mixed).is_err());
}

fn pattern_into(data: &mut Vec<u8>, tag: u64, offset: u64, len: u64) {
    crate::pattern::put(data, tag, offset, len);
}

#[test]
fn a_rename_in_flight_is_there_or_not_and_never_half() {
    let mut expect = expect_after(Loss::Daemon, &[op_create("a"), op_write("a", 0, 10)]);
    let before = seen_of(&expect.world);
    expect.in_flight(&op_rename("a", "b"), 7);
    let after = BTreeMap::from([("b".to_owned(), before["a"].clone())]);
    assert!(expect.check(&before).is_ok());
    assert!(expect.check(&after).is_ok());
    let both = before.into_iter().chain(after).collect();
    assert!(expect.check(&both).is_err());
    assert!(expect.check(&BTreeMap::new()).is_err());
}

#[test]
fn after_a_power_loss_only_what_was_synced_is_due() {
    let ops =
        [op_create("a"), op_write("a", 0, 5000), op_fsync("a"), op_write("a", 5000, 5000), op_create("b")];
    let expect = expect_after(Loss::Power, &ops);
    let full = seen_of(&expect.world);
    assert!(expect.check(&full).is_ok());
    let mut older = full.clone();
    older.remove("b");
    data_mut(&mut older, "a").truncate(5000);
    assert!(expect.check(&older).is_ok());
    let mut hole = full.clone();
    data_mut(&mut hole, "a")[6000..7000].fill(0);
    assert!(expect.check(&hole).is_ok(), "a block beyond what was synced may be missing");
    let mut zero = full.clone();
    data_mut(&mut zero, "a")[4000..4100].fill(0);
    assert!(expect.check(&zero).is_err(), "a zero page where synced data was");
    older.remove("a");
    assert!(expect.check(&older).is_err(), "a synced name is gone");
}

#[test]
fn a_synced_file_survives_an_unsynced_rename_under_one_of_its_names() {
    let ops = [op_create("a"), op_write("a", 0, 10), op_fsync("a"), op_rename("a", "b")];
    let expect = expect_after(Loss::Power, &ops);
    let there = seen_of(&expect.world);
    let old = BTreeMap::from([("a".to_owned(), there["b"].clone())]);
    assert!(expect.check(&there).is_ok());
    assert!(expect.check(&old).is_ok());
    assert!(expect.check(&BTreeMap::new()).is_err());
    assert!(expect.check(&there.into_iter().chain(old).collect()).is_err());
}

#[test]
fn hard_links_stay_one_file() {
    let link = Op::Link { from: "a".to_owned(), to: "b".to_owned() };
    let expect = expect_after(Loss::Daemon, &[op_create("a"), op_write("a", 0, 10), link]);
    let mut seen = seen_of(&expect.world);
    assert!(expect.check(&seen).is_ok());
    if let Some(Seen::File { inode, .. }) = seen.get_mut("b") {
        *inode += 1;
    }
    assert!(expect.check(&seen).unwrap_err()[0].contains("two now"));
}

#[test]
fn a_time_from_before_the_last_write_is_found_under_every_name() {
    let ops = [op_create("a"), op_write("a", 0, 9), op_rename("a", "b")];
    for (loss, late, findings) in
        [(Loss::Daemon, TICK, 0), (Loss::Daemon, TICK + 1, 1), (Loss::Power, TICK + 1, 0)]
    {
        let mut expect = expect_after(loss, &ops[..2]);
        expect.written(&ops[1], late);
        expect.acked(&ops[2], 3);
        expect.written(&ops[2], late + TICK);
        let found = expect.check(&seen_of(&expect.world)).err().unwrap_or_default();
        assert_eq!(found.len(), findings, "{loss:?} {late}: {found:?}");
    }
}

#[test]
fn an_empty_file_that_is_renamed_over_another_is_not_held_to_the_time_of_that_one() {
    let link = Op::Link { from: "a".to_owned(), to: "c".to_owned() };
    let ops = [op_create("a"), link, op_create("b")];
    let mut expect = expect_after(Loss::Daemon, &ops);
    expect.written.insert(expect.world.id_of("b").unwrap(), TICK + 1);
    let before = seen_of(&expect.world);
    expect.in_flight(&op_rename("a", "b"), 4);
    let after =
        BTreeMap::from([("b".to_owned(), before["a"].clone()), ("c".to_owned(), before["c"].clone())]);
    let found = expect.check(&after).unwrap();
    assert_eq!(
        found.id_of("b"),
        found.id_of("c"),
        "the file that was renamed, not the one it was renamed over"
    );
    let findings = expect.check(&before).unwrap_err();
    assert_eq!(findings.len(), 1, "the rename was not done, and b is too old: {findings:?}");
}

#[test]
fn two_empty_files_are_not_taken_for_the_link_that_was_lost() {
    let link = Op::Link { from: "a".to_owned(), to: "b".to_owned() };
    let gone = Op::Unlink { path: "b".to_owned() };
    let before = [op_create("a"), op_fsync("a"), op_create("b"), op_fsync("b")];
    let mut expect = expect_after(Loss::Power, &before);
    let seen = seen_of(&expect.world);
    expect.acked(&gone, 5);
    expect.acked(&link, 6);
    let found = expect.check(&seen).unwrap();
    assert_ne!(found.id_of("a"), found.id_of("b"), "they are two inodes: the link was not synced");
    let linked = seen_of(&expect.world);
    let found = expect.check(&linked).unwrap();
    assert_eq!(found.id_of("a"), found.id_of("b"), "and one if it is there all the same");
}
