//! `clarion.v1.json`: one JSON object per WebSocket text message. Section 2.
//!
//! [`decode`] reads what clients send. Every other function appends one whole message of the server,
//! all three members of it, to a buffer; the bytes before are untouched, so several messages can be
//! collected in one.

mod decode;
mod encode;
pub mod object;
mod payload;
mod write;

pub use decode::decode;
pub use encode::{
    error, gap, joined, left, members, pong, publication, reconnect, refresh, reply, welcome,
};
