//! Close codes, and the payload of a close frame. The closing handshake is the connection's.

use std::fmt;

use crate::ProtocolError;
use crate::frame::CONTROL_BYTES_MAX;

/// Why a connection was closed: a number from 1000 to 4999.
///
/// 1000-2999 belong to the protocol, 3000-3999 to libraries and frameworks that register them with
/// IANA, 4000-4999 to applications.
///
/// RFC 6455 section 7.4 and the IANA registry of close codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: what the connection was for has been done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: a server going down, or a page left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: the peer sent a kind of data that is not accepted here, such as binary.
    pub const UNSUPPORTED: Self = Self(1003);
    /// 1005: the close frame had no code. Never on the wire.
    pub const NO_STATUS: Self = Self(1005);
    /// 1006: the connection ended without a close frame. Never on the wire.
    pub const ABNORMAL: Self = Self(1006);
    /// 1007: a message's content does not fit its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: a message goes against a policy, and no other code says it better.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message is too big to process.
    pub const TOO_BIG: Self = Self(1009);
    /// 1010: the client needs an extension that the server did not accept.
    pub const EXTENSION_REQUIRED: Self = Self(1010);
    /// 1011: something unexpected kept the sender from going on.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts; the client may come back after a random delay.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded; the client should try another or come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);
    /// 1014: a gateway got an invalid answer from the server behind it.
    pub const BAD_GATEWAY: Self = Self(1014);
    /// 1015: the TLS handshake failed. Never on the wire.
    pub const TLS_HANDSHAKE: Self = Self(1015);

    /// Returns the code for a number from 1000 to 4999, the ranges that section 7.4.2 defines.
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Tells whether this code may stand in a close frame.
    ///
    /// 1004 has no meaning yet; 1005, 1006 and 1015 only tell an application what was not received;
    /// 1016-2999 are kept for later versions of the protocol. 1012-1014 were registered after the
    /// RFC.
    pub const fn is_sendable(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The most bytes a close frame's reason can have beside its code.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Writes a close frame's payload to the front of `buffer` and returns it. A reason of more than
/// 123 bytes is cut after the last character that fits.
pub(crate) fn encode<'b>(
    code: CloseCode,
    reason: &str,
    buffer: &'b mut [u8; CONTROL_BYTES_MAX],
) -> &'b [u8] {
    let mut size = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(size) {
        size -= 1;
    }
    let payload = &mut buffer[..2 + size];
    payload[..2].copy_from_slice(&code.get().to_be_bytes());
    payload[2..].copy_from_slice(&reason.as_bytes()[..size]);
    payload
}

/// Reads a close frame's payload: nothing, or a code and a reason.
///
/// RFC 6455 section 5.5.1.
pub(crate) fn decode(payload: &[u8]) -> Result<(Option<CloseCode>, &str), ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok((None, "")),
        [_] => return Err(ProtocolError::CloseTruncated),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    let code =
        CloseCode::new(code).filter(|code| code.is_sendable()).ok_or(ProtocolError::CloseCode)?;
    let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_with_a_meaning_on_the_wire_are_read() {
        for number in 0..=u16::MAX {
            let sendable = matches!(
                number,
                1000 | 1001 | 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 1011 | 1012 | 1013 | 1014
            ) || (3000..5000).contains(&number);
            let expected = if sendable {
                Ok((Some(CloseCode(number)), "why"))
            } else {
                Err(ProtocolError::CloseCode)
            };
            let [high, low] = number.to_be_bytes();
            assert_eq!(decode(&[high, low, b'w', b'h', b'y']), expected);
        }
    }

    #[test]
    fn a_payload_has_no_code_or_a_whole_one() {
        assert_eq!(decode(&[]), Ok((None, "")));
        assert_eq!(decode(&[3]), Err(ProtocolError::CloseTruncated));
        assert_eq!(decode(&[3, 232]), Ok((Some(CloseCode::NORMAL), "")));
    }

    #[test]
    fn a_reason_is_utf8() {
        assert_eq!(decode(&[3, 232, 0xff]), Err(ProtocolError::CloseReason));
        assert_eq!(decode(&[3, 232, 0xe2, 0x82]), Err(ProtocolError::CloseReason));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let mut buffer = [0; CONTROL_BYTES_MAX];
        // 61 characters of two bytes and half of the next would fill 123 bytes.
        let payload = encode(CloseCode::NORMAL, &"ß".repeat(100), &mut buffer);
        assert_eq!(decode(payload), Ok((Some(CloseCode::NORMAL), "ß".repeat(61).as_str())));
        let payload = encode(CloseCode::NORMAL, &"a".repeat(124), &mut buffer);
        assert_eq!(payload.len(), CONTROL_BYTES_MAX);
    }
}
