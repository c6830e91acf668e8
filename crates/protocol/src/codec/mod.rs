//! The wire formats. Each turns text or bytes into [`crate::Incoming`] and values into bytes.
//!
//! A format is chosen by the WebSocket subprotocol (section 2). They share every type of this crate,
//! so nothing behind the codec knows which one a connection speaks; the binary form joins JSON here.

pub mod json;

/// The subprotocol of the JSON format.
pub const SUBPROTOCOL_JSON: &str = "clarion.v1.json";
