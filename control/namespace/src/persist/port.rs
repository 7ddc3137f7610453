//! The port by which the worker takes tasks and reports what came of them.

use super::derive::{Unknown, Verdict, derive};
use super::finish::{Ending, finish};
use super::queue::Out;
use super::reconcile::{Evidence, reconcile};
use super::siblings::{Siblings, siblings, update};
use crate::namespace::Namespace;
use crate::record::Slot;
use crate::txn::Txn;
use forebay_types::{
    BoxFuture, FsResult, PersistLog, PersistOutcome, PersistTask, PersistWork, Settled, UfsAttr,
};
use futures_timer::Delay;
use futures_util::future::select;
use std::pin::pin;
use std::time::Duration;

/// How long the queue sleeps at most while something waits for its time: clocks can be turned.
const NAP_MAX: Duration = Duration::from_millis(250);
/// How long it sleeps after the home or the UFS would not answer.
const TROUBLE_NAP: Duration = Duration::from_millis(500);

impl PersistLog for Namespace {
    fn next(&self) -> BoxFuture<'_, PersistTask> {
        Box::pin(async move {
            loop {
                let changed = self.shared.queue.changed.notified();
                let mut changed = pin!(changed);
                changed.as_mut().enable();
                let nap = match self.look_for_task().await {
                    Ok(Found::Task(task)) => return *task,
                    Ok(Found::LookAgain) => continue,
                    Ok(Found::Nothing(nap)) => nap,
                    Err(error) => {
                        tracing::warn!(%error, "the persist queue cannot be worked on just now");
                        TROUBLE_NAP
                    }
                };
                select(changed, Delay::new(nap)).await;
            }
        })
    }

    fn hurry(&self) -> bool {
        self.shared.queue.hurry(self.shared.now_ms())
    }

    fn finish<'a>(
        &'a self,
        task: &'a PersistTask,
        outcome: PersistOutcome,
    ) -> BoxFuture<'a, FsResult<Settled>> {
        Box::pin(async move {
            let failure = match &outcome {
                PersistOutcome::Failed(why) => Some(why.clone()),
                _ => None,
            };
            let recorded = self.record_outcome(task, outcome).await;
            let failure = failure.or_else(|| recorded.as_ref().err().map(ToString::to_string));
            self.shared.queue.ended(task.id, failure, self.shared.now_ms());
            recorded
        })
    }
}

enum Found {
    Task(Box<PersistTask>),
    LookAgain,
    Nothing(Duration),
}

impl Namespace {
    async fn look_for_task(&self) -> FsResult<Found> {
        // One at a time: what is out must be known when the next is worked out.
        let _turn = self.deriving.lock().await;
        let now = self.shared.now_ms();
        let candidates = self.shared.queue.candidates(now);
        if candidates.slots.is_empty() {
            let until_due = candidates.next_due_ms.map(|due| Duration::from_millis(due.saturating_sub(now)));
            // With nothing queued only a change brings work; the long nap is for a change that was missed.
            return Ok(Found::Nothing(
                until_due.map_or(NAP_MAX * 20, |nap| nap.clamp(Duration::from_millis(1), NAP_MAX)),
            ));
        }
        let verdicts = self.mutate_own(move |txn| derive(txn, &candidates)).await?;
        for (slot, verdict) in verdicts {
            match verdict {
                Verdict::Settled => {}
                Verdict::Wait(wait) => self.shared.queue.wait(&slot, wait, now),
                Verdict::Reconcile(unknown) => self.reconcile(&slot, unknown).await,
                Verdict::Task(task) => {
                    let (mut task, out) = *task;
                    task.id = self.shared.queue.hand_out(out);
                    return Ok(Found::Task(Box::new(task)));
                }
            }
        }
        Ok(Found::LookAgain)
    }

