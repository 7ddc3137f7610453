//! Random work on a store that is cut off at some moment, and what must be true of it afterwards.
//!
//! Every page ever written has its own bytes, none of which is zero, so a page that holds zeros, another page's bytes or
//! an older state than the last sync promised is noticed.

use super::*;
use forebay_types::ExtentId;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const PAGES: u64 = 6;

/// What was done to one page. Version 0 is what the under file system has; a new file has none.
#[derive(Debug, Clone, Default)]
pub struct PageHistory {
    /// Versions whose write began, in order.
    begun: Vec<u64>,
    /// The newest version whose write was acknowledged.
    acked: Option<u64>,
    /// The newest version acknowledged before a sync that was acknowledged.
    synced: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub struct FileHistory {
    /// The content key, while it is clean.
    pub key: Option<u128>,
    /// Whether its base is in the under file system.
    pub fetched: bool,
    pages: BTreeMap<u64, PageHistory>,
    authored_durably: bool,
    /// It can be fetched, and no sync since covered what says so: it may be gone.
    may_go: bool,
}

/// All that was asked for and acknowledged.
#[derive(Debug, Default)]
pub struct History {
    pub files: Mutex<BTreeMap<ExtentId, FileHistory>>,
    /// The power is being cut: what is acknowledged from now on was acknowledged by nobody. (ext4 answers some calls
    /// with success while it is shut down; a machine without power answers none.)
    pub cut: std::sync::atomic::AtomicBool,
    /// Shared by who writes to a file, exclusive for who changes whose it is.
    turns: Mutex<BTreeMap<ExtentId, Arc<tokio::sync::RwLock<()>>>>,
}

impl History {
    fn turn(&self, id: ExtentId) -> Arc<tokio::sync::RwLock<()>> {
        Arc::clone(self.turns.lock().entry(id).or_default())
    }

    /// `None` once the power is being cut.
    fn powered(&self) -> Option<()> {
        (!self.cut.load(std::sync::atomic::Ordering::SeqCst)).then_some(())
    }
}

/// How far what is found may lag behind what was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All that was acknowledged is there.
    Daemon,
    /// All that was synced is there.
    Power,
}

fn version_bytes(id: ExtentId, page: u64, version: u64) -> Vec<u8> {
    bytes_of(id.0 << 12 | version, page, PAGE as usize)
}

/// Works until an operation fails (the power is gone) or `steps` are done.
pub async fn work(store: Arc<Store>, history: Arc<History>, seed: u64, steps: usize) {
    let mut rng = SmallRng::seed_from_u64(seed);
    for _ in 0..steps {
        let done = step(&store, &history, &mut rng).await;
        if done.is_none() {
            return;
        }
    }
}

async fn step(store: &Arc<Store>, history: &Arc<History>, rng: &mut SmallRng) -> Option<()> {
    let ids: Vec<_> = history.files.lock().keys().copied().collect();
    let pick = rng.random_range(0..100);
    if ids.len() < 4 || pick < 6 {
        return create(store, history, rng.random(), rng.random()).await;
    }
    let id = ids[rng.random_range(0..ids.len())];
    let extent = store.get(id)?;
    let turn = history.turn(id);
    if pick < 95 {
        let _others_work_too = turn.read().await;
        return match pick {
            6..75 => put_page(&extent, history, rng.random_range(0..PAGES)).await,
            _ => sync(&extent, history).await,
        };
    }
    let _alone = turn.write().await;
    author_or_settle(store, &extent, history, rng.random()).await
}

async fn create(store: &Arc<Store>, history: &History, fetched: bool, key: u128) -> Option<()> {
    let spec =
        if fetched { ExtentSpec::fetched(ContentKey(key), PAGES * PAGE) } else { ExtentSpec::BORN_HERE };
    let extent = store.create(spec).await.ok()?;
    let file = FileHistory { key: fetched.then_some(key), fetched, ..FileHistory::default() };
    history.files.lock().insert(extent.id(), file);
    Some(())
}

/// Fills a page of a clean file, writes one of a file that is ours.
async fn put_page(extent: &Arc<Extent>, history: &History, page: u64) -> Option<()> {
    let id = extent.id();
    let (clean, version) = {
        let mut files = history.files.lock();
        let file = files.get_mut(&id)?;
        let clean = file.key.is_some();
        if clean && !file.fetched && !file.pages.contains_key(&page) {
            // The under file system has no such page.
            return Some(());
        }
        let pages = file.pages.entry(page).or_default();
        let version = if clean { pages.acked.unwrap_or(0) } else { pages.begun.last().map_or(1, |v| v + 1) };
        pages.begun.push(version);
        (clean, version)
    };
    let frame = frame_of(&version_bytes(id, page, version)).await;
    if clean {
        extent.fill(PageIndex(page), frame).await.ok()?;
    } else {
        extent.write(frame, page * PAGE).await.ok()?;
    }
    history.powered()?;
    history.files.lock().get_mut(&id)?.pages.get_mut(&page)?.acked = Some(version);
    Some(())
}

