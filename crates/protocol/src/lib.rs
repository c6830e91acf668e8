//! What goes over Clarion's wire: names, positions, codes, commands and pushes, and their codecs.
//!
//! This crate is pure. It has no socket, clock, randomness, `async` or `unsafe`; it turns text into
//! [`Incoming`] and values into bytes, and knows nothing of sessions, rooms' contents or permissions.
//! Those are the engine's, which reads and writes the wire only through [`codec`].
//!
//! The normative text is `spec/protocol.md`; "section" in the docs of this crate means a section of
//! that page. The golden vectors in `spec/vectors/` are run against this crate by
//! `tests/vectors.rs`.
//!
//! | module | noun |
//! |---|---|
//! | [`name`], [`id`] | rooms; users and clients |
//! | [`pattern`] | what the settings match rooms with |
//! | [`position`] | epoch, offset, position |
//! | [`command`] | what a client asks, decoded |
//! | [`publication`] | one item in a room |
//! | [`reply`], [`push`] | what the server answers and says by itself |
//! | [`code`], [`close`] | error names, refusals, close codes |
//! | [`time`] | instants as text |
//! | [`codec`] | the wire formats: JSON now |
//!
//! *Invariant:* payload bytes are opaque. No codec changes, reorders or re-spaces them.

pub mod close;
pub mod code;
pub mod codec;
pub mod command;
pub mod id;
pub mod name;
pub mod pattern;
pub mod position;
pub mod publication;
pub mod push;
pub mod reply;
pub mod time;

pub use code::{ErrorName, Refusal};
pub use command::{Command, CommandId, Credential, Hello, Incoming, Join, Rejected};
pub use id::{ClientId, UserId};
pub use name::{NameError, RoomKind, RoomName, RoomRef};
pub use pattern::{Pattern, PatternError};
pub use position::{Epoch, OFFSET_MAX, Offset, Position};
pub use publication::{Publication, Sender};
pub use push::{Gap, GapReason, LeftReason, Member, MembersChange, Welcome, WelcomeLimits};
pub use reply::{Joined, Reply};
