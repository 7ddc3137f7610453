//! The driver of a simulated shard: it hands operations to the world and fetches what completed.

use super::world::World;
use crate::driver::{Driver, Event, Op, Patience, Token};
use crate::inbox::Inbox;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct SimDriver {
    world: Rc<RefCell<World>>,
    shard: usize,
}

impl SimDriver {
    pub(super) fn new(world: Rc<RefCell<World>>, shard: usize) -> Self {
        Self { world, shard }
    }
}

impl Driver for SimDriver {
    unsafe fn start(&mut self, token: Token, op: Op) {
        self.world.borrow_mut().start(self.shard, token, op);
    }

    fn cancel(&mut self, token: Token) {
        self.world.borrow_mut().cancel(self.shard, token);
    }

    fn ring_peer(&mut self, _peer: &Inbox) -> bool {
        // Simulated shards never sleep: the world looks at all of them in each round.
        true
    }

    fn turn(&mut self, patience: Patience, events: &mut Vec<Event>) -> io::Result<()> {
        debug_assert_eq!(patience, Patience::None, "the world decides when time passes");
        self.world.borrow_mut().fetch(self.shard, events);
        Ok(())
    }

    fn now(&self) -> Instant {
        self.world.borrow().instant()
    }
}
