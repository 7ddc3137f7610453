//! File-system semantics, the same for every front door.
