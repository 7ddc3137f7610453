//! An under file system that counts its calls and can be made slow or broken: a layer over a real one.

use async_trait::async_trait;
use forebay_types::{PageToken, UfsAttr, UfsKey, UfsVersion};
use forebay_ufs::{
    AttrChange, Capabilities, Expect, ListPage, PutAttrs, PutSpec, Ufs, UfsError, UfsResult, Upload,
};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// For a call that is to take until new rules end it.
pub const HELD: Duration = Duration::from_secs(3600);
/// How soon new rules are noticed.
const NOTICED_WITHIN: Duration = Duration::from_millis(5);

/// How it behaves from now on, calls under way included.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Each read takes this long.
    pub read_takes: Duration,
    /// Bytes a second of the way here, shared by all reads; 0 for no bound.
    pub bytes_per_s: u64,
    /// This many reads fail, then they work again.
    pub reads_to_fail: u64,
    /// This many parts of uploads fail.
    pub parts_to_fail: u64,
    /// Each part of an upload takes this long.
    pub part_takes: Duration,
    /// Each question what is at a key takes this long.
    pub stat_takes: Duration,
}

#[derive(Debug)]
pub struct Watched {
    inner: Arc<dyn Ufs>,
    capabilities: Capabilities,
    rules: Arc<Mutex<Rules>>,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    reading: AtomicU64,
    reading_max: AtomicU64,
    /// Parts of uploads that were begun.
    pub parts: Arc<AtomicU64>,
    /// Questions what is at a key that were begun.
    pub stats: AtomicU64,
    /// Names that were made durable as they were found.
    pub synced: Mutex<Vec<UfsKey>>,
    link_free_at: Mutex<Option<Instant>>,
}

impl Watched {
    /// Without `renames` a name can only be moved by reading what is there and putting it anew.
    pub fn new(inner: Arc<dyn Ufs>, renames: bool) -> Self {
        let inner_can = inner.capabilities().clone();
        Self {
            capabilities: Capabilities {
                rename: renames && inner_can.rename,
                copy: renames && inner_can.copy,
                hard_links: renames && inner_can.hard_links,
                ..inner_can
            },
            inner,
            rules: Arc::default(),
            reads: 0.into(),
            read_bytes: 0.into(),
            reading: 0.into(),
            reading_max: 0.into(),
            parts: Arc::default(),
            stats: 0.into(),
            synced: Mutex::default(),
            link_free_at: Mutex::default(),
        }
    }

    /// Waits for the turn of `len` bytes on the shaped way.
    async fn travel(&self, len: u64, bytes_per_s: u64) {
        if bytes_per_s == 0 {
            return;
        }
        let arrival = {
            let mut free_at = self.link_free_at.lock();
            let start = free_at.map_or_else(Instant::now, |at| at.max(Instant::now()));
            *free_at.insert(start + Duration::from_nanos(len * 1_000_000_000 / bytes_per_s))
        };
        tokio::time::sleep_until(arrival.into()).await;
    }

    pub fn rule(&self, rules: Rules) {
        *self.rules.lock() = rules;
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(SeqCst)
    }

    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(SeqCst)
    }

    pub fn reading_max(&self) -> u64 {
        self.reading_max.load(SeqCst)
    }

    /// Waits as long as the rules say, which may come to less meanwhile.
    async fn wait(rules: &Mutex<Rules>, takes: fn(&Rules) -> Duration) {
        let began = Instant::now();
        loop {
            let left = takes(&rules.lock()).saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(NOTICED_WITHIN)).await;
        }
    }

    fn must_fail(counter: &mut u64) -> bool {
        let fails = *counter > 0;
        *counter = counter.saturating_sub(1);
        fails
    }
}

#[async_trait]
impl Ufs for Watched {
    async fn sweep(&self, key: &UfsKey) -> UfsResult<()> {
        self.inner.sweep(key).await
    }

