//! The suite every adapter passes: what the trait promises, tried on a real store.
//!
//! **Owns** the cases and nothing else. [`run`] works through them in a store that it may fill, each in a
//! directory of its own, and panics with the case's name where a promise is broken. What a store says it
//! cannot do ([`crate::Capabilities`]) is not asked of it and is told in the report, so that a table in the
//! documentation can say per store which cases it cannot show.
//!
//! **Why a library function:** the adapters' own tests, the tests of the layers (which must not change what
//! an adapter promises), and whoever brings another adapter all run the very same cases.
#![allow(clippy::unwrap_used, reason = "a test suite fails by panicking")]

mod attrs;
mod content;
mod names;
mod puts;
mod support;

use crate::ufs::Ufs;
use std::fmt;
use std::sync::Arc;
use support::Stage;

/// What came of a case that was not broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All that it asks was shown.
    Passed,
    /// The store says that it cannot do this.
    CannotShow(&'static str),
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The store's name.
    pub store: String,
    /// Each case, in the order in which they ran.
    pub cases: Vec<(&'static str, Outcome)>,
}

impl Report {
    /// The cases that the store cannot show, with its reason.
    pub fn not_shown(&self) -> Vec<(&'static str, &'static str)> {
        let reason = |(name, outcome): &(&'static str, Outcome)| match outcome {
            Outcome::CannotShow(reason) => Some((*name, *reason)),
            Outcome::Passed => None,
        };
        self.cases.iter().filter_map(reason).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} cases", self.store, self.cases.len())?;
        for (name, outcome) in &self.cases {
            match outcome {
                Outcome::Passed => writeln!(f, "  {name}: passed")?,
                Outcome::CannotShow(reason) => writeln!(f, "  {name}: cannot be shown: {reason}")?,
            }
        }
        Ok(())
    }
}

macro_rules! cases {
    ($stage:ident, $skipped:ident, $report:ident, $($module:ident :: $case:ident),+ $(,)?) => {
        $(
            let name = stringify!($case);
            let outcome = match $skipped.iter().find(|(case, _)| *case == name) {
                Some((_, reason)) => Outcome::CannotShow(reason),
                // Boxed: the futures of the cases together would be large on the stack.
                None => Box::pin($module::$case($stage.case(name).await)).await,
            };
            $report.cases.push((name, outcome));
        )+
    };
}

/// Runs every case against `ufs`, which must be writable, with its own root free of names that begin
/// `conformance-`.
///
/// # Panics
/// If the store breaks a promise of [`Ufs`].
pub async fn run(ufs: Arc<dyn Ufs>) -> Report {
    run_without(ufs, &[]).await
}

/// The same, without the cases that a stand-in for a store is known to get wrong, each with what it gets wrong.
///
/// # Panics
/// If the store breaks a promise of [`Ufs`], or if a case left out does not exist.
pub async fn run_without(ufs: Arc<dyn Ufs>, skipped: &[(&'static str, &'static str)]) -> Report {
    let mut report = Report { store: ufs.name().to_owned(), cases: Vec::new() };
    let stage = Stage::new(ufs);
    cases!(
        stage,
        skipped,
        report,
        content::ranges_are_exact,
        content::a_zero_length_file_is_a_file,
        content::versions_agree_and_move,
        content::a_moved_version_is_not_read,
        content::nothing_is_none,
        content::a_copy_is_the_version_asked_for,
        puts::parts_come_in_any_order,
        puts::a_part_may_be_sent_again,
        puts::parts_must_fit,
        puts::an_incomplete_upload_does_not_finish,
        puts::abort_leaves_nothing,
        puts::a_dropped_upload_leaves_nothing,
        puts::a_put_expects_what_is_there,
        puts::of_puts_at_once_one_wins,
        puts::puts_at_once_never_mix,
        puts::a_finish_may_be_repeated,
        puts::a_directory_is_not_replaced,
        puts::a_put_that_believes_spares_what_is_there,
        names::a_listing_has_each_name_once,
        names::what_a_listing_leaves_open_is_told_when_asked,
        names::a_listing_stays_in_its_directory,
        names::a_failed_listing_is_an_error,
        names::odd_names_are_kept,
        names::a_backslash_is_kept,
        names::control_characters_are_kept,
        names::names_that_are_no_text,
        names::names_that_are_too_long,
        names::directories_come_and_go,
        names::an_emptied_directory_stays,
        names::deletes_are_exact,
        names::renames_replace,
        names::directories_are_renamed,
        attrs::attributes_come_with_a_put,
        attrs::a_symbolic_link_is_a_link,
        attrs::a_hard_link_is_a_second_name,
        attrs::a_hard_link_takes_the_place_of_what_is_expected,
        attrs::attributes_change_alone,
    );
    let known = |case: &&str| report.cases.iter().any(|(name, _)| name == case);
    assert!(skipped.iter().all(|(case, _)| known(case)), "a case to leave out does not exist: {skipped:?}");
    report
}
