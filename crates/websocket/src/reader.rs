//! Cuts a connection's input into messages and control frames, and checks every rule on the way.
//!
//! What they mean for the connection is decided in `connection`. A message or control frame that is
//! whole in the input is lent from there, unmasked in place and not copied. One that is split, by
//! fragments or by the end of a read, or compressed, is carried on the heap until it is whole and
//! has been looked at; an idle reader carries nothing.

use std::mem;

use crate::deflate::Receiving;
use crate::frame::{HEADER_BYTES_MAX, Header};
use crate::message::{self, Message};
use crate::{Limits, Opcode, ProtocolError, Role, mask, utf8};

/// The receiving half of a connection.
#[derive(Default)]
pub(crate) struct Reader {
    carried: Option<Box<Carried>>,
}

/// What a peer sent: a message, or a control frame's payload.
pub(crate) enum Item<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Close(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
}

/// What is split and not yet whole, or was whole in the last call and lent from here.
#[derive(Default)]
struct Carried {
    /// The first `header_size` bytes are the beginning of a header.
    header: [u8; HEADER_BYTES_MAX],
    header_size: usize,
    /// The frame whose payload is under way; its size and mask are those of what is to come.
    frame: Option<Header>,
    /// The payload so far of a split control frame.
    control: Vec<u8>,
    /// The message under way, across fragments.
    message: Option<Message>,
    /// The last frame of what the last call lent, which this call gives up.
    lent: Option<Opcode>,
}

/// How far one frame, or the part of it that is in the input, has brought us.
enum Step<'i> {
    /// It made an item, lent from the input.
    Whole(Item<'i>),
    /// It made an item that is carried.
    Carried,
    /// It made none.
    Nothing,
}

impl Reader {
    /// Takes the next item from the front of `input`. `None` means that all input is used up.
    ///
    /// `receiving` is there if compressed messages were agreed on, or for none of the calls.
    ///
    /// # Errors
    /// The rule that the peer broke. Nothing may be read afterwards.
    pub(crate) fn next<'a, 'i: 'a>(
        &'a mut self,
        role: Role,
        limits: &Limits,
        receiving: &mut Option<Receiving<'_>>,
        input: &mut &'i mut [u8],
    ) -> Result<Option<Item<'a>>, ProtocolError> {
        self.release();
        while !input.is_empty() {
            let frame = match self.carried.as_mut().and_then(|carried| carried.frame.take()) {
                Some(frame) => frame,
                None => match self.read_header(role, receiving.is_some(), input)? {
                    Some(header) => self.admit(header, limits)?,
                    None => break,
                },
            };
            match self.read_payload(frame, limits, receiving, input)? {
                Step::Whole(item) => return Ok(Some(item)),
                Step::Carried => return Ok(self.lend()),
                Step::Nothing => {}
            }
        }
        Ok(None)
    }

    /// Frees what the last call lent, and everything once nothing is under way.
    fn release(&mut self) {
        let Some(carried) = &mut self.carried else { return };
        match carried.lent.take() {
            Some(Opcode::Text | Opcode::Binary | Opcode::Continuation) => carried.message = None,
            Some(Opcode::Close | Opcode::Ping | Opcode::Pong) => carried.control = Vec::new(),
            None => {}
        }
        if carried.header_size == 0 && carried.frame.is_none() && carried.message.is_none() {
            self.carried = None;
        }
    }

    fn carry(&mut self) -> &mut Carried {
        self.carried.get_or_insert_default()
    }

    /// Takes a header from the front of `input`, or else all of `input` into what is carried.
    fn read_header(
        &mut self,
        role: Role,
        deflate: bool,
        input: &mut &mut [u8],
    ) -> Result<Option<Header>, ProtocolError> {
        let held_size = self.carried.as_ref().map_or(0, |carried| carried.header_size);
        if held_size == 0
            && let Some((header, size)) = Header::decode(input, role, deflate)?
        {
            take(input, size);
            return Ok(Some(header));
        }
        let carried = self.carry();
        let size = input.len().min(HEADER_BYTES_MAX - held_size);
        carried.header[held_size..][..size].copy_from_slice(&input[..size]);
        match Header::decode(&carried.header[..held_size + size], role, deflate)? {
            Some((header, header_size)) => {
                carried.header_size = 0;
                take(input, header_size - held_size);
                Ok(Some(header))
            }
            None => {
                carried.header_size = held_size + size;
                take(input, size);
                Ok(None)
            }
        }
    }

    /// Checks what a header alone cannot tell: whether this frame may come now, and be so long.
    ///
    /// RFC 6455 section 5.4.
    fn admit(&mut self, header: Header, limits: &Limits) -> Result<Header, ProtocolError> {
        let message = self.carried.as_mut().and_then(|carried| carried.message.as_mut());
        let room = match (header.opcode, message) {
            // "Control frames [..] MAY be injected in the middle of a fragmented message." (5.4)
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => return Ok(header),
            (Opcode::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(ProtocolError::ExpectedContinuation);
            }
            (Opcode::Continuation, Some(message)) => {
                message.add_fragment(limits)?;
                message.room(limits)
            }
            (Opcode::Text | Opcode::Binary, None) if header.compressed => {
                message::compressed_bytes_max(limits)
            }
            (Opcode::Text | Opcode::Binary, None) => limits.message_bytes,
        };
        if header.payload_size > room as u64 {
            return Err(ProtocolError::MessageTooBig);
        }
        Ok(header)
    }

    /// Takes what there is of a frame's payload from the front of `input`.
    fn read_payload<'i>(
        &mut self,
        mut frame: Header,
        limits: &Limits,
        receiving: &mut Option<Receiving<'_>>,
        input: &mut &'i mut [u8],
    ) -> Result<Step<'i>, ProtocolError> {
        let size =
            usize::try_from(frame.payload_size).map_or(input.len(), |size| size.min(input.len()));
        let piece = take(input, size);
        if let Some(key) = &mut frame.mask {
            mask::apply(piece, *key);
            *key = mask::advance(*key, size);
        }
        frame.payload_size -= size as u64;

        let control_is_split = self.carried.as_ref().is_some_and(|c| !c.control.is_empty());
        if frame.payload_size == 0 && frame.fin && !frame.compressed && !control_is_split {
            match frame.opcode {
                Opcode::Text => {
                    return utf8::whole(piece).map(|text| Step::Whole(Item::Text(text)));
                }
                Opcode::Binary => return Ok(Step::Whole(Item::Binary(piece))),
                Opcode::Close => return Ok(Step::Whole(Item::Close(piece))),
                Opcode::Ping => return Ok(Step::Whole(Item::Ping(piece))),
                Opcode::Pong => return Ok(Step::Whole(Item::Pong(piece))),
                // The end of a message that is carried.
                Opcode::Continuation => {}
            }
        }
        self.carry().add(frame, piece, limits, receiving)
    }

    /// Lends the item that is carried and whole.
    fn lend(&self) -> Option<Item<'_>> {
        let carried = self.carried.as_ref()?;
        match carried.lent? {
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                carried.message.as_ref().map(Message::item)
            }
            Opcode::Close => Some(Item::Close(&carried.control)),
            Opcode::Ping => Some(Item::Ping(&carried.control)),
            Opcode::Pong => Some(Item::Pong(&carried.control)),
        }
    }
}

