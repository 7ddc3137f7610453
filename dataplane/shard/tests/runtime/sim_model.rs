//! Random programs under faults and power loss, compared with a model, a seed a run.
//!
//! Writers on two shards fill blocks with version numbers, sync now and then, and lose the power at a random
//! moment. The model keeps, for each block, the versions that each of its sectors may have afterwards: a good
//! sync narrows them to one. `FOREBAY_SIM_SEEDS` sets how many runs there are.

use forebay_shard::sim::{Faults, Sim, SimConfig, SimDisk, SimError};
use forebay_shard::{File, Frame, arena, sleep, spawn};
use forebay_types::ShardId;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

const BLOCK: usize = 4096;
const SECTOR: usize = 512;
const BLOCKS: usize = 8;
const WRITERS: usize = 4;

/// What one sector of a block may hold: version numbers; 0 is "never written".
#[derive(Debug, Clone)]
struct Block {
    may_hold: BTreeSet<u64>,
    /// The last write, if it went through and no sync failed since.
    latest: Option<u64>,
}

type Model = Rc<RefCell<Vec<Block>>>;

fn fresh_model() -> Model {
    let block = Block { may_hold: BTreeSet::from([0]), latest: Some(0) };
    Rc::new(RefCell::new(vec![block; BLOCKS]))
}

/// Numerical Recipes' LCG: the same numbers for a seed everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % end
    }
}

fn fill(frame: &mut Frame, version: u64) {
    frame.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&version.to_le_bytes()));
}

/// The version that a whole sector holds.
fn version_of(sector: &[u8]) -> u64 {
    let first = u64::from_le_bytes(sector[..8].try_into().unwrap());
    assert!(sector.chunks_exact(8).all(|word| word == &sector[..8]), "a sector is never torn");
    first
}

/// Writes and syncs until the power goes.
async fn write_for_ever(file: File, model: Model, mut dice: Dice) {
    for version in 1.. {
        let at = dice.below(BLOCKS as u64) as usize;
        let mut frame = arena().frame(BLOCK).await.unwrap();
        fill(&mut frame, version);
        // From the start of a write on, and however it ends, its bytes may be what is there.
        model.borrow_mut()[at].may_hold.insert(version);
        model.borrow_mut()[at].latest = None;
        let (wrote, _frame) = file.write_at(frame, (at * BLOCK) as u64).await;
        if wrote.is_ok() {
            model.borrow_mut()[at].latest = Some(version);
        }
        if dice.below(3) == 0 {
            let synced = file.sync_data().await.is_ok();
            model.borrow_mut().iter_mut().for_each(|block| settle(block, synced));
        }
        sleep(Duration::from_micros(dice.below(300))).await;
    }
}

fn settle(block: &mut Block, synced: bool) {
    match block.latest {
        Some(version) if synced => block.may_hold = BTreeSet::from([version]),
        // The kernel has dropped the dirty pages: a later sync promises nothing for them.
        _ => block.latest = block.latest.filter(|_| synced || block.may_hold.len() == 1),
    }
}

async fn check(file: File, model: Model) {
    let frame = arena().frame(BLOCK * BLOCKS).await.unwrap();
    let (read, mut frame) = file.read_at(frame, 0).await;
    let len = read.unwrap();
    frame[len..].fill(0);
    for (n, block) in model.borrow().iter().enumerate() {
        for sector in frame[n * BLOCK..][..BLOCK].chunks(SECTOR) {
            let version = version_of(sector);
            let holes = version == 0 && !block.may_hold.contains(&0);
            assert!(!holes, "block {n}: zeros where data was synced");
            assert!(block.may_hold.contains(&version), "block {n} holds {version}, not of {block:?}");
        }
    }
}

fn one_run(seed: u64) -> Result<(), SimError> {
    let faults = Faults {
        short: 4,
        slow: 20,
        read_error: 0,
        write_error: 12,
        no_space: 30,
        sync_error: 8,
        ..Faults::default()
    };
    let config = SimConfig { faults, ..SimConfig::new(seed) };
    let mut sim = Sim::start(&config, SimDisk::new()).unwrap();
    let disk = sim.disk();
    let names: Vec<String> = (0..WRITERS).map(|n| format!("file{n}")).collect();
    let models: Vec<Model> = names.iter().map(|_| fresh_model()).collect();
    for (n, (name, model)) in names.iter().zip(&models).enumerate() {
        let (file, model) = (disk.create(name).unwrap(), Rc::clone(model));
        let dice = Dice(seed * 31 + n as u64);
        sim.block_on(ShardId((n % 2) as u16), || async move { spawn(write_for_ever(file, model, dice)) })?;
    }
    sim.run_for(Duration::from_micros(2_000 + seed * 37 % 9_000))?;
    let disk = sim.power_loss();
    let mut after = Sim::start(&SimConfig::new(seed), disk.clone()).unwrap();
    for (name, model) in names.iter().zip(models) {
        let file = disk.open(name).unwrap();
        after.block_on(ShardId(0), || check(file, model))?;
    }
    Ok(())
}

#[test]
fn what_was_synced_survives_any_power_loss() {
    let seeds = std::env::var("FOREBAY_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200u64);
    for seed in 0..seeds {
        assert_eq!(one_run(seed), Ok(()), "seed {seed}");
    }
}
