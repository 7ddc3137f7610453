//! The port by which the worker takes tasks and reports what came of them.

use super::derive::{Verdict, derive};
use super::finish::{Ending, finish};
use crate::namespace::Namespace;
use forebay_types::{
    BoxFuture, FsResult, PersistLog, PersistOutcome, PersistTask, PersistWork, Settled, Writers,
};
use futures_timer::Delay;
use futures_util::future::select;
use std::pin::pin;
use std::sync::Weak;
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

    fn begun(&self) -> Vec<PersistTask> {
        self.shared.queue.hand_out_doubts()
    }

    fn hurry(&self) -> bool {
        self.shared.queue.hurry(self.shared.now_ms())
    }

    fn give_way_to(&self, writers: Weak<dyn Writers>) {
        self.shared.queue.give_way_to(writers);
    }

    fn finish<'a>(
        &'a self,
        task: &'a PersistTask,
        outcome: PersistOutcome,
    ) -> BoxFuture<'a, FsResult<Settled>> {
        Box::pin(async move {
            // It was written meanwhile by who has it open: what the log says of it does not come true by itself.
            let written_beside =
                matches!(outcome, PersistOutcome::Changed) && self.shared.is_published(task.ino);
            let (recorded, failure) = match outcome {
                PersistOutcome::Failed(why) => (Ok(Settled::StillDirty), Some(why)),
                outcome => {
                    let recorded = self.record_outcome(task, outcome).await;
                    let failure = recorded.as_ref().err().map(ToString::to_string);
                    (recorded, failure)
                }
            };
            self.shared.queue.ended(task.id, failure, written_beside, self.shared.now_ms());
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
        if let Some(task) = self.shared.queue.take_ready() {
            return Ok(Found::Task(Box::new(task)));
        }
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
        let any_task = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Task(_)));
        // Before the UFS can have anything of a task, the task is durable.
        let synced = if any_task { self.sync().await } else { Ok(()) };
        for (candidate, verdict) in verdicts {
            match verdict {
                Verdict::Settled => {}
                Verdict::Wait(wait) => self.shared.queue.wait(&candidate, wait, now),
                Verdict::Task(task) => match &synced {
                    Ok(()) => self.shared.queue.make_ready(*task),
                    Err(_) => self.shared.queue.doubt(*task),
                },
            }
        }
        synced.map(|()| Found::LookAgain)
    }

    async fn record_outcome(&self, task: &PersistTask, outcome: PersistOutcome) -> FsResult<Settled> {
        let Some(out) = self.shared.queue.outstanding(task.id) else { return Ok(Settled::StillDirty) };
        let ending = self.ending(task, outcome).await?;
        // Questions that are under way may be from before the task: nobody who sees its outcome is to join them.
        self.flights.overtaken(task.mount, &out.footprint.keys, out.footprint.tree);
        let task = task.clone();
        let settled = self.mutate_own(move |txn| finish(txn, &out, &task, ending)).await?;
        if settled == Settled::Clean {
            self.sync().await?;
        }
        Ok(settled)
    }

    /// The outcome with what has to be asked of the UFS to record it.
    async fn ending(&self, task: &PersistTask, outcome: PersistOutcome) -> FsResult<Ending> {
        Ok(match outcome {
            PersistOutcome::Done(now) => Ending::Done(now),
            PersistOutcome::Changed | PersistOutcome::NotDone | PersistOutcome::Failed(_) => Ending::Undone,
            PersistOutcome::Conflict(Some(copy)) => {
                let there = self.flights.stat(task.mount, copy.clone()).await?;
                Ending::Beside(copy.split().map(|(_, name)| name).zip(there))
            }
            PersistOutcome::Conflict(None) => self.conflict(task).await?,
            PersistOutcome::Unpersistable(why) => Ending::Unpersistable(why),
        })
    }

    /// A conflict without bytes of ours. A move whose source was changed or taken away by others has no right
    /// to its name any more; the next look at the source says what is there.
    async fn conflict(&self, task: &PersistTask) -> FsResult<Ending> {
        if let PersistWork::Move { from, version: Some(version), .. } = &task.work {
            match self.flights.stat(task.mount, from.clone()).await? {
                None => return Ok(Ending::SourceGone),
                Some(there) if there.version != *version => return Ok(Ending::SourceChanged(there)),
                Some(_) => {}
            }
        }
        if let PersistWork::Move { from, version: None, .. } = &task.work
            && self.flights.stat(task.mount, from.clone()).await?.is_none()
        {
            return Ok(Ending::SourceGone);
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
