//! From one figure to the limit of every part.
//!
//! A part whose own setting is there has what that says. What the others need at the least comes next, and what is left is
//! shared among them by weight, each up to what it has a use for; the tables take the rest, since what they hold is asked
//! for again and again. Explicit parts that leave the others too little are refused: a daemon that cannot keep its budget
//! is not to begin.

use super::{Part, sum, whole_mib};
use crate::bounds::PERSIST_MEMORY_MIN;
use crate::config::Config;
use crate::failure::{Failure, Outcome};
use forebay_types::ByteSize;
use std::fmt;

/// Where nobody sets the budget it is one in so many of what the machine has, between these two, ...
const SHARE: u64 = 16;
const DEFAULT_MIN: ByteSize = ByteSize::mib(512);
const DEFAULT_MAX: ByteSize = ByteSize::gib(4);
/// ... and never more than one in so many.
const SHARE_MIN: u64 = 2;

/// Code, stacks, sockets, handles, the allocator's slack.
const PROCESS: ByteSize = ByteSize::mib(64);
/// What `node.arena` and `node.tables` must at least be where they are set.
const ARENA_SET_MIN: ByteSize = ByteSize::mib(16);
const TABLES_MIN: ByteSize = ByteSize::mib(16);

/// How the tables share theirs, of sixteen.
const TABLE_SHARES: [(Part, u64); 4] =
    [(Part::Inodes, 9), (Part::Names, 2), (Part::Extents, 4), (Part::Queue, 1)];

/// What is shared out: a part, or the tables together.
#[derive(Clone, Copy)]
struct Claim {
    key: Option<&'static str>,
    least: ByteSize,
    /// Of sixteen.
    weight: u64,
    most: ByteSize,
}

/// In this order: arena, persist, transfers, changes, tables.
const CLAIMS: [Claim; 5] = [
    Claim { key: Some("node.arena"), least: ByteSize::mib(32), weight: 4, most: ByteSize::gib(1) },
    Claim { key: Some("persist.memory"), least: PERSIST_MEMORY_MIN, weight: 2, most: ByteSize::mib(512) },
    Claim { key: None, least: ByteSize::mib(8), weight: 2, most: ByteSize::mib(128) },
    Claim { key: None, least: ByteSize::mib(12), weight: 1, most: ByteSize::mib(192) },
    Claim { key: Some("node.tables"), least: TABLES_MIN, weight: 7, most: ByteSize::bytes(u64::MAX) },
];
const TABLES: usize = 4;
/// The parts that are claims of their own, in the order of the claims.
const ALONE: [Part; TABLES] = [Part::Arena, Part::Persist, Part::Transfers, Part::Changes];
const WEIGHTS: u64 = 16;

const fn weights() -> u64 {
    let (mut at, mut all) = (0, 0);
    while at < CLAIMS.len() {
        all += CLAIMS[at].weight;
        at += 1;
    }
    all
}

const fn least_of_all() -> u64 {
    let (mut at, mut all) = (0, PROCESS.as_u64());
    while at < CLAIMS.len() {
        all += CLAIMS[at].least.as_u64();
        at += 1;
    }
    all
}

const _: () = assert!(weights() == WEIGHTS, "the weights are sixteenths");
const _: () = assert!(least_of_all() <= DEFAULT_MIN.as_u64() && DEFAULT_MIN.as_u64() < DEFAULT_MAX.as_u64());
const _: () = assert!(ARENA_SET_MIN.as_u64() <= CLAIMS[0].least.as_u64());
const _: () = assert!(TABLE_SHARES[0].1 + TABLE_SHARES[1].1 + TABLE_SHARES[2].1 + TABLE_SHARES[3].1 == 16);

/// The budget and the limit of every part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    budget: ByteSize,
    is_set: bool,
    machine: ByteSize,
    limits: [ByteSize; Part::ALL.len()],
    set_by: [Option<&'static str>; Part::ALL.len()],
}

/// What the claims are set to by their own keys.
type Set = [Option<ByteSize>; CLAIMS.len()];

