//! Compressed messages, checked against miniz_oxide, which shares no code with zlib-rs.

use clarion_websocket::deflate::{Agreed, Config, Pool, Settings, encode};
use clarion_websocket::{Connection, Limits, Opcode, ProtocolError, Role};
use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::end::{End, Seen};
use crate::handshake::{agree, config, negotiate};
use crate::input::{Input, reads};

/// The most messages of one input.
const MESSAGE_COUNT_MAX: usize = 8;

pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    match input.byte() % 3 {
        0 => inflate_anything(&mut input),
        1 => round_trip(&mut input),
        _ => share(&mut input),
    }
}

/// Any bytes as compressed messages: bounded, the same wherever they are cut, and never something
/// that another inflater would not make of them.
fn inflate_anything(input: &mut Input<'_>) {
    let flags = input.byte();
    let cut_seed = input.byte();
    let limits = Limits {
        message_bytes: [50, 1000, 65_536, 0][usize::from(flags >> 1 & 3)],
        fragments: if flags >> 3 & 1 == 1 { 3 } else { 1024 },
    };
    let takeover = flags >> 4 & 1 == 1;
    let config = Config { client_takeover: takeover, ..Config::default() };
    let agreed = agree(config);
    let opcode = if flags & 1 == 1 { 1 } else { 2 };

    let (mut wire, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..MESSAGE_COUNT_MAX {
        let message = input.payload();
        let first_size = usize::from(input.byte());
        let (first, second) = message.split_at(message.len().min(first_size));
        frame(0x40 | opcode, first, &mut wire);
        frame(0x80, second, &mut wire);
        messages.push(message);
        if input.is_empty() {
            break;
        }
    }

    let server = || End::new(Connection::server(), limits, Some(agreed));
    let (mut whole, mut cut) = (server(), server());
    whole.read(&wire);
    for read in reads(&wire, cut_seed) {
        cut.read(read);
    }
    assert_eq!((&cut.seen, &cut.out), (&whole.seen, &whole.out));

    let mut history = Vec::new();
    for (message, seen) in messages.iter().zip(&whole.seen) {
        let payload = match seen {
            Seen::Text(text) => text.as_bytes(),
            Seen::Binary(bytes) => bytes,
            // The two inflaters do not agree on which codes are malformed, so a message that was
            // refused may be good to the other. That good ones are not refused is for `round_trip`.
            Seen::Failed(error) => {
                let may = matches!(
                    error,
                    ProtocolError::InvalidDeflate
                        | ProtocolError::InvalidUtf8
                        | ProtocolError::MessageTooBig
                        | ProtocolError::TooManyFragments
                );
                assert!(may, "{error}");
                return;
            }
            other => panic!("{other:?} from a message"),
        };
        match inflate(message, &history, payload.len()) {
            Inflated::Whole(expected) => assert_eq!(payload, expected),
            // What comes behind a last block is another stream, which this inflater does not read.
            Inflated::Last(expected) => {
                assert!(payload.starts_with(&expected));
            }
            Inflated::Failed(status) => panic!("the other inflater says {status:?}"),
        }
        if takeover {
            history.extend_from_slice(payload);
        }
    }
}

/// What is sent comes in, and another inflater reads it, too.
fn round_trip(input: &mut Input<'_>) {
    let (client, server) = (config(input), config(input));
    let Some(agreed) = negotiate(client, server) else { return };
    let role = if input.flag() { Role::Server } else { Role::Client };
    let mut settings = Settings::default();
    let limits = Limits { message_bytes: 1 << 17, fragments: 8 };
    let (sender, receiver) = match role {
        Role::Server => (Connection::server(), Connection::client([5; 32])),
        Role::Client => (Connection::client([5; 32]), Connection::server()),
    };
    let mut sender = End::new(sender, limits, Some(agreed));
    let mut receiver = End::new(receiver, limits, Some(agreed));
    let mut history = Vec::new();
    for _ in 0..MESSAGE_COUNT_MAX {
        settings.level = input.byte() % 11;
        settings.threshold_bytes = usize::from(input.byte() % 4) * 50;
        let release = input.byte();
        let payload = input.long_payload();
        if release == 0 {
            sender.connection.release_compressor();
        }
        // Another sends in its place, and the context has to be the same afterwards.
        let mut stand_in =
            (role == Role::Server && release & 1 == 1).then(|| sender.connection.stand_in());
        let connection = stand_in.as_mut().unwrap_or(&mut sender.connection);
        let (pool, wire) = (&mut sender.pool, &mut sender.out);
        let text = String::from_utf8(payload);
        let expected = match &text {
            Ok(text) => {
                connection.send_text_with(text, &settings, pool, wire).expect("open");
                Seen::Text(text.clone())
            }
            Err(error) => {
                let bytes = error.as_bytes();
                connection.send_binary_with(bytes, &settings, pool, wire).expect("open");
                Seen::Binary(bytes.to_owned())
            }
        };
        if let Some(stand_in) = stand_in {
            sender.connection.rejoin(stand_in);
        }
        let payload = text.as_ref().map_or_else(|error| error.as_bytes(), |text| text.as_bytes());
        let wire = std::mem::take(&mut sender.out);
        let (compressed, message) = open(&wire);
        if compressed {
            assert!(payload.len() >= settings.threshold_bytes && message.len() < payload.len());
            let expected = inflate(&message, &history, payload.len());
            assert_eq!(expected, Inflated::Whole(payload.to_vec()));
            if agreed.takeover(role) {
                history.extend_from_slice(payload);
                let surplus = history.len().saturating_sub(1 << agreed.window_bits(role));
                history.drain(..surplus);
            }
        } else {
            assert_eq!(message, payload);
        }
        for read in reads(&wire, release) {
            receiver.read(read);
        }
        assert_eq!(std::mem::take(&mut receiver.seen), [expected]);
        if input.is_empty() {
            return;
        }
    }
}

/// A frame that is made once is read by everyone who takes such.
fn share(input: &mut Input<'_>) {
    let (client, server) = (config(input), config(input));
    let agreed: Option<Agreed> = negotiate(client, server);
    let Some(agreed) = agreed.filter(|agreed| agreed.takes_shared()) else { return };
    let settings = Settings { threshold_bytes: 0, level: input.byte() % 11 };
    let limits = Limits { message_bytes: 1 << 17, fragments: 1 };
    let mut pool = Pool::default();
    let mut receiver = End::new(Connection::client([5; 32]), limits, Some(agreed));
    for _ in 0..MESSAGE_COUNT_MAX {
        let payload = input.long_payload();
        let mut wire = b"before".to_vec();
        let encoded = encode(Opcode::Binary, &payload, &settings, &mut pool, &mut wire);
        assert_eq!(wire.len() > 6, encoded);
        if encoded {
            assert!(wire.len() < 6 + 10 + payload.len());
            receiver.read(&wire[6..]);
            assert_eq!(std::mem::take(&mut receiver.seen), [Seen::Binary(payload)]);
        }
        if input.is_empty() {
            return;
        }
    }
}

/// Appends a client's frame, masked with zeros.
fn frame(first: u8, payload: &[u8], wire: &mut Vec<u8>) {
    wire.push(first);
    match payload.len() {
        size @ 0..=125 => wire.push(0x80 | size as u8),
        size => {
            wire.push(0xfe);
            wire.extend((size as u16).to_be_bytes());
        }
    }
    wire.extend([0; 4]);
    wire.extend(payload);
}

/// Returns the payload of the one frame, and whether it is compressed.
fn open(wire: &[u8]) -> (bool, Vec<u8>) {
    assert!(matches!(wire[0] & 0xbf, 0x81 | 0x82), "one final frame");
    let (size, start) = match wire[1] & 0x7f {
        126 => (usize::from(u16::from_be_bytes([wire[2], wire[3]])), 4),
        127 => (usize::from(wire[7]) << 16 | usize::from(wire[8]) << 8 | usize::from(wire[9]), 10),
        size => (usize::from(size), 2),
    };
    let (key, start) = match wire[1] & 0x80 {
        0 => ([0; 4], start),
        _ => (wire[start..start + 4].try_into().expect("four bytes"), start + 4),
    };
    assert_eq!(wire.len(), start + size);
    let payload = wire[start..].iter().zip(key.iter().cycle());
    (wire[0] & 0x40 != 0, payload.map(|(byte, key)| byte ^ key).collect())
}

#[derive(Debug, PartialEq, Eq)]
enum Inflated {
    /// The whole message.
    Whole(Vec<u8>),
    /// As far as a block that says it is the last.
    Last(Vec<u8>),
    Failed(Status),
}

/// Inflates a message that refers to `history`, to `size` bytes and no more.
///
/// RFC 7692 section 7.2.2.
fn inflate(message: &[u8], history: &[u8], size: usize) -> Inflated {
    // Some bytes over, so that the inflater can say that there are more.
    let mut buffer = [history, &vec![0; size + 8]].concat();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF | TINFL_FLAG_HAS_MORE_INPUT;
    let message = [message, &[0, 0, 0xff, 0xff]].concat();
    let (status, _, made) =
        decompress(&mut DecompressorOxide::new(), &message, &mut buffer, history.len(), flags);
    let payload = buffer[history.len()..][..made].to_vec();
    match status {
        Status::NeedsMoreInput => Inflated::Whole(payload),
        Status::Done => Inflated::Last(payload),
        status => Inflated::Failed(status),
    }
}
