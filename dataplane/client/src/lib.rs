//! Finds the worker that holds the bytes: routing and read-ahead.