/// The budget of a daemon on a machine with so much memory, where nobody sets it.
pub(crate) fn default_budget(machine: ByteSize) -> ByteSize {
    let share = (machine.as_u64() / SHARE).clamp(DEFAULT_MIN.as_u64(), DEFAULT_MAX.as_u64());
    whole_mib(share.min(machine.as_u64() / SHARE_MIN).max(least_of_all()))
}

impl Split {
    /// The split that the settings ask for on a machine with so much memory.
    ///
    /// # Errors
    /// The budget does not hold its parts, or the machine not the budget; with what would do.
    pub(crate) fn of(config: &Config, machine: ByteSize) -> Outcome<Self> {
        let set = [config.node.arena, config.persist.memory, None, None, config.node.tables];
        check_set(config)?;
        let budget = match config.node.memory {
            Some(budget) => budget,
            None => derived(&set, machine),
        };
        if budget > machine {
            return Err(too_much(config.node.memory, &set, budget, machine));
        }
        let claims = shared_out(&set, budget).ok_or_else(|| too_little(budget, &set))?;
        Ok(Self::with(config.node.memory.is_some(), (budget, machine), &set, claims))
    }

    fn with(
        is_set: bool,
        (budget, machine): (ByteSize, ByteSize),
        set: &Set,
        claims: [ByteSize; CLAIMS.len()],
    ) -> Self {
        let mut limits = [PROCESS; Part::ALL.len()];
        let mut set_by = [None; Part::ALL.len()];
        let key_of = |claim: usize| set[claim].and(CLAIMS[claim].key);
        for (claim, part) in ALONE.into_iter().enumerate() {
            (limits[part.index()], set_by[part.index()]) = (claims[claim], key_of(claim));
        }
        for (part, share) in TABLE_SHARES {
            limits[part.index()] = ByteSize::bytes(claims[TABLES].as_u64() / 16 * share);
            set_by[part.index()] = key_of(TABLES);
        }
        Self { budget, is_set, machine, limits, set_by }
    }

    /// All of it.
    pub(crate) fn budget(&self) -> ByteSize {
        self.budget
    }

    /// The most of a part; of one that cannot be held to it, what was foreseen.
    pub(crate) fn limit(&self, part: Part) -> ByteSize {
        self.limits[part.index()]
    }

    /// The setting that a part has its limit from; `None`: it is derived from the budget.
    pub(crate) fn set_by(&self, part: Part) -> Option<&'static str> {
        self.set_by[part.index()]
    }

    /// Where the budget comes from, for people.
    pub(crate) fn origin(&self) -> String {
        match self.is_set {
            true => "node.memory".to_owned(),
            false => format!("derived from the {} there are", whole_mib(self.machine.as_u64())),
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, part) in Part::ALL.into_iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", part.name(), whole_mib(self.limit(part).as_u64()))?;
        }
        Ok(())
    }
}

/// What a part that is set must at least have to be of any use.
fn check_set(config: &Config) -> Outcome<()> {
    let large_enough = |key: &str, is: Option<ByteSize>, least: ByteSize| match is {
        Some(is) if is < least => Err(Failure::new(format!("{key} = {is} is too small"))
            .remedy(format!("give at least {least}, or leave it to Forebay"))),
        _ => Ok(()),
    };
    large_enough("node.memory", config.node.memory, ByteSize::bytes(least_of_all()))?;
    large_enough("node.arena", config.node.arena, ARENA_SET_MIN)?;
    large_enough("persist.memory", config.persist.memory, PERSIST_MEMORY_MIN)?;
    large_enough("node.tables", config.node.tables, TABLES_MIN)
}

/// The default budget, or more where the parts that are set need it: the others keep what they would have without.
fn derived(set: &Set, machine: ByteSize) -> ByteSize {
    let default = default_budget(machine);
    let Some(plain) = shared_out(&[None; CLAIMS.len()], default) else { return default };
    let parts = plain.into_iter().zip(set).map(|(plain, set)| set.unwrap_or(plain));
    default.max(sum(parts.chain([PROCESS])))
}

