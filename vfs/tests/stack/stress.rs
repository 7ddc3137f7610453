//! Many at once on few inodes, from both shards, with what must always hold.

use crate::support::*;
use forebay_types::{FsErrorKind, Ino, SetAttr};
use forebay_vfs::{IoMode, RenameFlags, Vfs};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

const FILES: u64 = 3;
const ROUNDS: u64 = 300;
const TASKS: usize = 6;

/// A small generator: every task has its own stream, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// The passthrough files of the inodes that are open: as the kernel demands, one an inode.
#[derive(Default)]
struct Kernel(Mutex<std::collections::HashMap<Ino, (Arc<File>, u32)>>);

impl Kernel {
    fn opened(&self, ino: Ino, file: &Arc<File>) {
        let mut files = self.0.lock().unwrap();
        let (known, count) = files.entry(ino).or_insert_with(|| (Arc::clone(file), 0));
        assert!(Arc::ptr_eq(known, file), "{ino} is open with two backing files");
        *count += 1;
    }

    fn closed(&self, ino: Ino) {
        let mut files = self.0.lock().unwrap();
        let (_, count) = files.get_mut(&ino).unwrap();
        *count -= 1;
        if *count == 0 {
            files.remove(&ino);
        }
    }
}

async fn one_round(vfs: &Vfs, kernel: &Kernel, dice: &mut Dice) {
    let file = name(&format!("f{}", dice.roll(FILES)));
    let gone = |error: &forebay_types::FsError| {
        assert!(matches!(error.kind(), FsErrorKind::NotFound | FsErrorKind::Stale), "{error}");
    };
    match dice.roll(12) {
        0 => vfs.unlink(&ALICE, Ino::ROOT, &file).await.unwrap_or_else(|error| gone(&error)),
        1 => {
            let to = name(&format!("f{}", dice.roll(FILES)));
            let (from, to) = ((Ino::ROOT, &file), (Ino::ROOT, &to));
            vfs.rename(&ALICE, from, to, RenameFlags::Replace).await.unwrap_or_else(|error| gone(&error));
        }
        2 => {
            let Ok(entry) = vfs.lookup(Ino::ROOT, &file).await else { return };
            let cut = SetAttr { size: Some(dice.roll(5000)), ..SetAttr::default() };
            let ino = entry.attr.ino;
            vfs.setattr(&ALICE, ino, cut).await.map_or_else(|error| gone(&error), drop);
            vfs.forget(ino, 1);
        }
        3 => {
            let Ok(entry) = vfs.lookup(Ino::ROOT, &file).await else { return };
            vfs.getattr(entry.attr.ino).await.map_or_else(|error| gone(&error), drop);
            vfs.forget(entry.attr.ino, 1);
        }
        _ => {
            let made = vfs.create(&ALICE, Ino::ROOT, &file, 0o600, BOTH).await;
            let Ok((entry, opened)) = made else { return gone(&made.unwrap_err()) };
            let IoMode::Passthrough(backing) = &opened.mode else { panic!("{:?}", opened.mode) };
            kernel.opened(entry.attr.ino, backing);
            backing.write_all_at(&[dice.roll(256) as u8; 100], dice.roll(4000)).unwrap();
            if dice.roll(4) == 0 {
                forebay_shard::yield_now().await;
            }
            kernel.closed(entry.attr.ino);
            vfs.release(opened.handle).await.unwrap();
            vfs.forget(entry.attr.ino, 1);
        }
    }
}

#[test]
fn whatever_many_do_to_few_files_at_once_they_end_closed_and_whole() {
    let node = node();
    let kernel = Arc::new(Kernel::default());
    let tasks = (0..TASKS).map(|task| {
        let (vfs, kernel, shard) = (Arc::clone(&node.vfs), Arc::clone(&kernel), node.shard(task));
        std::thread::spawn(move || {
            let done = shard.block_on(move || async move {
                let mut dice = Dice(task as u64 + 1);
                for _ in 0..ROUNDS {
                    one_round(&vfs, &kernel, &mut dice).await;
                }
            });
            done.unwrap();
        })
    });
    let tasks: Vec<_> = tasks.collect();
    tasks.into_iter().for_each(|task| task.join().unwrap());
    node.until_idle();
    let left = node.run(|vfs| async move {
        let mut left = 0;
        for file in 0..FILES {
            let Ok(entry) = vfs.lookup(Ino::ROOT, &name(&format!("f{file}"))).await else { continue };
            left += 1;
            assert!(!entry.attr_ttl.is_zero(), "f{file} is left open for write");
            let bytes = vfs.content(entry.attr.ino).await.unwrap();
            assert_eq!(bytes.len() as u64, entry.attr.size, "f{file}");
        }
        left
    });
    node.until(&format!("only {left} extents are left"), || node.extents() == left);
}
