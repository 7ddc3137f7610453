//! The messages of the data path: what a client may ask of a worker, and what a worker answers.
//!
//! **Owns** [`Request`], [`Op`], [`Reply`] and [`Refusal`], and the [`Epoch`] that every request carries.
//!
//! **Never does** I/O, and knows neither who sends a message nor how it travels: that is `net`.
//!
//! **In and out:** a client fills a [`Request`]; in one process it goes to the worker as it stands, frames and
//! borrowed locations included, so that a hit copies and allocates nothing. Bytes are always arena frames
//! ([`forebay_shard::Frame`]): they are where the local disk, the front door and a network card all can reach.
//!
//! **Why this shape:** one enum, not a trait with a method a call: a peer's endpoint will encode an `Op` and
//! decode a `Reply`, and the compiler then names every message that it forgot. What only makes sense inside
//! one process (file descriptors) is no message; it is `net::Local`.
#![forbid(unsafe_code)]

mod message;

pub use message::{AllocateMode, Epoch, Op, ReadPolicy, Refusal, Reply, Request, SeekTo};
