//! What can go wrong on an open connection, by whose fault: the peer's, or the caller's.

use std::error::Error;
use std::fmt;

use crate::CloseCode;

/// A rule that the peer broke. The connection has failed and reads nothing more.
///
/// It is the peer's mistake (or that of a proxy between): worth a counter and a debug line here.
/// The peer sees [`code`](Self::code) and [`reason`](Self::reason) in a close frame. Trying again
/// with the same bytes fails again.
///
/// RFC 6455 section 7.1.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolError {
    /// A reserved bit is set that no extension gave a meaning (section 5.2). Suspect a peer that
    /// compresses without having negotiated it.
    ReservedBits,
    /// The opcode is one of the ten that are reserved (section 5.2). Suspect a peer that lost its
    /// place in its own stream, or bytes that are not WebSocket at all.
    ReservedOpcode,
    /// A close, ping or pong without the final bit (section 5.5).
    FragmentedControl,
    /// A close, ping or pong with more than 125 bytes of payload (section 5.5).
    ControlTooLong,
    /// A client's frame came unmasked (section 5.1).
    Unmasked,
    /// A server's frame came masked (section 5.1).
    Masked,
    /// The payload's length takes more bytes than it needs (section 5.2).
    LengthNotMinimal,
    /// The payload's length has its most significant bit set (section 5.2).
    LengthTooLarge,
    /// A continuation came with no message to continue (section 5.4).
    UnexpectedContinuation,
    /// A new message began before the last fragment of another (section 5.4).
    ExpectedContinuation,
    /// A close frame's payload is one byte: a code needs two (section 5.5.1).
    CloseTruncated,
    /// A close frame has a code that may not be sent (section 7.4).
    CloseCode,
    /// A close frame's reason is not UTF-8 (section 5.5.1).
    CloseReason,
    /// A text message is not UTF-8 (section 8.1).
    InvalidUtf8,
    /// A compressed message is not deflate, refers to more than it may, or is cut short (RFC 7692
    /// section 7.2.2). Suspect a peer that keeps its context although it agreed not to.
    InvalidDeflate,
    /// A message is longer than [`Limits::message_bytes`](crate::Limits::message_bytes).
    MessageTooBig,
    /// A message, or its compressed form, came in more pieces than [`Limits::fragments`](crate::Limits::fragments).
    TooManyFragments,
}

impl ProtocolError {
    /// Returns the code to close with: 1002, 1007 or 1009.
    ///
    /// RFC 7692 names none for what cannot be inflated. The frames are right and their content is
    /// not what its bit says, which is what 1007 is for.
    ///
    /// RFC 6455 section 7.4.1.
    pub fn code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::Unmasked
            | Self::Masked
            | Self::LengthNotMinimal
            | Self::LengthTooLarge
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::CloseTruncated
            | Self::CloseCode => CloseCode::PROTOCOL_ERROR,
            Self::CloseReason | Self::InvalidUtf8 | Self::InvalidDeflate => {
                CloseCode::INVALID_PAYLOAD
            }
            Self::MessageTooBig | Self::TooManyFragments => CloseCode::TOO_BIG,
        }
    }

    /// States the broken rule in at most 123 bytes of ASCII, fit for a close frame and for a log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ReservedBits => "a reserved bit is set",
            Self::ReservedOpcode => "the opcode is reserved",
            Self::FragmentedControl => "a control frame is fragmented",
            Self::ControlTooLong => "a control frame is longer than 125 bytes",
            Self::Unmasked => "a client frame is not masked",
            Self::Masked => "a server frame is masked",
            Self::LengthNotMinimal => "a length is not in its shortest form",
            Self::LengthTooLarge => "a length has its highest bit set",
            Self::UnexpectedContinuation => "a continuation has no message to continue",
            Self::ExpectedContinuation => "a message begins inside another",
            Self::CloseTruncated => "a close frame has half a code",
            Self::CloseCode => "a close frame has an invalid code",
            Self::CloseReason => "a close reason is not UTF-8",
            Self::InvalidUtf8 => "a text message is not UTF-8",
            Self::InvalidDeflate => "a compressed message is malformed",
            Self::MessageTooBig => "a message is too long",
            Self::TooManyFragments => "a message has too many fragments",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl Error for ProtocolError {}

/// A call that this end may not make now. Nothing was sent and nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageError {
    /// A close frame was already sent, and it is the last frame of a connection (section 5.5.1).
    /// It happens to a correct caller too, when the peer closes first.
    Closing,
    /// The ping's payload is longer than 125 bytes (section 5.5).
    PingTooLong,
    /// The close code is one that never goes on the wire (section 7.4.1), such as 1006.
    CloseCode,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closing => "the connection is closing",
            Self::PingTooLong => "a ping carries at most 125 bytes",
            Self::CloseCode => "this close code is never sent",
        })
    }
}

impl Error for UsageError {}
