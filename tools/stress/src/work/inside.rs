//! The data path without the kernel: `worker` asks a worker for pages, `client-io` reads and writes through a client, both in a node
//! that runs in this process over a store in DIR.

use crate::args::{Site, key_value, size, some};
use crate::bench::Bench;
use crate::command::OnFiles;
use crate::data::{BLOCK, Pattern, mix};
use crate::engine::{Lane, Limit, PhaseSpec};
use crate::error::{During, Error, Result};
use crate::node::{Node, Way};
use crate::scratch::Scratch;
use crate::store::{Store, Tree};
use clap::{Args, ValueEnum};
use forebay_client::Client;
use forebay_shard::{arena, yield_now};
use forebay_types::limits::IO_LEN_MAX;
use forebay_types::{
    ByteSize, ContentLocation, Generation, HumanDuration, Ino, MountId, PageSize, UfsVersion,
};
use serde::Serialize;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

const WORKER_EXAMPLES: &str = "Examples:
  forebay bench worker /nvme                                   # 4 tasks, 64 MiB each, 1 MiB pages
  forebay bench worker /nvme --buffer 4KiB --phases random --duration 10s
  forebay bench worker /nvme --ufs s3://bucket/prefix --phases cold";
const CLIENT_EXAMPLES: &str = "Examples:
  forebay bench client-io /nvme                                # write, then read what the UFS has, then what is here
  forebay bench client-io /nvme --ufs s3://bucket/prefix --phases cold --file-size 1GiB --threads 1";

/// Where the node of the bench keeps what, how much, and how long.
#[derive(Debug, Args, Serialize)]
struct Inside {
    #[command(flatten)]
    #[serde(flatten)]
    site: Site,
    /// The under file system that has the files. If absent: a directory in DIR.
    #[arg(long, value_name = "UFS")]
    #[serde(skip)]
    ufs: Option<String>,
    /// An option of the under file system, like endpoint=http://127.0.0.1:9000; may be repeated.
    #[arg(long = "ufs-option", value_name = "KEY=VALUE", value_parser = key_value)]
    #[serde(skip)]
    options: Vec<(String, String)>,
    /// Tasks that ask at once, spread over the shards; each has a file of its own.
    #[arg(long, value_name = "N", default_value = "4", value_parser = some)]
    threads: usize,
    /// Bytes of each file.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size, help_heading = "Files")]
    file_size: u64,
    /// Bytes of each request; 1MiB at most.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    buffer: u64,
    /// Bytes of a page of the cache.
    #[arg(long, value_name = "SIZE", default_value = "1MiB")]
    page_size: ByteSize,
    /// Compare every byte that is read; costs the shard that time.
    #[arg(long)]
    verify: bool,
    /// What begins within this time of each phase is not counted; cold reads have none.
    #[arg(long, value_name = "TIME", default_value = "0s", help_heading = "Time")]
    warm_up: HumanDuration,
    /// Go on for so long in each phase but cold, round and round. If absent: each file once.
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    duration: Option<HumanDuration>,
}

/// `forebay bench worker`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = WORKER_EXAMPLES)]
pub struct WorkerArgs {
    #[command(flatten)]
    #[serde(flatten)]
    inside: Inside,
    /// What to do, in this order; the first reads are cold, whatever they are called.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Step::Cold, Step::Sequential, Step::Random])]
    phases: Vec<Step>,
}

/// `forebay bench client-io`.
#[derive(Debug, Args, Serialize)]
#[command(after_help = CLIENT_EXAMPLES)]
pub struct ClientIoArgs {
    #[command(flatten)]
    #[serde(flatten)]
    inside: Inside,
    /// What to do, in this order; the first reads are cold, whatever they are called.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Step::value_variants().to_vec())]
    phases: Vec<Step>,
}

/// A phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Write new files, with a sync at the end of each.
    Write,
    /// Read from the beginning to the end what only the under file system has.
    Cold,
    /// Read from the beginning to the end what is in the cache.
    Sequential,
    /// Read buffers at random places.
    Random,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Cold => "cold",
            Self::Sequential => "sequential",
            Self::Random => "random",
        }
    }
}

impl OnFiles for WorkerArgs {
    const NAME: &'static str = "worker";

    fn site(&self) -> &Site {
        &self.inside.site
    }

    fn check(&self) -> Result<()> {
        if self.phases.contains(&Step::Write) {
            return Err(Error::usage("the worker is only read here", "forebay bench client-io writes"));
        }
        self.inside.check()
    }

    fn bytes(&self) -> u64 {
        self.inside.bytes()
    }

    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()> {
        self.inside.run(bench, scratch, &self.phases, Node::by_worker)
    }
}

impl OnFiles for ClientIoArgs {
    const NAME: &'static str = "client-io";

    fn site(&self) -> &Site {
        &self.inside.site
    }

    fn check(&self) -> Result<()> {
        self.inside.check()
    }

    fn bytes(&self) -> u64 {
        self.inside.bytes()
    }

