//! Logs in one SQLite file: what a server keeps by default.
//!
//! [`SqliteStore`] is the handle: requests go in with [`SqliteStore::submit`], which never blocks, and
//! completions come out at a [`Sink`]. Behind it are two threads. One writes: it takes whatever waits,
//! makes one transaction of it, commits once and then answers all, so the price of an `fsync`
//! is shared by as many as there are, and nobody waits for company. The other reads, on a connection of
//! its own, so no read waits for an `fsync`; it sees whatever was committed before.
//!
//! The file is in WAL mode with `synchronous=FULL`: a commit returns when the disk has it. What is in
//! it, and how to look at it, is in `docs/storage.md`.
//!
//! [`backup`], [`export`] and [`import`] move all of it elsewhere.
//!
//! What this is not: the contract, which is in `clarion-store`, together with what tests it.

mod check;
mod error;
mod health;
#[cfg(feature = "__late_keys")]
mod late_keys;
mod queue;
mod reader;
mod rooms;
mod schema;
mod store;
mod threads;
mod transfer;
mod trim;
mod writer;

pub use check::{Checked, check, repair};
pub use error::OpenError;
pub use health::{COMMIT_BOUNDS_NS, Counters, Health};
pub use store::{Clock, Options, Sink, SqliteStore};
pub use transfer::{Epochs, TransferError, Transferred, backup, export, import};

/// The file in the data directory.
pub const FILE: &str = "clarion.db";
