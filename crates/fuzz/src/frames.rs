//! Any bytes, read by either end: the same events wherever they are cut, and those of the book.

use clarion_websocket::deflate::{Agreed, Config};
use clarion_websocket::{Connection, Limits};

use crate::book;
use crate::end::{End, Seen};
use crate::handshake::agree;
use crate::input::{Input, reads};

pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let flags = input.byte();
    let cut_seed = input.byte();
    let server = flags & 1 == 0;
    let limits = match flags >> 1 & 3 {
        0 => Limits::default(),
        1 => Limits { message_bytes: 100, fragments: 3 },
        2 => Limits { message_bytes: 0, fragments: 0 },
        _ => Limits { message_bytes: 70_000, fragments: 8 },
    };
    let agreed = (flags >> 3 & 1 == 1).then(|| {
        let takeover = flags >> 4 & 1 == 1;
        agree(Config { server_takeover: takeover, client_takeover: takeover, ..Config::default() })
    });
    let wire = input.0;

    let whole = read(server, limits, agreed, [wire]);
    assert_eq!(read(server, limits, agreed, reads(wire, cut_seed)), whole);
    if wire.len() <= 512 {
        assert_eq!(read(server, limits, agreed, wire.chunks(1)), whole);
    }
    if agreed.is_none() {
        assert_eq!(book::read(wire, server, &limits), whole.0);
    }
}

/// Returns what was seen, and what was answered.
fn read<'a>(
    server: bool,
    limits: Limits,
    agreed: Option<Agreed>,
    reads: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Vec<u8>) {
    let connection = if server { Connection::server() } else { Connection::client([7; 32]) };
    let mut end = End::new(connection, limits, agreed);
    for bytes in reads {
        end.read(bytes);
    }
    (end.seen, end.out)
}
