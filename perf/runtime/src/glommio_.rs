//! glommio's `DmaFile`: one task for each read in flight, its buffers from its own registered memory.

use crate::{CORE, Job, MEMORY, Meter, Offsets};
use glommio::{LocalExecutorBuilder, Placement, io::DmaFile};
use std::cell::Cell;
use std::rc::Rc;

/// Reads until the time is up.
pub fn run(job: &Job) {
    let job = job.clone();
    let executor = LocalExecutorBuilder::new(Placement::Fixed(CORE)).io_memory(MEMORY).ring_depth(1024);
    let thread = executor.spawn(move || all_reads(job)).expect("the executor starts");
    thread.join().expect("the reads end")
}

async fn all_reads(job: Job) {
    let file = Rc::new(DmaFile::open(&job.file).await.expect("the file opens"));
    let meter = Meter::start();
    let over = Rc::new(Cell::new(false));
    let lanes: Vec<_> = (0..job.depth)
        .map(|lane| {
            let (file, offsets, block) = (Rc::clone(&file), Offsets::new(&job, lane), job.block);
            let over = Rc::clone(&over);
            glommio::spawn_local(async move {
                let mut reads = 0;
                for offset in offsets {
                    if over.get() {
                        break;
                    }
                    let read = file.read_at_aligned(offset, block).await.expect("a read");
                    assert_eq!(read.len(), block, "a whole block is read");
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    glommio::timer::sleep(job.time).await;
    over.set(true);
    let mut reads = 0;
    for lane in lanes {
        reads += lane.await;
    }
    meter.stop(reads);
}
