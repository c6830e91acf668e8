//! The WebSocket protocol (RFC 6455) as plain functions of bytes, for both ends of a connection.
//!
//! Nothing here reads a socket, a clock or a source of randomness: bytes come in as arguments, and
//! bytes to send are appended to a buffer the caller owns. So every behaviour can be tested in one
//! thread, and the same code runs under any driver. Nothing here knows what the messages mean.
//!
//! [`handshake`] decides whether an HTTP request becomes a connection. [`Connection`] is one end of
//! that connection afterwards: frames, masks, UTF-8, fragments, pings and the closing handshake.
//! [`deflate`] compresses its messages, if both ends agreed to it (RFC 7692).
//! [`frame`] alone serves a caller that encodes a message once and sends it to many.
//!
//! ```
//! use clarion_websocket::{Connection, Event, Limits};
//!
//! let mut client = Connection::client([7; 32]);
//! let mut wire = Vec::new();
//! client.send_text("hello", &mut wire)?;
//!
//! let mut server = Connection::server();
//! let mut replies = Vec::new();
//! let mut input = &mut wire[..];
//! while let Some(event) = server.receive(&Limits::default(), &mut input, &mut replies) {
//!     assert_eq!(event, Event::Text("hello"));
//! }
//! # Ok::<(), clarion_websocket::UsageError>(())
//! ```

mod close;
mod connection;
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
mod mask;
mod message;
mod opcode;
mod reader;
mod utf8;
mod writer;

pub use close::CloseCode;
pub use connection::{Connection, Event};
pub use error::{ProtocolError, UsageError};
pub use message::Limits;
pub use opcode::Opcode;

/// Which end of a connection this is. A client masks its frames and a server does not.
///
/// RFC 6455 section 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The end that accepted the opening handshake.
    Server,
    /// The end that began the opening handshake.
    Client,
}
