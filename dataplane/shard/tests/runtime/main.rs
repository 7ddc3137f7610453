//! The runtime on real rings, and on simulated ones.

#![allow(clippy::unwrap_used, reason = "a failed step of the preparation fails the test")]

mod common;
mod devices;
mod executor;
mod files;
mod forbidden;
mod sim;
mod sim_model;