    async fn reconcile(&self, slot: &Slot, unknown: Unknown) {
        let (mount, key) = (unknown.mount, unknown.key.clone());
        let settled = async {
            let there = self.flights.stat(mount, key.clone()).await?;
            let source_is_gone = match &unknown.from {
                Some(from) => self.flights.stat(mount, from.clone()).await?.is_none(),
                None => false,
            };
            let (slot, found) = (slot.clone(), Evidence { there, source_is_gone });
            self.mutate_own(move |txn| reconcile(txn, &slot, &unknown, &found)).await
        };
        let Err(error) = settled.await else {
            self.shared.queue.look_again(slot, self.shared.now_ms());
            return;
        };
        // Met with patience, as a task that failed.
        let footprint = super::queue::Footprint { mount, keys: vec![key], tree: false };
        let id = self.shared.queue.hand_out(Out { slot: slot.clone(), footprint, moving: false });
        self.shared.queue.ended(id, Some(error.to_string()), self.shared.now_ms());
    }

    async fn record_outcome(&self, task: &PersistTask, outcome: PersistOutcome) -> FsResult<Settled> {
        let Some(out) = self.shared.queue.outstanding(task.id) else { return Ok(Settled::StillDirty) };
        let Some(ending) = self.ending(task, outcome).await? else { return Ok(Settled::StillDirty) };
        let changed = matches!(ending, Ending::Done(_) | Ending::Linked { .. });
        let relinked = if changed { self.relinked(&out.slot).await? } else { None };
        let (slot, task) = (out.slot, task.clone());
        let record = move |txn: &mut Txn<'_>| {
            if let Some((siblings, now)) = &relinked {
                update(txn, siblings, now)?;
            }
            finish(txn, &slot, &task, ending)
        };
        self.mutate_own(record).await
    }

    /// The other names of the file that was at this name before, and what they are now.
    async fn relinked(&self, slot: &Slot) -> FsResult<Option<(Siblings, UfsAttr)>> {
        let mount = self.inode(slot.0).await?.record().mount;
        let at = slot.clone();
        let found = self.mutate_own(move |txn| siblings(txn, &at)).await?;
        let Some(found) = found else { return Ok(None) };
        let now = self.flights.stat(mount, found.key.clone()).await?;
        Ok(now.map(|now| (found, now)))
    }

    /// The outcome with what has to be asked of the UFS to record it; `None`: nothing is to be recorded.
    async fn ending(&self, task: &PersistTask, outcome: PersistOutcome) -> FsResult<Option<Ending>> {
        Ok(Some(match outcome {
            PersistOutcome::Done(now) => match (&task.work, now) {
                (PersistWork::Link { existing, .. }, Some(now)) => {
                    let first = self.flights.stat(task.mount, existing.clone()).await?;
                    Ending::Linked { now, first }
                }
                (_, now) => Ending::Done(now),
            },
            PersistOutcome::Changed => Ending::Undone,
            PersistOutcome::Conflict(Some(copy)) => {
                let there = self.flights.stat(task.mount, copy.clone()).await?;
                Ending::Beside(copy.split().map(|(_, name)| name).zip(there))
            }
            PersistOutcome::Conflict(None) => self.conflict(task).await?,
            PersistOutcome::Unpersistable(why) => Ending::Unpersistable(why),
            PersistOutcome::Failed(_) => return Ok(None),
        }))
    }

    /// A conflict without bytes of ours. A move whose source was changed or taken away by others has no right
    /// to its name any more; the next look at the source says what is there.
    async fn conflict(&self, task: &PersistTask) -> FsResult<Ending> {
        if let PersistWork::Move { from, version: Some(version), .. } = &task.work {
            let there = self.flights.stat(task.mount, from.clone()).await?;
            if let Some(there) = there.filter(|there| there.version != *version) {
                return Ok(Ending::SourceChanged(there));
            }
        }
        if let PersistWork::Put { to: key, .. } | PersistWork::MakeSpecial { key, .. } = &task.work
            && self.flights.stat(task.mount, key.clone()).await?.is_none()
        {
            // Others took theirs away: nothing is in the way of ours.
            return Ok(Ending::Vacant);
        }
        Ok(Ending::Beside(None))
    }
}