/// What each claim gets; `None` if those that are set leave the others too little.
fn shared_out(set: &Set, budget: ByteSize) -> Option<[ByteSize; CLAIMS.len()]> {
    let spare = budget.as_u64().checked_sub(needed(set).as_u64())?;
    let free = || (0..CLAIMS.len()).filter(|claim| set[*claim].is_none());
    let weights: u64 = free().map(|claim| CLAIMS[claim].weight).sum();
    let mut claims = std::array::from_fn(|claim| set[claim].unwrap_or(CLAIMS[claim].least));
    let mut left = spare;
    for claim in free().filter(|claim| *claim != TABLES) {
        let Claim { least, weight, most, .. } = CLAIMS[claim];
        let share = (spare / weights * weight).min(most.as_u64() - least.as_u64());
        let share = whole_mib(share).as_u64();
        claims[claim] = ByteSize::bytes(least.as_u64() + share);
        left -= share;
    }
    if set[TABLES].is_none() {
        claims[TABLES] = ByteSize::bytes(TABLES_MIN.as_u64() + left);
    }
    Some(claims)
}

/// The smallest budget that holds what is set.
fn needed(set: &Set) -> ByteSize {
    let least = CLAIMS.iter().zip(set).map(|(claim, set)| set.unwrap_or(claim.least));
    sum(least.chain([PROCESS]))
}

/// What is set, in words.
fn named(set: &Set) -> String {
    let all = CLAIMS.iter().zip(set);
    let one = |(claim, set): (&Claim, &Option<ByteSize>)| Some(format!("{} = {}", claim.key?, (*set)?));
    all.filter_map(one).collect::<Vec<_>>().join(", ")
}

fn too_little(budget: ByteSize, set: &Set) -> Failure {
    let explicit = sum(set.iter().copied().flatten());
    let rest = ByteSize::bytes(needed(set).as_u64() - explicit.as_u64());
    Failure::new(format!(
        "node.memory = {budget} does not hold its parts: {}, and at least {rest} for everything else",
        named(set)
    ))
    .remedy(format!(
        "set node.memory to at least {}, or lower these, or leave them out to have them derived from it",
        needed(set)
    ))
}