    fn run(&self, bench: &mut Bench, scratch: &Scratch) -> Result<()> {
        self.inside.run(bench, scratch, &self.phases, Node::by_client)
    }
}

/// What the reading loop of a task needs; it goes to a shard with it.
struct Reader {
    way: Way,
    at: ContentLocation,
    pattern: Option<Pattern>,
    expected: Vec<u8>,
    tag: u64,
    buffer: u64,
    random: bool,
    endless: bool,
}

/// The same for the writing loop.
struct Writer {
    client: Arc<Client>,
    at: ContentLocation,
    pattern: Pattern,
    len: u64,
    buffer: u64,
    endless: bool,
}

impl Inside {
    fn check(&self) -> Result<()> {
        let most = IO_LEN_MAX.as_u64();
        if self.buffer == 0 || self.buffer > most || !self.buffer.is_multiple_of(BLOCK as u64) {
            return Err(Error::usage("--buffer is not a multiple of 4KiB up to 1MiB", "give one like 64KiB"));
        }
        if self.file_size == 0 {
            return Err(Error::usage("--file-size cannot be 0", "give a size like 64MiB"));
        }
        self.page().map(drop)
    }

    fn page(&self) -> Result<PageSize> {
        PageSize::new(self.page_size).map_err(|error| Error::usage(error.to_string(), "give one like 1MiB"))
    }

    /// The bytes of all files.
    fn total(&self) -> u64 {
        self.threads as u64 * self.file_size
    }

    fn bytes(&self) -> u64 {
        // In the under file system, in the cache, and as new files.
        3 * self.total()
    }

    fn run(
        &self,
        bench: &mut Bench,
        scratch: &Scratch,
        phases: &[Step],
        way: fn(&Node) -> Way,
    ) -> Result<()> {
        let dir = scratch.mine().join("under");
        fs::create_dir(&dir).during("create", &dir)?;
        let url = self.ufs.clone().unwrap_or_else(|| dir.display().to_string());
        let under = Store::open(&url, &self.options, self.threads)?;
        let tree = Tree::make(
            &under,
            self.site.place.name.as_deref().unwrap_or("inside"),
            bench.node(),
            self.threads,
        )?;
        let outcome = self.on_node(bench, scratch, phases, (&under, &tree), way);
        bench.cleared(tree.remove(&under));
        outcome
    }

    fn on_node(
        &self,
        bench: &mut Bench,
        scratch: &Scratch,
        phases: &[Step],
        (under, tree): (&Store, &Tree),
        way: fn(&Node) -> Way,
    ) -> Result<()> {
        let places = self.put(bench, under, tree)?;
        let node = Node::start(&scratch.mine().join("cache"), self.page()?, 2 * self.total(), under)?;
        let outcome = phases.iter().try_for_each(|step| match step {
            Step::Write => self.write(bench, &node),
            _ => self.read(bench, &node, *step, &places, &way(&node)),
        });
        outcome.and(node.stop())
    }

    /// Puts the files into the under file system, and says where they are, as a name space would.
    fn put(&self, bench: &Bench, under: &Store, tree: &Tree) -> Result<Vec<ContentLocation>> {
        let versions: Vec<Mutex<Option<UfsVersion>>> = (0..self.threads).map(|_| Mutex::default()).collect();
        let node = bench.node();
        let spec = PhaseSpec::once("putting files", self.threads);
        let put = bench.stage.run(
            &spec,
            |lane| Ok(pattern(node, lane)),
            |pattern, lane| {
                let key = tree.file(lane.index, 0);
                let fill = |offset: u64, part: &mut [u8]| pattern.fill(lane.index as u64, offset, part);
                let version = under.put(&key, self.file_size, fill);
                let version = lane.end("put", lane.started(), self.file_size, version);
                *versions[lane.index].lock().unwrap_or_else(PoisonError::into_inner) = version;
                Ok(())
            },
        )?;
        if let Some(why) = put.kind("put").and_then(|kind| kind.first_error()) {
            return Err(Error::usage(
                format!("the files cannot be put: {why}"),
                "see that the UFS can be written to",
            ));
        }
        let versions =
            versions.into_iter().map(|version| version.into_inner().unwrap_or_else(PoisonError::into_inner));
        let located = versions.enumerate().filter_map(|(lane, version)| Some((tree.file(lane, 0), version?)));
        let place = |(number, ufs)| location(number, Some(ufs), self.file_size);
        let places: Vec<_> = located.enumerate().map(place).collect();
        if places.len() < self.threads { Err(Error::Interrupted) } else { Ok(places) }
    }

    fn spec(&self, step: Step) -> PhaseSpec {
        let limit = match step {
            Step::Cold => Limit::default(),
            _ => Limit { warm_up: self.warm_up.0, duration: self.duration.map(|time| time.0) },
        };
        PhaseSpec { name: step.name().to_owned(), lanes: self.threads, limit, rate: None }
    }

