//! The bytes in front of a payload: their meaning and every rule that one header can break alone.
//!
//! What a frame means after another is for the connection's reader.

use crate::mask::{self, Key};
use crate::{Opcode, ProtocolError, Role};

/// The most bytes a header can have: 2, a length of 8, a masking key of 4.
pub const HEADER_BYTES_MAX: usize = 14;

/// The most payload bytes a control frame can have (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const COMPRESSED: u8 = 0x40;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;

/// Everything a frame says in front of its payload.
///
/// RFC 6455 section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether this is the last, or only, frame of its message.
    pub fin: bool,
    /// Whether this frame begins a compressed message: the bit RSV1 (RFC 7692 section 6).
    pub compressed: bool,
    /// What the frame is for.
    pub opcode: Opcode,
    /// The key that the payload is masked with, if it is.
    pub mask: Option<Key>,
    /// How many bytes of payload follow.
    pub payload_size: u64,
}

impl Header {
    /// Reads the header at the front of `bytes`, sent to an end of this role, and how many bytes
    /// it takes. `None` asks for more bytes.
    ///
    /// A broken rule is reported as soon as the byte that breaks it is there. `deflate` tells
    /// whether compressed messages were agreed on.
    ///
    /// # Errors
    /// The first rule that the header breaks, read from front to back.
    pub fn decode(
        bytes: &[u8],
        role: Role,
        deflate: bool,
    ) -> Result<Option<(Self, usize)>, ProtocolError> {
        let Some((&first, bytes)) = bytes.split_first() else { return Ok(None) };
        // "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values.
        // If a nonzero value is received and none of the negotiated extensions defines the meaning
        // [..], the receiving endpoint MUST Fail the WebSocket Connection." (5.2)
        let compressed = first & RESERVED == COMPRESSED && deflate;
        if first & RESERVED != 0 && !compressed {
            return Err(ProtocolError::ReservedBits);
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(ProtocolError::ReservedOpcode)?;
        // "An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first
        // fragments of a data message. An endpoint receiving such a frame MUST _Fail the WebSocket
        // Connection_." (RFC 7692 section 6.1)
        match opcode {
            Opcode::Text | Opcode::Binary => {}
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {
                if compressed {
                    return Err(ProtocolError::ReservedBits);
                }
            }
        }
        let fin = first & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }

        let Some((&second, bytes)) = bytes.split_first() else { return Ok(None) };
        let masked = second & MASKED != 0;
        match role {
            Role::Server if !masked => return Err(ProtocolError::Unmasked),
            Role::Client if masked => return Err(ProtocolError::Masked),
            Role::Server | Role::Client => {}
        }
        let length = second & LENGTH;
        if opcode.is_control() && usize::from(length) > CONTROL_BYTES_MAX {
            return Err(ProtocolError::ControlTooLong);
        }

        let (payload_size, bytes, length_size) = match length {
            LENGTH_16 => {
                let Some((field, bytes)) = bytes.split_first_chunk() else { return Ok(None) };
                let size = u64::from(u16::from_be_bytes(*field));
                if size < u64::from(LENGTH_16) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (size, bytes, field.len())
            }
            LENGTH_64 => {
                let Some((field, bytes)) = bytes.split_first_chunk() else { return Ok(None) };
                let size = u64::from_be_bytes(*field);
                if size >> 63 != 0 {
                    return Err(ProtocolError::LengthTooLarge);
                }
                if size <= u64::from(u16::MAX) {
                    return Err(ProtocolError::LengthNotMinimal);
                }
                (size, bytes, field.len())
            }
            length => (u64::from(length), bytes, 0),
        };

        let (mask, mask_size) = match bytes.first_chunk() {
            _ if !masked => (None, 0),
            Some(key) => (Some(*key), key.len()),
            None => return Ok(None),
        };
        let header = Self { fin, compressed, opcode, mask, payload_size };
        Ok(Some((header, 2 + length_size + mask_size)))
    }

    /// Appends the header to `out`, its length in the shortest form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut buffer = [0; HEADER_BYTES_MAX];
        let size = self.encode_masked(&mut buffer);
        out.extend_from_slice(&buffer[..size]);
    }

    /// Writes the header to the front of `buffer` and returns how many bytes that took.
    fn encode_masked(&self, buffer: &mut [u8; HEADER_BYTES_MAX]) -> usize {
        let mut unmasked = [0; 10];
        let mut size = self.encode_unmasked(&mut unmasked);
        buffer[..size].copy_from_slice(&unmasked[..size]);
        if let Some(key) = self.mask {
            buffer[1] |= MASKED;
            buffer[size..][..key.len()].copy_from_slice(&key);
            size += key.len();
        }
        size
    }

    /// Writes all but the mask to the front of `buffer` and returns how many bytes that took.
    fn encode_unmasked(&self, buffer: &mut [u8; 10]) -> usize {
        let compressed = if self.compressed { COMPRESSED } else { 0 };
        buffer[0] = if self.fin { FIN } else { 0 } | compressed | self.opcode as u8;
        match self.payload_size {
            size @ 0..=125 => {
                buffer[1] = size as u8;
                2
            }
            size @ 126..=0xffff => {
                buffer[1] = LENGTH_16;
                buffer[2..4].copy_from_slice(&(size as u16).to_be_bytes());
                4
            }
            size => {
                buffer[1] = LENGTH_64;
                buffer[2..10].copy_from_slice(&size.to_be_bytes());
                10
            }
        }
    }
}

/// Appends a whole message, or a control frame, as a server sends it: final and not masked.
///
/// The bytes are the same for every client, so a publication is encoded once and shared. A control
/// frame's payload is at most 125 bytes, and text is UTF-8; both are the caller's to keep.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    encode_frame(opcode, None, payload, out);
}

/// Writes the header of such a frame to the front of `out` and returns its size: 2, 4 or 10 bytes.
///
/// For a caller that keeps header and payload apart. `payload_size` is in bytes.
pub fn encode_header(opcode: Opcode, payload_size: usize, out: &mut [u8; 10]) -> usize {
    Header { fin: true, compressed: false, opcode, mask: None, payload_size: payload_size as u64 }
        .encode_unmasked(out)
}

/// Appends one final frame, copying the payload once and masking the copy.
pub(crate) fn encode_frame(opcode: Opcode, mask: Option<Key>, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload.len() <= CONTROL_BYTES_MAX);
    out.reserve(HEADER_BYTES_MAX + payload.len());
    Header { fin: true, compressed: false, opcode, mask, payload_size: payload.len() as u64 }
        .encode(out);
    let start = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = mask {
        mask::apply(&mut out[start..], key);
    }
}

/// Puts a header in front of a compressed payload, which lies in `out` after `start` and the room of
/// the longest header, and closes the gap between them.
pub(crate) fn seal(opcode: Opcode, mask: Option<Key>, start: usize, out: &mut Vec<u8>) {
    let payload_start = start + HEADER_BYTES_MAX;
    let payload_size = out.len() - payload_start;
    if let Some(key) = mask {
        mask::apply(&mut out[payload_start..], key);
    }
    let header =
        Header { fin: true, compressed: true, opcode, mask, payload_size: payload_size as u64 };
    let mut buffer = [0; HEADER_BYTES_MAX];
    let header_size = header.encode_masked(&mut buffer);
    out[start..][..header_size].copy_from_slice(&buffer[..header_size]);
    out.copy_within(payload_start.., start + header_size);
    out.truncate(start + header_size + payload_size);
}
