//! Endpoints: how a request reaches a worker.
