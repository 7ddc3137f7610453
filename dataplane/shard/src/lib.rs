//! The thread-per-core runtime on io_uring.
