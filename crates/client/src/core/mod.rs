//! Everything a client decides, without a runtime, a socket, a clock or randomness of its own.
//!
//! Time and entropy are arguments, so all that a client does can be tested in one thread and in
//! virtual time, and any loop can drive it. [`Core`] has four kinds of methods:
//!
//! - `on_*` take what came from outside: a socket opened, said something, closed; a token was
//!   fetched; time passed.
//! - `connect`, `join`, `publish`, … are what the application asks for. Those that have an answer
//!   return a [`CallId`].
//! - [`Core::poll_output`] gives what is to be done and told, in order. To be called until it
//!   returns `None` after each of the above.
//! - `status`, `session`, `position`, … look and change nothing.
//!
//! [`Core::next_deadline_ms`] says when to call [`Core::on_tick`] at the latest.
//!
//! The words, states and files are those of the other SDKs.

mod acks;
mod backoff;
mod client;
pub mod codec;
mod codes;
mod commands;
mod connection;
mod credentials;
mod cx;
mod errors;
mod heartbeat;
mod key;
mod members;
mod membership;
mod options;
mod outbox;
mod output;
mod pace;
mod position;
mod random;
mod refresh;
mod status;
mod time;

pub use backoff::backoff_delay_ms;
pub use client::Core;
pub use codes::close_reason;
pub use commands::ConnId;
pub use credentials::{TokenError, TokenReason};
pub use errors::{ClientError, CommandError, Fault, PublishError, Refused};
pub use members::MembersSnapshot;
pub use membership::RoomState;
pub use options::{
    HistoryOptions, JoinOptions, MembersOptions, Options, OutboxLimits, PublishOptions,
};
pub use output::{CallId, ClientEvent, FetchId, Outcome, Output, RoomEvent, Session};
pub use status::{ClientState, StateEvent, Status};
pub use time::Now;
