//! What the name space may ask about the under file systems: the port `UfsMeta`.
//!
//! The calls run on the control runtime, so that they may be awaited anywhere, and end in time whatever the
//! store does.

use crate::Worker;
use forebay_types::{
    BoxFuture, DirPage, FsError, FsErrorKind, FsResult, MountId, PageToken, UfsAttr, UfsKey, UfsMeta,
};
use forebay_ufs::{Ufs, UfsError, UfsResult};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

impl UfsMeta for Worker {
    fn stat<'a>(&'a self, mount: MountId, key: &'a UfsKey) -> BoxFuture<'a, FsResult<Option<UfsAttr>>> {
        Box::pin(async move {
            let (ufs, wanted) = (self.ufs.get(mount)?, key.clone());
            let answer = self.ask(async move { ufs.stat(&wanted).await }).await;
            match answer {
                // A file where a directory of the path should be: there is nothing at the key.
                Err(error) if error.kind() == FsErrorKind::NotADirectory => Ok(None),
                other => other.map_err(|error| error.during(format_args!("looking up {key}"))),
            }
        })
    }

    fn stat_listed<'a>(
        &'a self,
        mount: MountId,
        key: &'a UfsKey,
    ) -> BoxFuture<'a, FsResult<Option<UfsAttr>>> {
        Box::pin(async move {
            let (ufs, wanted) = (self.ufs.get(mount)?, key.clone());
            let answer = self.ask(async move { ufs.stat_listed(&wanted).await }).await;
            answer.map_err(|error| error.during(format_args!("looking up {key}")))
        })
    }

    fn list<'a>(
        &'a self,
        mount: MountId,
        key: &'a UfsKey,
        from: Option<PageToken>,
        limit: usize,
    ) -> BoxFuture<'a, FsResult<DirPage>> {
        Box::pin(async move {
            let (ufs, dir) = (self.ufs.get(mount)?, key.clone());
            let page = self.ask(async move { ufs.list(&dir, from.as_ref(), limit).await }).await;
            page.map(DirPage::from).map_err(|error| error.during(format_args!("listing {key}")))
        })
    }

    fn keeps_dir_times(&self, mount: MountId) -> bool {
        let holds = |ufs: Arc<dyn Ufs>| ufs.capabilities().times && ufs.capabilities().set_attr;
        self.ufs.get(mount).is_ok_and(holds)
    }

    fn lists_attrs(&self, mount: MountId) -> bool {
        self.ufs.get(mount).map_or(true, |ufs| ufs.capabilities().list_attrs)
    }
}

impl Worker {
    /// One call to an under file system on the control runtime, ended after the time for metadata calls.
    async fn ask<T: Send + 'static>(
        &self,
        call: impl Future<Output = UfsResult<T>> + Send + 'static,
    ) -> FsResult<T> {
        in_time(&self.control, self.config.meta_within, call).await?.map_err(FsError::from)
    }
}

/// Runs a call to an under file system on the control runtime and ends it after `within`.
pub(crate) async fn in_time<T: Send + 'static>(
    control: &tokio::runtime::Handle,
    within: Duration,
    call: impl Future<Output = Result<T, UfsError>> + Send + 'static,
) -> FsResult<Result<T, UfsError>> {
    let call = control.spawn(async move { tokio::time::timeout(within, call).await });
    match call.await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(FsError::new(FsErrorKind::TimedOut, format!("no answer within {within:?}"))),
        Err(error) => Err(FsError::new(FsErrorKind::ShuttingDown, error)),
    }
}
