//! An under file system as workloads use it: opened as the daemon opens it, called from plain threads, with a folder of the
//! run in it.

use crate::error::{Error, Result};
use forebay_types::{Name, UfsKey, UfsVersion};
use forebay_ufs::{Expect, PutAttrs, PutSpec, Ufs, UfsError, UfsOptions, UfsResult};
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::Runtime;

/// The threads that drive the connections; the calls are made by the lanes.
const THREADS: usize = 2;
/// Names of a page when a folder is cleared.
const PAGE: usize = 1000;

/// An under file system that is open.
#[derive(Debug)]
pub(crate) struct Store {
    ufs: Arc<dyn Ufs>,
    runtime: Runtime,
}

impl Store {
    /// Opens the store at `url` for so many callers at once.
    ///
    /// # Errors
    /// It cannot be reached, with the remedy.
    pub(crate) fn open(url: &str, options: &[(String, String)], callers: usize) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::usage(error.to_string(), "docs/UFS.md has the URLs and options")
        };
        let mut settings =
            UfsOptions::named(url, &options.iter().cloned().collect()).map_err(|error| failed(&error))?;
        settings.concurrency = settings.concurrency.max(callers);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let ufs = runtime.block_on(forebay_ufs::open(url, &settings)).map_err(|error| failed(&error))?;
        Ok(Self { ufs, runtime })
    }

    /// The store itself, for whoever calls it in his own way on [`Self::handle`].
    pub(crate) fn ufs(&self) -> Arc<dyn Ufs> {
        Arc::clone(&self.ufs)
    }

    /// Where its calls can be awaited.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// Puts a file whose parts `fill` makes.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn put(
        &self,
        key: &UfsKey,
        len: u64,
        mut fill: impl FnMut(u64, &mut [u8]),
    ) -> UfsResult<UfsVersion> {
        let spec = PutSpec { len, expect: Expect::Absent, ..PutSpec::default() };
        self.run(async {
            let mut upload = self.ufs.begin_put(key, &spec).await?;
            let part_len = upload.part_len();
            for part in 0..len.div_ceil(part_len) {
                let mut bytes = vec![0; part_len.min(len - part * part_len) as usize];
                fill(part * part_len, &mut bytes);
                upload.part(part, bytes.into()).await?;
            }
            upload.finish().await
        })
    }

    /// Waits for a call.
    ///
    /// # Errors
    /// Those of the call.
    pub(crate) fn wait<'a, T, F>(&'a self, call: impl FnOnce(&'a dyn Ufs) -> F) -> UfsResult<T>
    where
        F: Future<Output = UfsResult<T>>,
    {
        self.run(call(&*self.ufs))
    }

    /// Waits for a future on this thread; the connections go on beside it.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.handle().block_on(future)
    }
}

/// The folder of a node in an under file system, with a directory for each lane.
#[derive(Debug)]
pub(crate) struct Tree {
    top: UfsKey,
    mine: UfsKey,
    lanes: usize,
}

impl Tree {
    /// Makes it.
    ///
    /// # Errors
    /// Something is there already, or it cannot be made.
    pub(crate) fn make(store: &Store, name: &str, node: usize, lanes: usize) -> Result<Self> {
        let top = UfsKey::root().child(&name_of(&format!("forebay-bench-{name}"))?);
        let mine = top.child(&name_of(&format!("node-{node}"))?);
        let tree = Self { top, mine, lanes };
        let found =
            store.wait(|ufs| ufs.stat(&tree.mine)).map_err(|error| failed("look at", &tree.mine, &error))?;
        if found.is_some() {
            let cause = format!("{} is there already", tree.mine);
            return Err(Error::usage(
                cause,
                "remove it if no other run uses it, or give this run another --name",
            ));
        }
        let attrs = PutAttrs::default();
        for dir in [&tree.top, &tree.mine]
            .into_iter()
            .chain(&(0..lanes).map(|lane| tree.dir(lane)).collect::<Vec<_>>())
        {
            match store.wait(|ufs| ufs.mkdir(dir, &attrs)) {
                Err(UfsError::Exists(_)) | Ok(()) => {}
                Err(error) => return Err(failed("make", dir, &error)),
            }
        }
        Ok(tree)
    }

    /// The directory of a lane.
    pub(crate) fn dir(&self, lane: usize) -> UfsKey {
        self.mine.child(&name_of(&format!("t{lane}")).expect("a letter and a number are a name"))
    }

    /// A file of a lane.
    pub(crate) fn file(&self, lane: usize, number: usize) -> UfsKey {
        self.dir(lane).child(&name_of(&format!("f{number}")).expect("a letter and a number are a name"))
    }

    /// Deletes all that is in it, and itself; the folder of all nodes with the last of them.
    ///
    /// # Errors
    /// Something cannot be deleted.
    pub(crate) fn remove(&self, store: &Store) -> Result<()> {
        for lane in 0..self.lanes {
            let dir = self.dir(lane);
            store.run(clear(&*store.ufs, &dir)).map_err(|error| failed("clear", &dir, &error))?;
        }
        for dir in (0..self.lanes).map(|lane| self.dir(lane)).chain([self.mine.clone(), self.top.clone()]) {
            match store.wait(|ufs| ufs.rmdir(&dir)) {
                Ok(()) | Err(UfsError::NotFound(_)) => {}
                Err(UfsError::NotEmpty(_)) if dir == self.top => {}
                Err(error) => return Err(failed("remove", &dir, &error)),
            }
        }
        Ok(())
    }
}

/// Deletes the files of a directory; from its beginning again until it has none, since pages move under deletions.
async fn clear(ufs: &dyn Ufs, dir: &UfsKey) -> UfsResult<()> {
    loop {
        let page = match ufs.list(dir, None, PAGE).await {
            Err(UfsError::NotFound(_)) => return Ok(()),
            page => page?,
        };
        if page.entries.is_empty() && page.next.is_none() {
            return Ok(());
        }
        for entry in page.entries {
            match ufs.delete(&dir.child(&entry.name), &Expect::Any).await {
                Ok(()) | Err(UfsError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn name_of(text: &str) -> Result<Name> {
    Name::new(text.as_bytes()).map_err(|error| Error::usage(error.to_string(), "choose another --name"))
}

fn failed(what: &str, key: &UfsKey, error: &UfsError) -> Error {
    Error::usage(
        format!("cannot {what} {key} in the under file system: {error}"),
        "see that it can be written to",
    )
}
