//! How the tasks that serve a session end, told to the thread that waits for all of them.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Held by one task; reports its end, at the latest when it is dropped.
#[derive(Debug)]
pub(super) struct End {
    tell: Option<Sender<io::Result<()>>>,
}

impl End {
    /// The task is done, by the end of the session or by an error.
    pub(super) fn report(mut self, how: io::Result<()>) {
        self.tell(how);
    }

    fn tell(&mut self, how: io::Result<()>) {
        if let Some(tell) = self.tell.take() {
            // Whoever waited has given up.
            let _ = tell.send(how);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell(Err(io::Error::other("a task that served the session was dropped")));
    }
}

/// The ends of a session's tasks.
#[derive(Debug)]
pub(super) struct Ends {
    tell: Sender<io::Result<()>>,
    told: Receiver<io::Result<()>>,
    tasks: usize,
}

impl Ends {
    pub(super) fn new() -> Self {
        let (tell, told) = channel();
        Self { tell, told, tasks: 0 }
    }

    /// For one more task.
    pub(super) fn one_more(&mut self) -> End {
        self.tasks += 1;
        End { tell: Some(self.tell.clone()) }
    }

    /// Waits until all have ended; blocks. Says how the first of those ended that did not end well.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let mut ended = Ok(());
        for _ in 0..std::mem::take(&mut self.tasks) {
            let one = self.told.recv().expect("a sender is held here");
            ended = ended.and(one);
        }
        ended
    }

    /// As [`Ends::wait`], for so long at most; says how many are left, whatever their end was.
    pub(super) fn wait_for(&mut self, time: Duration) -> usize {
        let give_up = Instant::now() + time;
        while self.tasks > 0 {
            match self.told.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(_) => self.tasks -= 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_dropped_has_ended_badly() {
        let mut ends = Ends::new();
        ends.one_more().report(Ok(()));
        assert!(ends.wait().is_ok());
        ends.one_more().report(Ok(()));
        drop(ends.one_more());
        assert!(ends.wait().is_err());
        let _held = ends.one_more();
        assert_eq!(ends.wait_for(Duration::from_millis(20)), 1);
    }
}
