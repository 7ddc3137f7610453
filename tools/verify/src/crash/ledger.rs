//! The ledger of one thread, kept outside the directory under test: a base state that was seen with our own eyes,
//! and a log of what was begun and what was acknowledged since.
//!
//! Two lines an operation, each written by one call: the intent before it, its end after it. The tool's process
//! outlives the daemon, so the lines need no sync; a last line torn by the tool's own end is ignored.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::expect::{Expect, Loss};
use super::world::{FileState, Node, Op, World};
use crate::error::{During, Error, Result};
use crate::rng::mix;

#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// `at`: the time, in nanoseconds since 1970.
    Begin {
        seq: u64,
        op: Op,
        at: i64,
    },
    Ack {
        seq: u64,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Base {
    next: u64,
    names: BTreeMap<String, Node>,
    modes: BTreeMap<u64, u32>,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The ledger of one thread, open for writing.
#[derive(Debug)]
pub(crate) struct Ledger {
    dir: PathBuf,
    thread: u64,
    next: u64,
    log: File,
}

impl Ledger {
    /// Opens the ledger of `thread` below `root`, made when absent, and replays it.
    pub(crate) fn open(root: &Path, thread: u64, loss: Loss) -> Result<(Self, Expect)> {
        let dir = root.join(format!("t{thread}"));
        fs::create_dir_all(dir.join("base")).during("make", &dir)?;
        let path = dir.join("log.jsonl");
        let log = File::options().append(true).create(true).open(&path).during("open", &path)?;
        let mut ledger = Self { dir, thread, next: 0, log };
        let expect = ledger.replay(loss)?;
        Ok((ledger, expect))
    }

    /// How many threads have a ledger below `root`.
    pub(crate) fn threads(root: &Path) -> Result<u64> {
        let mut threads = 0;
        while root.join(format!("t{threads}")).is_dir() {
            threads += 1;
        }
        if threads == 0 {
            return Err(Error::Usage(format!("there is no ledger in {}", root.display())));
        }
        Ok(threads)
    }

    /// The tag of an operation: bytes and identities that no other operation of this ledger has.
    pub(crate) const fn tag(&self, seq: u64) -> u64 {
        mix((self.thread << 48) | seq)
    }

    /// Notes that the operation is about to be asked for. Gives its number.
    pub(crate) fn begin(&mut self, op: &Op) -> Result<u64> {
        let seq = self.next;
        self.next += 1;
        self.line(&Line::Begin { seq, op: op.clone(), at: now() })?;
        Ok(seq)
    }

    /// Notes that the operation was acknowledged.
    pub(crate) fn ack(&mut self, seq: u64) -> Result<()> {
        self.line(&Line::Ack { seq })
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_vec(line).expect("a line of plain strings and numbers has a JSON form");
        text.push(b'\n');
        self.log.write_all(&text).during("write", &self.dir)
    }

    /// Makes `world`, which was seen, the new base and begins an empty log.
    pub(crate) fn rebase(&mut self, world: &World) -> Result<()> {
        let base = self.dir.join("base");
        fs::remove_dir_all(&base).during("clear", &base)?;
        fs::create_dir_all(&base).during("make", &base)?;
        for (id, file) in &world.files {
            let path = base.join(format!("{id:016x}"));
            fs::write(&path, &file.data).during("write", &path)?;
        }
        let modes = world.files.iter().map(|(id, file)| (*id, file.mode)).collect();
        let record = Base { next: self.next, names: world.names.clone(), modes };
        let path = self.dir.join("base.json");
        let text =
            serde_json::to_vec(&record).expect("a record of plain strings and numbers has a JSON form");
        fs::write(&path, text).during("write", &path)?;
        self.log.set_len(0).during("clear", &self.dir)
    }

    fn replay(&mut self, loss: Loss) -> Result<Expect> {
        let mut expect = Expect::new(loss, self.base()?);
        let path = self.dir.join("log.jsonl");
        let mut begun: Option<(u64, Op, i64)> = None;
        for line in BufReader::new(File::open(&path).during("open", &path)?).lines() {
            let Ok(line) = serde_json::from_str::<Line>(&line.during("read", &path)?) else { break };
            match line {
                Line::Begin { seq, op, at } => {
                    self.next = seq + 1;
                    if begun.replace((seq, op, at)).is_some() {
                        let why = "an operation began before the one ahead of it ended".to_owned();
                        return Err(Error::Ledger { path, why });
                    }
                }
                Line::Ack { seq } => match begun.take().filter(|(begun, ..)| *begun == seq) {
                    Some((seq, op, at)) => {
                        expect.acked(&op, self.tag(seq));
                        expect.written(&op, at);
                    }
                    None => {
                        return Err(Error::Ledger {
                            path,
                            why: format!("{seq} was acknowledged and not begun"),
                        });
                    }
                },
            }
        }
        if let Some((seq, op, _)) = begun {
            expect.in_flight(&op, self.tag(seq));
        }
        Ok(expect)
    }

    fn base(&mut self) -> Result<World> {
        let path = self.dir.join("base.json");
        if !path.exists() {
            return Ok(World::default());
        }
        let text = fs::read(&path).during("read", &path)?;
        let base: Base = serde_json::from_slice(&text)
            .map_err(|error| Error::Ledger { path: path.clone(), why: error.to_string() })?;
        self.next = base.next;
        let mut files = BTreeMap::new();
        for (id, mode) in base.modes {
            let path = self.dir.join("base").join(format!("{id:016x}"));
            files.insert(id, Arc::new(FileState { data: fs::read(&path).during("read", &path)?, mode }));
        }
        Ok(World { names: base.names, files })
    }
}
