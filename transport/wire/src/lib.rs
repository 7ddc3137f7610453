//! The messages of the data path.
