//! A doubly linked list in a vector: constant-time removal anywhere, no pointers, no unsafe code.

/// No node.
const NIL: u32 = u32::MAX;

/// The place of an element; valid until that element is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u32);

#[derive(Debug)]
struct Node {
    unit: u64,
    newer: u32,
    older: u32,
}

/// Units from newest to oldest.
#[derive(Debug)]
pub(super) struct Queue {
    nodes: Vec<Node>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), newest: NIL, oldest: NIL }
    }
}

impl Queue {
    /// How many units are in it.
    pub(super) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Puts a unit at the newest end.
    pub(super) fn push(&mut self, unit: u64) -> Place {
        let node = Node { unit, newer: NIL, older: self.newest };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                let at = u32::try_from(self.nodes.len()).expect("fewer units than 2^32 fit in memory");
                assert!(at != NIL, "the last number stands for no node");
                self.nodes.push(node);
                at
            }
        };
        match self.newest {
            NIL => self.oldest = at,
            newest => self.nodes[newest as usize].newer = at,
        }
        self.newest = at;
        Place(at)
    }

    /// Takes out a unit.
    pub(super) fn remove(&mut self, place: Place) -> u64 {
        let Node { unit, newer, older } = self.nodes[place.0 as usize];
        match newer {
            NIL => self.newest = older,
            newer => self.nodes[newer as usize].older = older,
        }
        match older {
            NIL => self.oldest = newer,
            older => self.nodes[older as usize].newer = newer,
        }
        self.free.push(place.0);
        unit
    }

    /// The oldest unit's place.
    pub(super) fn oldest(&self) -> Option<Place> {
        (self.oldest != NIL).then_some(Place(self.oldest))
    }

    /// The place of the next newer unit.
    pub(super) fn newer(&self, place: Place) -> Option<Place> {
        let newer = self.nodes[place.0 as usize].newer;
        (newer != NIL).then_some(Place(newer))
    }

    /// The unit at a place.
    pub(super) fn unit(&self, place: Place) -> u64 {
        self.nodes[place.0 as usize].unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_vector(steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..200)) {
            let mut queue = Queue::default();
            let mut model: Vec<(u64, Place)> = Vec::new();
            for (number, (push, at)) in steps.into_iter().enumerate() {
                if push || model.is_empty() {
                    model.push((number as u64, queue.push(number as u64)));
                } else {
                    let (unit, place) = model.remove(at % model.len());
                    prop_assert_eq!(queue.remove(place), unit);
                }
                let mut seen = Vec::new();
                let mut place = queue.oldest();
                while let Some(at) = place {
                    seen.push((queue.unit(at), at));
                    place = queue.newer(at);
                }
                prop_assert_eq!(&seen, &model);
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}
