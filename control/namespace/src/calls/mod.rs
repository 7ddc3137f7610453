//! The calls of the name space that resolve no path: each either reads a record or has the home change one.

mod attrs;
mod content;
mod names;

pub use content::FileState;