    async fn sync_name(&self, key: &UfsKey) -> UfsResult<()> {
        self.synced.lock().push(key.clone());
        self.inner.sync_name(key).await
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn stat(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        self.stats.fetch_add(1, SeqCst);
        Self::wait(&self.rules, |rules| rules.stat_takes).await;
        self.inner.stat(key).await
    }

    async fn stat_listed(&self, key: &UfsKey) -> UfsResult<Option<UfsAttr>> {
        self.inner.stat_listed(key).await
    }

    async fn list(&self, dir: &UfsKey, from: Option<&PageToken>, limit: usize) -> UfsResult<ListPage> {
        self.inner.list(dir, from, limit).await
    }

    async fn read(
        &self,
        key: &UfsKey,
        version: &UfsVersion,
        offset: u64,
        buf: &mut [u8],
    ) -> UfsResult<usize> {
        self.reads.fetch_add(1, SeqCst);
        let now = self.reading.fetch_add(1, SeqCst) + 1;
        self.reading_max.fetch_max(now, SeqCst);
        Self::wait(&self.rules, |rules| rules.read_takes).await;
        let fails = Self::must_fail(&mut self.rules.lock().reads_to_fail);
        self.reading.fetch_sub(1, SeqCst);
        if fails {
            return Err(UfsError::Unavailable("read".into()));
        }
        let n = self.inner.read(key, version, offset, buf).await?;
        let bytes_per_s = self.rules.lock().bytes_per_s;
        self.travel(n as u64, bytes_per_s).await;
        self.read_bytes.fetch_add(n as u64, SeqCst);
        Ok(n)
    }

    async fn begin_put(&self, key: &UfsKey, spec: &PutSpec) -> UfsResult<Box<dyn Upload>> {
        let inner = self.inner.begin_put(key, spec).await?;
        Ok(Box::new(WatchedUpload { inner, rules: Arc::clone(&self.rules), parts: Arc::clone(&self.parts) }))
    }

    async fn delete(&self, key: &UfsKey, expect: &Expect) -> UfsResult<()> {
        self.inner.delete(key, expect).await
    }

    async fn mkdir(&self, key: &UfsKey, attrs: &PutAttrs) -> UfsResult<()> {
        self.inner.mkdir(key, attrs).await
    }

    async fn rmdir(&self, key: &UfsKey) -> UfsResult<()> {
        self.inner.rmdir(key).await
    }

    async fn rename(&self, from: (&UfsKey, &Expect), to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.inner.rename(from, to).await
    }

    async fn hard_link(&self, key: &UfsKey, to: (&UfsKey, &Expect)) -> UfsResult<UfsVersion> {
        self.inner.hard_link(key, to).await
    }

    async fn symlink(
        &self,
        key: &UfsKey,
        target: &[u8],
        attrs: &PutAttrs,
        expect: &Expect,
    ) -> UfsResult<UfsVersion> {
        self.inner.symlink(key, target, attrs, expect).await
    }

    async fn set_attr(&self, key: &UfsKey, change: &AttrChange, expect: &Expect) -> UfsResult<UfsVersion> {
        self.inner.set_attr(key, change, expect).await
    }
}

struct WatchedUpload {
    inner: Box<dyn Upload>,
    rules: Arc<Mutex<Rules>>,
    parts: Arc<AtomicU64>,
}

#[async_trait]
impl Upload for WatchedUpload {
    fn part_len(&self) -> u64 {
        self.inner.part_len()
    }

    async fn part(&self, index: u64, bytes: bytes::Bytes) -> UfsResult<()> {
        self.parts.fetch_add(1, SeqCst);
        Watched::wait(&self.rules, |rules| rules.part_takes).await;
        if Watched::must_fail(&mut self.rules.lock().parts_to_fail) {
            return Err(UfsError::Unavailable("part".into()));
        }
        self.inner.part(index, bytes).await
    }

    async fn finish(&mut self) -> UfsResult<UfsVersion> {
        self.inner.finish().await
    }

    async fn abort(&mut self) -> UfsResult<()> {
        self.inner.abort().await
    }
}
