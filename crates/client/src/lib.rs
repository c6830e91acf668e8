//! A client of a Clarion server: rooms, recovery and publications over one WebSocket.
//!
//! [`core`] is the whole of what a client decides, without a runtime.

pub mod core;
