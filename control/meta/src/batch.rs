//! What one transaction changes, and what it expects to find.

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Box<[u8]>,
    /// Its new value; `None` takes the key away, which is no error if it is not there.
    pub value: Option<Box<[u8]>>,
}

/// What a key must hold for a batch to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precondition {
    /// The key.
    pub key: Box<[u8]>,
    /// The value it must have; `None` if it must not be there.
    pub value: Option<Box<[u8]>>,
}

/// The changes of one transaction, applied in their order, and its preconditions, all checked before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    preconditions: Vec<Precondition>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Box<[u8]>>, value: impl Into<Box<[u8]>>) -> &mut Self {
        self.changes.push(Change { key: key.into(), value: Some(value.into()) });
        self
    }

    /// Takes `key` away.
    pub fn delete(&mut self, key: impl Into<Box<[u8]>>) -> &mut Self {
        self.changes.push(Change { key: key.into(), value: None });
        self
    }

    /// Demands that `key` holds `value` before the batch, or is absent if that is `None`.
    pub fn expect(&mut self, key: impl Into<Box<[u8]>>, value: Option<Box<[u8]>>) -> &mut Self {
        self.preconditions.push(Precondition { key: key.into(), value });
        self
    }

    /// The changes, in the order they apply.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What must hold before.
    pub fn preconditions(&self) -> &[Precondition] {
        &self.preconditions
    }
}
