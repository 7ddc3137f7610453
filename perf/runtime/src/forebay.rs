//! Forebay's shards: one task for each read in flight, a fresh frame from the arena for each read.

use crate::{CORE, Job, MEMORY, Meter, Offsets, open_direct};
use forebay_shard::{File, Shards, ShardsConfig, arena, sleep, spawn, yield_now};
use forebay_types::ByteSize;
use std::cell::Cell;
use std::rc::Rc;

/// Reads until the time is up.
pub fn run(job: &Job) {
    let config =
        ShardsConfig { cores: vec![CORE], arena: ByteSize::bytes(MEMORY as u64), ..ShardsConfig::default() };
    let shards = Shards::start(&config).expect("the shards start");
    let job = job.clone();
    shards.handles()[0].block_on(move || all_reads(job)).expect("the reads end")
}

async fn all_reads(job: Job) {
    let file = File::new(open_direct(&job.file));
    let reads = Rc::new(Cell::new(0));
    let over = Rc::new(Cell::new(false));
    let meter = Meter::start();
    for lane in 0..job.depth {
        let (file, reads, offsets) = (file.clone(), Rc::clone(&reads), Offsets::new(&job, lane));
        let (block, over) = (job.block, Rc::clone(&over));
        spawn(async move {
            for offset in offsets {
                if over.get() {
                    break;
                }
                let frame = arena().frame(block).await.expect("the arena holds all reads");
                let (read, _frame) = file.read_at(frame, offset).await;
                assert_eq!(read.expect("a read"), block, "a whole block is read");
                reads.set(reads.get() + 1);
            }
        });
    }
    sleep(job.time).await;
    over.set(true);
    while Rc::strong_count(&reads) > 1 {
        yield_now().await;
    }
    meter.stop(reads.get());
}
