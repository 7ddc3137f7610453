//! Every start that must fail: it says why and what to do, ends non-zero, and leaves nothing behind.

mod cases;
mod places;

use crate::support::{Ground, forebay, kind_of_mount};
use std::process::{Command, Output};

/// The failure must name the cause and a remedy, and neither mount nor cache may be there.
fn refused(ground: &Ground, output: &Output, cause: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it came up: {said}");
    assert!(output.stdout.is_empty(), "it said on standard output: {:?}", output.stdout);
    assert!(said.contains(cause), "{cause:?} is not in: {said}");
    assert!(said.contains("remedy: ") || said.contains("; "), "no remedy in: {said}");
    assert_ne!(kind_of_mount(&ground.mnt()), "fuse.forebay");
}

/// `forebay up` as it should be, but for the cache.
fn bare_up(ground: &Ground) -> Command {
    let mut command = forebay(["up"]);
    command.arg(ground.ufs()).arg(ground.mnt());
    command
}

fn up(ground: &Ground) -> Command {
    let mut command = bare_up(ground);
    command.arg("--cache").arg(ground.cache());
    command
}
