//! What is done to both, and how it is made up: few names, so that operations meet.

use forebay_namespace::RenameMode;
use forebay_types::FileKind;
use proptest::prelude::*;

/// A path of one to three of a few names: collisions are the point.
pub(crate) type Path = Vec<&'static str>;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Path, FileKind),
    Link(Path, Path),
    Unlink(Path),
    Rmdir(Path),
    Rename(Path, Path, RenameMode),
    Chmod(Path, u16),
    SetXattr(Path, u8),
    RemoveXattr(Path, u8),
    /// Open for write, write so many bytes (none: close unchanged), close.
    Write(Path, Option<u16>),
    Truncate(Path, u16),
    Sync,
    Flush,
    Expire,
    Crash,
    /// Carry at most so many tasks; all of them: then the UFS has what the model has.
    Carry(Option<u8>),
    /// Take a task and leave it.
    Take,
    /// Carry a task that was taken, and do not say so yet.
    Do(u8),
    /// Say what came of a task that was taken.
    Tell(u8, Tell),
}

/// What is said of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tell {
    /// What came of it.
    Truth,
    /// That it failed, though it may have taken effect.
    Failed,
}

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

pub(crate) fn arb_path() -> impl Strategy<Value = Path> {
    prop::collection::vec(prop::sample::select(&NAMES[..]), 1..=3)
}

pub(crate) fn arb_op() -> impl Strategy<Value = Op> {
    use FileKind::{Directory, Fifo, Regular, Symlink};
    let kind = || prop::sample::select(vec![Regular, Regular, Directory, Directory, Symlink, Fifo]);
    let mode = || {
        prop::sample::select(vec![
            RenameMode::Replace,
            RenameMode::Replace,
            RenameMode::NoReplace,
            RenameMode::Exchange,
        ])
    };
    prop_oneof![
        8 => (arb_path(), kind()).prop_map(|(path, kind)| Op::Create(path, kind)),
        3 => (arb_path(), arb_path()).prop_map(|(from, to)| Op::Link(from, to)),
        4 => arb_path().prop_map(Op::Unlink),
        4 => arb_path().prop_map(Op::Rmdir),
        8 => (arb_path(), arb_path(), mode()).prop_map(|(from, to, mode)| Op::Rename(from, to, mode)),
        1 => (arb_path(), 0_u16..0o7777).prop_map(|(path, mode)| Op::Chmod(path, mode)),
        1 => (arb_path(), any::<u8>()).prop_map(|(path, value)| Op::SetXattr(path, value)),
        1 => (arb_path(), any::<u8>()).prop_map(|(path, value)| Op::RemoveXattr(path, value)),
        3 => (arb_path(), any::<Option<u16>>()).prop_map(|(path, len)| Op::Write(path, len)),
        1 => (arb_path(), any::<u16>()).prop_map(|(path, len)| Op::Truncate(path, len)),
        1 => Just(Op::Sync),
        1 => Just(Op::Flush),
        2 => Just(Op::Expire),
        2 => Just(Op::Crash),
        3 => prop::option::of(1_u8..6).prop_map(Op::Carry),
        4 => Just(Op::Take),
        4 => any::<u8>().prop_map(Op::Do),
        4 => (any::<u8>(), prop::sample::select(vec![Tell::Truth, Tell::Truth, Tell::Failed]))
            .prop_map(|(n, tell)| Op::Tell(n, tell)),
    ]
}

pub(crate) fn mode_of(kind: FileKind) -> u16 {
    match kind {
        FileKind::Directory => 0o755,
        FileKind::Symlink => 0o777,
        _ => 0o644,
    }
}
