//! Several nodes that run one workload: they begin each phase together and add up what they measured.
//!
//! One node coordinates, the others join it over TCP. Before each phase all wait until the last one is ready; after it each sends
//! its histograms to the coordinator, which adds them up and sends the sum to all, so that every node decides the same, for
//! example which rate to try next. A node that is stopped stops all; one that is lost ends the run of the others.
//! There is no secret and no encryption: this is for the machines of one network that run a measurement.

mod gather;
mod wire;

pub(crate) use gather::{Together, gather};

use crate::engine::{Phase, Stop};
use crate::error::{Error, Result};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::Message;

/// The time between two looks at whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the others may take to end a phase that was stopped.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

/// The other nodes of a run. The coordinator knows all, every other one only the coordinator.
#[derive(Debug)]
pub(crate) struct Peers {
    node: usize,
    nodes: usize,
    others: Vec<Peer>,
    ends: Ends,
    teller: Option<JoinHandle<()>>,
}

/// A connection to another node.
#[derive(Debug)]
struct Peer {
    name: String,
    stream: Arc<Mutex<TcpStream>>,
    inbox: Receiver<Message>,
    lost: Arc<AtomicBool>,
}

/// What is to happen when the other end closes a connection.
#[derive(Clone, Debug, Default)]
struct Ends {
    /// The run is to stop.
    stop: Stop,
    /// All was done; it may close.
    closing: Arc<AtomicBool>,
}

impl Peers {
    /// A run of this node alone.
    pub(crate) fn none() -> Self {
        Self::new(0, 1, Vec::new(), Ends::default())
    }

    fn new(node: usize, nodes: usize, others: Vec<Peer>, ends: Ends) -> Self {
        let teller = (!others.is_empty()).then(|| {
            let streams: Vec<_> = others.iter().map(|other| Arc::clone(&other.stream)).collect();
            let ends = ends.clone();
            std::thread::spawn(move || tell_stop(&ends, &streams))
        });
        Self { node, nodes, others, ends, teller }
    }