impl Carried {
    /// Copies a piece of a payload. `frame` tells what is to come after it.
    fn add<'i>(
        &mut self,
        mut frame: Header,
        piece: &[u8],
        limits: &Limits,
        receiving: &mut Option<Receiving<'_>>,
    ) -> Result<Step<'i>, ProtocolError> {
        let inflater = match receiving {
            Some(receiving) if frame.compressed => Some(receiving.start()),
            Some(_) | None => None,
        };
        let message = match frame.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.control.extend_from_slice(piece);
                None
            }
            Opcode::Text => Some(self.message.insert(Message::text(inflater))),
            Opcode::Binary => Some(self.message.insert(Message::binary(inflater))),
            Opcode::Continuation => self.message.as_mut(),
        };
        let is_last = frame.payload_size == 0 && frame.fin;
        if let Some(message) = message {
            message.push(piece, frame.payload_size, limits, receiving)?;
            if is_last {
                message.finish(receiving)?;
            }
            // Whatever comes next goes on with the message that is now under way.
            frame.opcode = Opcode::Continuation;
            frame.compressed = false;
        }
        if is_last {
            self.lent = Some(frame.opcode);
            return Ok(Step::Carried);
        }
        if frame.payload_size > 0 {
            self.frame = Some(frame);
        }
        Ok(Step::Nothing)
    }
}

/// Cuts the first `size` bytes off `input`, which has as many.
fn take<'i>(input: &mut &'i mut [u8], size: usize) -> &'i mut [u8] {
    let (front, rest) = mem::take(input).split_at_mut(size);
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode;

    fn count_items(reader: &mut Reader, bytes: &[u8]) -> usize {
        let mut buffer = bytes.to_vec();
        let mut input = &mut buffer[..];
        let mut count = 0;
        while reader
            .next(Role::Client, &Limits::default(), &mut None, &mut input)
            .unwrap()
            .is_some()
        {
            count += 1;
        }
        count
    }

    #[test]
    fn nothing_is_carried_while_nothing_is_split() {
        let mut frames = Vec::new();
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong] {
            encode(opcode, b"", &mut frames);
            encode(opcode, b"payload", &mut frames);
        }
        let mut reader = Reader::default();
        assert_eq!(count_items(&mut reader, &frames), 8);
        assert!(reader.carried.is_none());
    }

    #[test]
    fn what_was_carried_is_freed_by_the_call_after_it_was_lent() {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Pong, Opcode::Close] {
            let mut frame = Vec::new();
            encode(opcode, b"payload", &mut frame);
            for cut in 1..frame.len() {
                let mut reader = Reader::default();
                assert_eq!(count_items(&mut reader, &frame[..cut]), 0);
                assert!(reader.carried.is_some());
                assert_eq!(count_items(&mut reader, &frame[cut..]), 1);
                assert!(reader.carried.is_none());
            }
        }
    }

    #[test]
    fn a_header_alone_reserves_nothing_for_its_payload() {
        let mut reader = Reader::default();
        assert_eq!(count_items(&mut reader, &[0x82, 126, 0xff, 0xff]), 0);
        let limits = Limits::default();
        assert_eq!(reader.carried.unwrap().message.unwrap().room(&limits), limits.message_bytes);
    }
}
