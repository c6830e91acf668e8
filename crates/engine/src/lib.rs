//! Clarion's engine: sessions, rooms, presence and delivery as a pure state machine.
//!
//! A [`Shard`] is the whole state of one worker. It is driven by calls (`on_open`, `on_bytes`,
//! `on_mail`, `on_tick`, …) and asks for everything it wants done through [`Effects`]. It has no
//! socket, clock, thread, await or randomness of its own, so the simulator can drive several of
//! them in one thread, under a seed, through every order of events.
//!
//! What it is not: it does no I/O and reads no files; a room's log is kept by a store
//! (`clarion-store`), bytes are framed by `clarion-websocket`, and messages are read and written
//! by `clarion-protocol`.
//!
//! Start reading at [`Shard`]; the seam to the driver is in [`effects`], what shards tell each
//! other in [`mail`].

mod api;
mod appends;
mod command;
pub mod config;
mod connection;
pub mod counters;
mod deflate;
pub mod effects;
pub mod fault;
mod groups;
mod home;
pub mod id;
mod local;
mod log;
pub mod mail;
mod members;
pub mod permission;
mod presence;
pub mod revoked;
mod room;
mod rooms;
mod router;
mod session;
mod shard;
mod ticket;
mod timers;

pub use config::Config;
pub use connection::{Endpoint, Open};
pub use counters::Counters;
pub use effects::Effects;
pub use id::{ApiId, ConnId, ConnRef, Now, WorkerId};
pub use mail::Mail;
pub use router::Router;
pub use shard::Shard;
