//! WebSocket frames as the hot path needs them: one header parser, one walk over a buffer.
//!
//! This is not an endpoint (`clarion-websocket` is). It knows whole frames only, takes lengths in
//! any of the three forms, leaves the mask on, and refuses fragments, which neither Clarion nor
//! the baselines send. RFC 6455 section 5.2.

use crate::error::BenchError;

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The longest header: two bytes, eight of length, four of mask.
pub(crate) const HEADER_SIZE_MAX: usize = 14;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// What the first bytes of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) opcode: u8,
    /// Bytes before the payload, 2 to 14.
    pub(crate) size: usize,
    /// Bytes of payload.
    pub(crate) payload_size: usize,
    pub(crate) mask: Option<[u8; 4]>,
}

impl Header {
    /// Reads a header, or `None` while it is not complete.
    ///
    /// # Errors
    /// A fragment, a reserved bit, or a length beyond this machine.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Self>, BenchError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0xf0 != FIN || first & 0x0f == 0 {
            return Err(BenchError::Server(format!("unexpected frame, first byte {first:#04x}")));
        }
        let (length, length_size) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(&length) => (u64::from(u16::from_be_bytes(length)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(&length) => (u64::from_be_bytes(length), 8),
                None => return Ok(None),
            },
            length => (u64::from(length), 0),
        };
        let mask = if second & MASKED == 0 {
            None
        } else {
            let Some(&mask) = rest.get(length_size..).and_then(<[u8]>::first_chunk) else {
                return Ok(None);
            };
            Some(mask)
        };
        let payload_size = usize::try_from(length)
            .ok()
            .filter(|&size| size < usize::MAX / 2)
            .ok_or_else(|| BenchError::Server(format!("frame of {length} bytes")))?;
        Ok(Some(Self {
            opcode: first & 0x0f,
            size: 2 + length_size + if mask.is_some() { 4 } else { 0 },
            payload_size,
            mask,
        }))
    }

    /// Bytes of the whole frame.
    pub(crate) fn frame_size(&self) -> usize {
        self.size + self.payload_size
    }
}

/// One whole frame; the payload is as it was on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
}

/// Walks over the whole frames at the start of a buffer.
pub(crate) struct Frames<'a> {
    rest: &'a [u8],
}

impl<'a> Frames<'a> {
    /// A walk that begins at the first byte, which must be the first of a frame.
    pub(crate) fn new(buffer: &'a [u8]) -> Self {
        Self { rest: buffer }
    }

    /// The next whole frame, or `None` when what remains is not one.
    ///
    /// # Errors
    /// As [`Header::parse`].
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'a>>, BenchError> {
        let Some(header) = Header::parse(self.rest)? else { return Ok(None) };
        let Some((frame, rest)) = self.rest.split_at_checked(header.frame_size()) else {
            return Ok(None);
        };
        self.rest = rest;
        Ok(Some(Frame { header, payload: &frame[header.size..] }))
    }

    /// The bytes behind the last whole frame.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Appends the header of an unfragmented frame.
pub(crate) fn encode_header(out: &mut Vec<u8>, opcode: u8, size: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(FIN | opcode);
    match size {
        0..=125 => out.push(masked | size as u8),
        126..=0xffff => {
            out.push(masked | 126);
            out.extend_from_slice(&(size as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    if let Some(mask) = mask {
        out.extend_from_slice(&mask);
    }
}

/// Appends a whole client frame: header, mask and masked payload.
pub(crate) fn encode_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; 4]) {
    encode_header(out, opcode, payload.len(), Some(mask));
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], mask);
}

/// Masks or unmasks a payload from its first byte on. RFC 6455 section 5.3.
pub(crate) fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    for chunk in payload.chunks_mut(4) {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, HEADER_SIZE_MAX, Header, PING, TEXT, encode_header, encode_masked};

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_header(&mut out, opcode, payload.len(), None);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn every_length_form_is_read_back() {
        for size in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 200_000] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let mut out = Vec::new();
                encode_header(&mut out, TEXT, size, mask);
                let header = Header::parse(&out).unwrap().unwrap();
                assert!(out.len() <= HEADER_SIZE_MAX);
                assert_eq!(
                    header,
                    Header { opcode: TEXT, size: out.len(), payload_size: size, mask }
                );
            }
        }
    }

    #[test]
    fn rfc_example_is_masked() {
        // RFC 6455 section 5.7: a single-frame masked text message with "Hello".
        let mut out = Vec::new();
        encode_masked(&mut out, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn frames_cut_at_any_byte_are_the_same_frames() {
        let mut bytes = frame(TEXT, b"one");
        bytes.extend(frame(PING, b""));
        bytes.extend(frame(TEXT, &[b'x'; 300]));
        let mut whole = Vec::new();
        let mut frames = Frames::new(&bytes);
        while let Some(frame) = frames.next().unwrap() {
            whole.push((frame.header.opcode, frame.payload.to_vec()));
        }
        assert_eq!(whole.len(), 3);
        assert!(frames.rest().is_empty());

        for cut in 0..bytes.len() {
            let mut seen = Vec::new();
            let mut first = Frames::new(&bytes[..cut]);
            while let Some(frame) = first.next().unwrap() {
                seen.push((frame.header.opcode, frame.payload.to_vec()));
            }
            let carried = [first.rest(), &bytes[cut..]].concat();
            let mut second = Frames::new(&carried);
            while let Some(frame) = second.next().unwrap() {
                seen.push((frame.header.opcode, frame.payload.to_vec()));
            }
            assert_eq!(seen, whole, "cut at {cut}");
        }
    }

    #[test]
    fn fragments_and_reserved_bits_are_refused() {
        assert!(Header::parse(&[0x01, 0]).is_err());
        assert!(Header::parse(&[0x80, 0]).is_err());
        assert!(Header::parse(&[0xc1, 0]).is_err());
    }

    #[test]
    fn length_beyond_the_machine_is_refused() {
        let mut bytes = vec![0x82, 127];
        bytes.extend_from_slice(&u64::MAX.to_be_bytes());
        assert!(Header::parse(&bytes).is_err());
    }
}