async fn sync(extent: &Arc<Extent>, history: &History) -> Option<()> {
    let id = extent.id();
    let before = history.files.lock().get(&id)?.clone();
    extent.sync().await.ok()?;
    history.powered()?;
    let mut files = history.files.lock();
    let file = files.get_mut(&id)?;
    file.may_go = false;
    for (page, was) in before.pages {
        let now = file.pages.get_mut(&page)?;
        now.synced = now.synced.max(was.acked);
    }
    Some(())
}

/// Begins to write to a clean file, or says that the under file system has one that was written.
async fn author_or_settle(
    store: &Arc<Store>,
    extent: &Arc<Extent>,
    history: &History,
    key: u128,
) -> Option<()> {
    let id = extent.id();
    let clean = {
        let mut files = history.files.lock();
        let file = files.get_mut(&id)?;
        file.may_go |= file.key.is_some();
        file.key.is_some()
    };
    if clean {
        store.unbind_all(id).await.ok()?;
    } else {
        store.bind(id, ContentKey(key)).await.ok()?;
    }
    history.powered()?;
    let mut files = history.files.lock();
    let file = files.get_mut(&id)?;
    file.key = (!clean).then_some(key);
    file.may_go = !clean;
    file.authored_durably = clean;
    if !clean {
        // What the under file system has was synced first.
        file.pages.values_mut().for_each(|page| page.synced = page.acked);
    }
    Some(())
}

/// Compares a store with what was done before a crash; returns what is wrong.
pub async fn check(store: Arc<Store>, history: Arc<History>, crash: Crash) -> Vec<String> {
    let mut wrong = Vec::new();
    let files = history.files.lock().clone();
    // As the name space does at start: it knows what was created here or written to, and nothing else by its id.
    let is_ours = |file: &FileHistory| (!file.fetched && file.key.is_none()) || file.authored_durably;
    store.sweep(|id| files.get(&id).is_some_and(is_ours));
    for (id, file) in files {
        let promised = file.pages.values().any(|page| page.promise(crash).is_some());
        let Some(extent) = store.get(id) else {
            if (promised && !file.may_go) || file.authored_durably {
                wrong.push(format!("extent {id} is lost: {file:?}"));
            }
            continue;
        };
        for page in 0..PAGES {
            let known = file.pages.get(&page).cloned().unwrap_or_default();
            if let Some(trouble) = check_page(&extent, page, &known, &file, crash).await {
                wrong.push(format!("extent {id} page {page}: {trouble} ({known:?}, {file:?})"));
            }
        }
    }
    wrong
}

impl PageHistory {
    fn promise(&self, crash: Crash) -> Option<u64> {
        if crash == Crash::Daemon { self.acked } else { self.synced }
    }
}

async fn check_page(
    extent: &Arc<Extent>,
    page: u64,
    known: &PageHistory,
    file: &FileHistory,
    crash: Crash,
) -> Option<String> {
    let range = page * PAGE..(page + 1) * PAGE;
    let promise = known.promise(crash);
    if !extent.is_resident(range) {
        // An absent page is the under file system's: right unless something newer was promised.
        return promise.map(|version| format!("version {version} was promised and is absent"));
    }
    if !file.fetched && page * PAGE >= extent.len() {
        return promise.map(|version| format!("version {version} was promised, the file is too short"));
    }
    let found = read(extent, page * PAGE, PAGE as usize).await;
    let may_be: Vec<_> = known.begun.iter().filter(|v| Some(**v) >= promise).collect();
    let versions: Vec<_> = may_be.iter().map(|v| version_bytes(extent.id(), page, **v)).collect();
    // Writes that no sync covered may be torn anywhere: the disk copies a block while it is written to. What was born
    // here and never synced may be a hole.
    let may_be_hole = !file.fetched && promise.is_none();
    let is_right = |at: usize| {
        versions.iter().any(|version| version[at] == found[at]) || (may_be_hole && found[at] == 0)
    };
    let wrong = (0..found.len()).find(|at| !is_right(*at))?;
    Some(format!("holds {} at {wrong}", if found[wrong] == 0 { "zeros" } else { "other bytes" }))
}
