//! One fetch of a page for all who want it.
//!
//! **Owns** the table of pages that somebody is busy with. Whoever claims a page first gets its [`Ticket`] and
//! must land it; everybody else waits for that landing, on whatever core he is. A ticket that is dropped lands as
//! an error, so nobody waits for a task that died.
//!
//! A ticket excludes every other one of its page. That is why a writer that replaces a whole absent page takes
//! one too: no fetch can then put old bytes over the new ones.
//!
//! **Why this shape:** the waiters hold the flight, not the table: a landing takes the entry out first and
//! wakes the waiters after, so the table only has what is really under way, and a waiter that goes away (its
//! request was cancelled) takes nothing with it.

use crate::body::Body;
use forebay_types::{ContentKey, ExtentId, FsError, FsErrorKind, FsResult, PageIndex};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Spreads the locks; a power of two above the number of cores.
const SLICES: usize = 64;
const _: () = assert!(SLICES.is_power_of_two());

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// Of an extent: the page is put there.
    Extent(ExtentId),
    /// Of a content that has no extent: the page is passed on and kept nowhere.
    Passing(ContentKey),
}

/// A page somebody is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    pub(crate) subject: Subject,
    pub(crate) page: PageIndex,
}

/// How it ended.
#[derive(Clone, Debug)]
pub(crate) enum Landed {
    /// The page is in the extent (or was until it was evicted): look there again.
    InExtent,
    /// Here are its bytes.
    Body(Arc<Body>),
}

/// A page on its way.
#[derive(Default)]
pub(crate) struct Flight {
    outcome: OnceLock<FsResult<Landed>>,
    landed: Notify,
}

impl Flight {
    /// Waits for the landing. Whoever has the ticket bounds the time.
    pub(crate) async fn wait(&self) -> FsResult<Landed> {
        loop {
            let mut notified = std::pin::pin!(self.landed.notified());
            // Registered before the look, so that a landing in between is not missed.
            notified.as_mut().enable();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            notified.await;
        }
    }
}

type Slice = Mutex<HashMap<FlightKey, Arc<Flight>>>;

/// The pages under way.
pub(crate) struct Flights {
    slices: Box<[Slice]>,
}

/// What a claim gave.
pub(crate) enum Claim {
    /// The page is ours to bring.
    Mine(Ticket),
    /// Somebody is at it.
    Theirs(Arc<Flight>),
}

impl Flights {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { slices: (0..SLICES).map(|_| Mutex::default()).collect() })
    }

    fn slice(&self, key: &FlightKey) -> &Slice {
        let subject = match key.subject {
            Subject::Extent(extent) => extent.0,
            Subject::Passing(content) => content.0 as u64,
        };
        &self.slices[(subject ^ key.page.0) as usize & (SLICES - 1)]
    }

    /// Claims a page. Whoever gets the ticket looks once more whether the page is still absent: it may have
    /// landed between his look and his claim.
    pub(crate) fn claim(self: &Arc<Self>, key: FlightKey) -> Claim {
        let mut slice = self.slice(&key).lock();
        if let Some(flight) = slice.get(&key) {
            return Claim::Theirs(Arc::clone(flight));
        }
        let flight = Arc::new(Flight::default());
        slice.insert(key, Arc::clone(&flight));
        Claim::Mine(Ticket { flights: Arc::clone(self), key, flight })
    }

    /// How many pages are under way.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.slices.iter().map(|slice| slice.lock().len()).sum()
    }
}

/// The right, and the duty, to bring a page.
pub(crate) struct Ticket {
    flights: Arc<Flights>,
    key: FlightKey,
    flight: Arc<Flight>,
}

impl Ticket {
    /// The page.
    pub(crate) fn page(&self) -> PageIndex {
        self.key.page
    }

    /// What the others wait for.
    pub(crate) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }

    /// Ends the flight and tells everybody.
    pub(crate) fn land(self, outcome: FsResult<Landed>) {
        self.end(outcome);
    }

    fn end(&self, outcome: FsResult<Landed>) {
        if self.flight.outcome.set(outcome).is_ok() {
            self.flights.slice(&self.key).lock().remove(&self.key);
            self.flight.landed.notify_waiters();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Without effect if it has landed. Allocates nothing then.
        if self.flight.outcome.get().is_none() {
            self.end(Err(FsError::new(FsErrorKind::ShuttingDown, "the fetch of a page was given up")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FlightKey = FlightKey { subject: Subject::Extent(ExtentId(7)), page: PageIndex(3) };

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    }

    #[test]
    fn one_gets_the_ticket_and_all_get_the_landing() {
        let flights = Flights::new();
        let Claim::Mine(ticket) = flights.claim(KEY) else { panic!("nobody else is here") };
        runtime().block_on(async {
            let waiters: Vec<_> = (0..50)
                .map(|_| match flights.claim(KEY) {
                    Claim::Theirs(flight) => tokio::spawn(async move { flight.wait().await }),
                    Claim::Mine(_) => panic!("the ticket is out"),
                })
                .collect();
            ticket.land(Ok(Landed::InExtent));
            for waiter in waiters {
                assert!(matches!(waiter.await.unwrap(), Ok(Landed::InExtent)));
            }
        });
        assert_eq!(flights.len(), 0);
        assert!(matches!(flights.claim(KEY), Claim::Mine(_)));
    }

    #[test]
    fn a_dropped_ticket_is_an_error_and_frees_the_page() {
        let flights = Flights::new();
        let Claim::Mine(ticket) = flights.claim(KEY) else { panic!("nobody else is here") };
        let Claim::Theirs(flight) = flights.claim(KEY) else { panic!("the ticket is out") };
        drop(ticket);
        let outcome = runtime().block_on(flight.wait());
        assert_eq!(outcome.unwrap_err().kind(), FsErrorKind::ShuttingDown);
        assert_eq!(flights.len(), 0);
    }

    #[test]
    fn a_waiter_that_goes_away_leaves_the_flight_to_the_others() {
        let flights = Flights::new();
        let Claim::Mine(ticket) = flights.claim(KEY) else { panic!("nobody else is here") };
        let Claim::Theirs(flight) = flights.claim(KEY) else { panic!("the ticket is out") };
        runtime().block_on(async {
            let impatient = tokio::time::timeout(std::time::Duration::from_millis(5), flight.wait()).await;
            assert!(impatient.is_err());
            let patient = tokio::spawn(async move { flight.wait().await });
            ticket.land(Ok(Landed::InExtent));
            assert!(patient.await.unwrap().is_ok());
        });
    }
}
