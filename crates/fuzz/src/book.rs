//! A second reader of frames, as RFC 6455 is written and as slow as that is: all input at once,
//! everything copied. What it sees, the real one has to see.

use std::str;

use clarion_websocket::{CloseCode, Limits, ProtocolError};

use crate::end::Seen;

/// Reads everything that was sent to a server, or else to a client, without compression.
pub(crate) fn read(wire: &[u8], server: bool, limits: &Limits) -> Vec<Seen> {
    let mut book = Book { wire, server, limits, seen: Vec::new(), message: None };
    loop {
        match book.frame() {
            Ok(true) => {}
            Ok(false) => return book.seen,
            Err(error) => {
                book.seen.push(Seen::Failed(error));
                return book.seen;
            }
        }
    }
}

struct Book<'a> {
    wire: &'a [u8],
    server: bool,
    limits: &'a Limits,
    seen: Vec<Seen>,
    message: Option<Message>,
}

struct Message {
    is_text: bool,
    payload: Vec<u8>,
    fragments: u32,
}

impl Book<'_> {
    /// Reads one frame, and tells whether another may follow.
    fn frame(&mut self) -> Result<bool, ProtocolError> {
        let wire = self.wire;
        let Some(&first) = wire.first() else { return Ok(false) };
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err(ProtocolError::ReservedOpcode);
        }
        let control = opcode >= 8;
        if control && !fin {
            return Err(ProtocolError::FragmentedControl);
        }
        let Some(&second) = wire.get(1) else { return Ok(false) };
        match (self.server, second & 0x80 != 0) {
            (true, false) => return Err(ProtocolError::Unmasked),
            (false, true) => return Err(ProtocolError::Masked),
            _ => {}
        }
        let (mut size, mut place) = (u64::from(second & 0x7f), 2);
        if control && size > 125 {
            return Err(ProtocolError::ControlTooLong);
        }
        if size >= 126 {
            let width = if size == 126 { 2 } else { 8 };
            let Some(field) = wire.get(2..2 + width) else { return Ok(false) };
            size = field.iter().fold(0, |size, byte| size << 8 | u64::from(*byte));
            if size >> 63 == 1 {
                return Err(ProtocolError::LengthTooLarge);
            }
            if size < if width == 2 { 126 } else { 65_536 } {
                return Err(ProtocolError::LengthNotMinimal);
            }
            place += width;
        }
        let mut key = [0; 4];
        if self.server {
            let Some(field) = wire.get(place..place + 4) else { return Ok(false) };
            key.copy_from_slice(field);
            place += 4;
        }
        if !control {
            self.begin(opcode, size)?;
        }

        let rest = &wire[place..];
        let there = rest.len().min(usize::try_from(size).unwrap_or(usize::MAX));
        let payload: Vec<u8> =
            rest[..there].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        self.wire = &rest[there..];
        let whole = there as u64 == size;
        if control {
            return if whole { self.control(opcode, payload) } else { Ok(false) };
        }
        // Text fails at its first bad byte, before its frame or message is whole.
        let message = self.message.as_mut().expect("it has begun");
        message.payload.extend(payload);
        if message.is_text
            && str::from_utf8(&message.payload).is_err_and(|it| it.error_len().is_some())
        {
            return Err(ProtocolError::InvalidUtf8);
        }
        if !whole || !fin {
            return Ok(whole);
        }
        let message = self.message.take().expect("it has begun");
        self.seen.push(if message.is_text {
            Seen::Text(String::from_utf8(message.payload).map_err(|_| ProtocolError::InvalidUtf8)?)
        } else {
            Seen::Binary(message.payload)
        });
        Ok(true)
    }

    fn begin(&mut self, opcode: u8, size: u64) -> Result<(), ProtocolError> {
        match (opcode, &mut self.message) {
            (0, None) => return Err(ProtocolError::UnexpectedContinuation),
            (0, Some(message)) => {
                if message.fragments >= self.limits.fragments {
                    return Err(ProtocolError::TooManyFragments);
                }
                message.fragments += 1;
            }
            (_, Some(_)) => return Err(ProtocolError::ExpectedContinuation),
            (_, None) => {
                let message = Message { is_text: opcode == 1, payload: Vec::new(), fragments: 1 };
                self.message = Some(message);
            }
        }
        let before = self.message.as_ref().map_or(0, |message| message.payload.len());
        if size > (self.limits.message_bytes - before) as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(())
    }

    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Result<bool, ProtocolError> {
        match opcode {
            9 => self.seen.push(Seen::Ping(payload)),
            10 => self.seen.push(Seen::Pong(payload)),
            _ => {
                let (code, reason) = match &payload[..] {
                    [] => (None, &[][..]),
                    [_] => return Err(ProtocolError::CloseTruncated),
                    [high, low, reason @ ..] => {
                        let code = u16::from_be_bytes([*high, *low]);
                        let code = CloseCode::new(code).filter(|code| code.is_sendable());
                        (Some(code.ok_or(ProtocolError::CloseCode)?.get()), reason)
                    }
                };
                let reason = str::from_utf8(reason).map_err(|_| ProtocolError::CloseReason)?;
                self.seen.push(Seen::Closed(code, reason.to_owned()));
                return Ok(false);
            }
        }
        Ok(true)
    }
}