    /// The number of this node; the coordinator is 0.
    pub(crate) fn node(&self) -> usize {
        self.node
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// Waits until all nodes are about to begin the phase `name`.
    ///
    /// # Errors
    /// A node is lost or does something else; [`Error::Interrupted`] if one is stopped meanwhile.
    pub(crate) fn meet(&self, name: &str) -> Result<()> {
        if self.others.is_empty() {
            return Ok(());
        }
        let ready = Message::Ready { phase: name.to_owned() };
        if self.node > 0 {
            self.others[0].send(&ready)?;
            let answer = self.receive(&self.others[0], false)?;
            return self.others[0].expect(answer, |said| matches!(said, Message::Go).then_some(()));
        }
        for other in &self.others {
            let said = self.receive(other, false)?;
            other.expect(said, |said| {
                matches!(&said, Message::Ready { phase } if phase == name).then_some(())
            })?;
        }
        self.others.iter().try_for_each(|other| other.send(&Message::Go))
    }

    /// What all nodes measured of a phase, of which this one measured `mine`.
    ///
    /// # Errors
    /// A node is lost, though nobody was stopped.
    pub(crate) fn merge(&self, mine: Phase) -> Result<Phase> {
        let merged = if self.node == 0 { self.add_up(mine.clone()) } else { self.hand_in(mine.clone()) };
        match merged {
            // Who was stopped first may have gone; what is known here is still worth reporting.
            Err(_) if self.ends.stop.is_set() && self.lost().is_none() => Ok(mine),
            merged => merged,
        }
    }

    /// How the run ended, with regard to the others: all wait for the last one, unless they were stopped.
    ///
    /// # Errors
    /// Those of the run; or the loss of a node, where that is what stopped it.
    pub(crate) fn part(&self, outcome: Result<()>) -> Result<()> {
        if outcome.is_ok() {
            self.ends.closing.store(true, Ordering::Relaxed);
            return self.meet("end");
        }
        match (outcome, self.lost()) {
            (Err(Error::Interrupted), Some(lost)) => Err(lost),
            (outcome, _) => outcome,
        }
    }

    /// The first node whose connection ended before the run did.
    fn lost(&self) -> Option<Error> {
        self.others
            .iter()
            .find(|other| other.lost.load(Ordering::Relaxed))
            .map(|other| other.error("is gone"))
    }

    fn add_up(&self, mut sum: Phase) -> Result<Phase> {
        for other in &self.others {
            let said = self.receive(other, true)?;
            let phase = other.expect(said, |said| match said {
                Message::Measured(phase) => Some(*phase),
                _ => None,
            })?;
            sum.merge(phase);
        }
        let answer = Message::Merged(Box::new(sum.clone()));
        self.others.iter().try_for_each(|other| other.send(&answer))?;
        Ok(sum)
    }

    fn hand_in(&self, mine: Phase) -> Result<Phase> {
        let coordinator = &self.others[0];
        coordinator.send(&Message::Measured(Box::new(mine)))?;
        let said = self.receive(coordinator, true)?;
        coordinator.expect(said, |said| match said {
            Message::Merged(phase) => Some(*phase),
            _ => None,
        })
    }

    /// The next message of a node. It may take as long as that node lives: a phase can be long, and a connection whose other end is
    /// gone is closed by the kernel (`gather` asks for that). After a stop it is waited for only where `patient`.
    fn receive(&self, from: &Peer, patient: bool) -> Result<Message> {
        let mut stopped: Option<Instant> = None;
        loop {
            match from.inbox.recv_timeout(LOOK_EVERY) {
                Ok(Message::Stop) => self.ends.stop.set(),
                Ok(said) => return Ok(said),
                Err(RecvTimeoutError::Disconnected) if self.ends.stop.is_set() => {
                    return Err(self.lost().unwrap_or(Error::Interrupted));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(from.error("is gone")),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.ends.stop.is_set() {
                let since = *stopped.get_or_insert_with(Instant::now);
                if !patient || since.elapsed() >= STOPPED_WITHIN {
                    return Err(Error::Interrupted);
                }
            }
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.ends.closing.store(true, Ordering::Relaxed);
        if let Some(teller) = self.teller.take() {
            // It only sends; that it panicked changes nothing here.
            let _ = teller.join();
        }
        for other in &self.others {
            let stream = other.stream.lock().unwrap_or_else(PoisonError::into_inner);
            // The other end may have closed it before.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Peer {
    /// Begins to hear what comes; a stop is heeded at once, whatever this node does.
    fn new(name: String, stream: TcpStream, ends: Ends) -> Result<Self> {
        let (says, inbox) = channel();
        let lost = Arc::new(AtomicBool::new(false));
        let failed = |source| Error::Peer { name: name.clone(), why: format!("cannot be heard: {source}") };
        let (heard, is_lost) = (stream.try_clone().map_err(failed)?, Arc::clone(&lost));
        let hears = move || hear(heard, &ends, &is_lost, &says);
        std::thread::Builder::new().name("peer".to_owned()).spawn(hears).map_err(failed)?;
        Ok(Self { name, stream: Arc::new(Mutex::new(stream)), inbox, lost })
    }

    fn send(&self, message: &Message) -> Result<()> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        wire::write(&mut &*stream, message).map_err(|error| self.error(&format!("cannot be told: {error}")))
    }

    fn expect<T>(&self, said: Message, wanted: impl FnOnce(Message) -> Option<T>) -> Result<T> {
        wanted(said).ok_or_else(|| self.error("is at another point of the run"))
    }

    fn error(&self, why: &str) -> Error {
        Error::Peer { name: self.name.clone(), why: why.to_owned() }
    }
}

/// Passes on what a node says, until it says no more. A node that leaves before the end stops the run: what the others would
/// still measure is not what was asked for.
fn hear(mut stream: TcpStream, ends: &Ends, lost: &AtomicBool, says: &Sender<Message>) {
    while let Ok(said) = wire::read(&mut stream) {
        if matches!(said, Message::Stop) {
            ends.stop.set();
        }
        if says.send(said).is_err() {
            return;
        }
    }
    if !ends.stop.is_set() && !ends.closing.load(Ordering::Relaxed) {
        lost.store(true, Ordering::Relaxed);
        ends.stop.set();
    }
}

/// Tells the others when this node is stopped; also at its end, before the connections close.
fn tell_stop(ends: &Ends, streams: &[Arc<Mutex<TcpStream>>]) {
    while !ends.stop.is_set() && !ends.closing.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
    }
    if ends.stop.is_set() {
        for stream in streams {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner);
            // Who is gone needs not be told.
            let _ = wire::write(&mut &*stream, &Message::Stop);
        }
    }
}