    fn read(
        &self,
        bench: &mut Bench,
        node: &Node,
        step: Step,
        places: &[ContentLocation],
        way: &Way,
    ) -> Result<()> {
        let (number, tasks) = (bench.node(), node.tasks());
        let reader = |lane: usize| {
            Ok(Some(Reader {
                way: way.clone(),
                at: places[lane].clone(),
                pattern: self.verify.then(|| pattern(number, lane)),
                expected: vec![0; self.buffer as usize],
                tag: lane as u64,
                buffer: self.buffer,
                random: step == Step::Random,
                endless: self.duration.is_some() && step != Step::Cold,
            }))
        };
        bench.phase(&self.spec(step), reader, |reader: &mut Option<Reader>, lane| match reader.take() {
            Some(reader) => tasks.run(lane, move |lane| reader.run(lane)),
            None => Ok(()),
        })?;
        Ok(())
    }

    fn write(&self, bench: &mut Bench, node: &Node) -> Result<()> {
        let (number, tasks, client) = (bench.node(), node.tasks(), Arc::clone(&node.client));
        let writer = |lane: usize| {
            Ok(Some(Writer {
                client: Arc::clone(&client),
                at: location(self.threads + lane, None, 0),
                pattern: pattern(number, lane),
                len: self.file_size,
                buffer: self.buffer,
                endless: self.duration.is_some(),
            }))
        };
        bench.phase(&self.spec(Step::Write), writer, |writer: &mut Option<Writer>, lane| {
            match writer.take() {
                Some(writer) => tasks.run(lane, move |lane| writer.run(lane)),
                None => Ok(()),
            }
        })?;
        Ok(())
    }
}

/// The length of the pieces that content is made of.
const PIECE: usize = 1 << 20;
/// The inodes of the bench's files begin here: past the root.
const FIRST_INO: u64 = 1000;

fn pattern(node: usize, lane: usize) -> Pattern {
    Pattern::new(mix((node as u64) << 32 | lane as u64), PIECE)
}

fn location(number: usize, ufs: Option<(forebay_types::UfsKey, UfsVersion)>, size: u64) -> ContentLocation {
    let ino = Ino(FIRST_INO + number as u64);
    ContentLocation { ino, mount: MountId::ROOT, ufs, extent: None, size, generation: Generation(1) }
}

impl Reader {
    /// Reads on a shard, one buffer after the other.
    async fn run(mut self, mut lane: Lane) -> Lane {
        let places = self.at.size.div_ceil(self.buffer);
        let mut turn = 0;
        while (self.endless || turn < places) && lane.go_on() {
            let place = if self.random { mix(turn ^ self.tag << 48) % places } else { turn % places };
            self.read(place * self.buffer, &mut lane).await;
            turn += 1;
            // A read that waits for nothing would else keep the shard from all others.
            yield_now().await;
        }
        lane
    }

    async fn read(&mut self, offset: u64, lane: &mut Lane) {
        let len = (self.at.size - offset).min(self.buffer) as usize;
        let begun = lane.begin();
        let read = self.way.read(&self.at, offset, len).await;
        let Some(frame) = lane.end("read", begun, len as u64, read) else { return };
        if frame.len() != len {
            return lane.fail("verify", format!("{} bytes of {len} at {offset}", frame.len()));
        }
        if let Some(pattern) = &mut self.pattern {
            pattern.fill(self.tag, offset, &mut self.expected[..len]);
            if frame[..] != self.expected[..len] {
                lane.fail("verify", format!("other bytes than were put, in {len} at {offset}"));
            }
        }
    }
}

impl Writer {
    /// Writes new files on a shard, one after the other; each is given back when it is durable.
    async fn run(mut self, mut lane: Lane) -> Lane {
        while lane.go_on() {
            if !self.write(&mut lane).await || !self.endless {
                break;
            }
        }
        lane
    }

    async fn write(&mut self, lane: &mut Lane) -> bool {
        let whole = lane.begin();
        let created = self.client.create(self.len).await;
        let Some(extent) = lane.end("create", whole, 0, created) else { return false };
        self.at.extent = Some(extent);
        let written = self.fill(lane).await;
        if written {
            lane.end("file", whole, 0, Ok::<_, Error>(()));
        }
        self.client.end_write(extent, true);
        let gone = self.client.discard(extent).await;
        if let Err(why) = gone {
            lane.fail("discard", why);
        }
        written
    }

    async fn fill(&mut self, lane: &mut Lane) -> bool {
        let mut offset = 0;
        while offset < self.len {
            let len = (self.len - offset).min(self.buffer) as usize;
            let Ok(mut frame) = arena().frame(len).await else {
                lane.fail("write", "no I/O memory came free in time");
                return false;
            };
            self.pattern.fill(0, offset, &mut frame);
            let begun = lane.begin();
            let written = self.client.write(&self.at, offset, frame).await;
            if lane.end("write", begun, len as u64, written).is_none() || lane.stopped() {
                return false;
            }
            offset += len as u64;
        }
        let begun = lane.begin();
        let synced = self.client.sync(&self.at).await;
        lane.end("sync", begun, 0, synced).is_some()
    }
}