fn too_much(asked: Option<ByteSize>, set: &Set, budget: ByteSize, machine: ByteSize) -> Failure {
    let lower = |what: &str| {
        format!("lower {what}; {} would be the default for node.memory here", default_budget(machine))
    };
    let (what, remedy) = match asked {
        Some(_) => (format!("node.memory = {budget}"), lower("it")),
        None if named(set).is_empty() => (
            format!("{budget}, the least that a daemon needs,"),
            "give the machine, or the control group of the daemon, more".to_owned(),
        ),
        None => {
            (format!("{} and the rest that a daemon needs, {budget} in all,", named(set)), lower("these"))
        }
    };
    let there = whole_mib(machine.as_u64());
    Failure::new(format!("{what} is more than the {there} of memory that this process may have"))
        .remedy(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MACHINE: ByteSize = ByteSize::gib(32);

    fn config(change: impl FnOnce(&mut Config)) -> Config {
        let mut config = Config::default();
        change(&mut config);
        config
    }

    fn refusal(machine: ByteSize, change: impl FnOnce(&mut Config)) -> String {
        Split::of(&config(change), machine).unwrap_err().to_string()
    }

    fn all_limits(split: &Split) -> ByteSize {
        sum(Part::ALL.map(|part| split.limit(part)))
    }

    #[test]
    fn the_default_is_a_bounded_share_of_the_machine() {
        let defaults = [1, 4, 16, 32, 256].map(|gib| default_budget(ByteSize::gib(gib)));
        assert_eq!(defaults, [512, 512, 1024, 2048, 4096].map(ByteSize::mib));
        let split = Split::of(&Config::default(), MACHINE).unwrap();
        assert_eq!((split.budget(), split.is_set), (ByteSize::gib(2), false));
        assert!(Part::ALL.iter().all(|part| split.set_by(*part).is_none()));
        assert!(split.origin().contains("derived from the 32GiB"));
    }

    #[test]
    fn a_part_has_what_its_own_key_says_and_the_others_share_the_rest() {
        let split = Split::of(
            &config(|c| {
                c.node.memory = Some(ByteSize::gib(1));
                c.node.arena = Some(ByteSize::mib(100));
            }),
            MACHINE,
        );
        let split = split.unwrap();
        assert_eq!(split.limit(Part::Arena), ByteSize::mib(100));
        assert_eq!(split.set_by(Part::Arena), Some("node.arena"));
        assert_eq!(split.set_by(Part::Inodes), None);
        assert!(split.limit(Part::Inodes) > ByteSize::mib(128), "{split}");
        assert!(
            all_limits(&split) <= ByteSize::gib(1) && all_limits(&split) >= ByteSize::mib(1000),
            "{split}"
        );
    }

    #[test]
    fn explicit_parts_beyond_the_budget_are_refused_with_what_would_do() {
        let said = refusal(MACHINE, |c| {
            c.node.memory = Some(ByteSize::mib(512));
            c.node.arena = Some(ByteSize::mib(384));
            c.persist.memory = Some(ByteSize::mib(128));
        });
        let cause = "node.memory = 512MiB does not hold its parts: node.arena = 384MiB, persist.memory = 128MiB, and \
                     at least 100MiB for everything else";
        assert!(said.contains(cause), "{said}");
        assert!(said.contains("set node.memory to at least 612MiB, or lower these"), "{said}");
    }

    #[test]
    fn what_is_too_small_or_more_than_there_is_is_refused() {
        assert!(
            refusal(MACHINE, |c| c.node.memory = Some(ByteSize::mib(16))).contains("give at least 140MiB")
        );
        assert!(refusal(MACHINE, |c| c.node.tables = Some(ByteSize::mib(1))).contains("node.tables = 1MiB"));
        assert!(refusal(MACHINE, |c| c.node.arena = Some(ByteSize::mib(1))).contains("give at least 16MiB"));
        assert!(
            refusal(MACHINE, |c| c.persist.memory = Some(ByteSize::mib(1))).contains("give at least 8MiB")
        );
        let said = refusal(MACHINE, |c| c.node.memory = Some(ByteSize::gib(64)));
        assert!(said.contains("node.memory = 64GiB is more than the 32GiB"), "{said}");
        assert!(said.contains("lower it; 2GiB would be the default"), "{said}");
        let said = refusal(MACHINE, |c| c.node.arena = Some(ByteSize::gib(32)));
        assert!(said.contains("node.arena = 32GiB and the rest that a daemon needs"), "{said}");
        assert!(refusal(ByteSize::mib(64), |_| {}).contains("the least that a daemon needs"));
    }

    #[test]
    fn without_a_budget_the_parts_that_are_set_make_it_larger() {
        let split = Split::of(&config(|c| c.node.arena = Some(ByteSize::gib(8))), MACHINE).unwrap();
        let plain = Split::of(&Config::default(), MACHINE).unwrap();
        assert!(split.budget() > ByteSize::gib(8) && split.limit(Part::Arena) == ByteSize::gib(8));
        assert!(split.limit(Part::Inodes) >= plain.limit(Part::Inodes), "{split}");
    }

    proptest! {
        #[test]
        fn the_parts_never_exceed_the_budget(
            machine in 1_u64..2048, memory in prop::option::of(100_u64..20_000), arena in prop::option::of(1_u64..9000),
            persist in prop::option::of(1_u64..9000), tables in prop::option::of(1_u64..9000),
        ) {
            let config = config(|c| {
                c.node.memory = memory.map(ByteSize::mib);
                c.node.arena = arena.map(ByteSize::mib);
                c.persist.memory = persist.map(ByteSize::mib);
                c.node.tables = tables.map(ByteSize::mib);
            });
            if let Ok(split) = Split::of(&config, ByteSize::gib(machine)) {
                prop_assert!(all_limits(&split) <= split.budget(), "{split}");
                prop_assert!(split.budget() <= ByteSize::gib(machine));
                prop_assert!(arena.is_none_or(|arena| split.limit(Part::Arena) == ByteSize::mib(arena)));
            }
        }
    }
}
