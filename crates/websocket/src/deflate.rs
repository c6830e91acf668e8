//! Compression of messages: the extension `permessage-deflate`.
//!
//! [`Config`] is what one end wants, and [`Agreed`] what both ends settled on in the opening
//! handshake: [`accept`] chooses for a server, [`Opening::with_deflate`] offers for a client. A
//! [`Connection`] that is told of it reads compressed messages, and compresses those sent with a
//! [`Pool`]. [`encode`] compresses one message once for many connections.
//!
//! A compressor takes 32 to 380 KB and an inflater 48 KB, so both live in a pool which the
//! connections of a thread share. Only context takeover makes a connection own any of it; without
//! it, which is the default both ways, an idle connection owns nothing.
//!
//! RFC 7692.
//!
//! [`Connection`]: crate::Connection
//! [`Opening::with_deflate`]: crate::handshake::Opening::with_deflate

mod compressor;
mod inflater;
mod negotiation;
mod pool;
mod quick;

use crate::frame::HEADER_BYTES_MAX;
use crate::mask::Key;
use crate::{Opcode, frame};

pub(crate) use inflater::{Contexts, Inflater, Receiving, Step, WINDOW_BYTES_MAX};
pub(crate) use negotiation::verify;
pub use negotiation::{Agreed, Answer, Config, accept};
pub use pool::{Counts, Pool, Work};

pub(crate) use compressor::Compressor;
pub(crate) use pool::Deflater;

/// The window of a frame that is made once for many: the largest, which is the usual one.
pub const SHARED_WINDOW_BITS: u8 = 15;

/// Which messages are compressed, and how hard. Both are for the sender alone to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// The shortest message that is compressed, in bytes; default 256. Without context takeover a
    /// shorter one hardly shrinks.
    pub threshold_bytes: usize,
    /// From 1, the fastest, to 9, the smallest; default 3. A number outside is taken for the
    /// nearest.
    ///
    /// 1 is another way of compressing where no context takeover was agreed: it takes a sixth of
    /// the time of 3 or less, and leaves a fifth to three eighths more bytes.
    pub level: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self { threshold_bytes: 256, level: 3 }
    }
}

/// Appends a whole message, compressed, as a server sends it to each connection that
/// [takes shared frames](Agreed::takes_shared).
///
/// Returns false, and appends nothing, if the message is shorter than the threshold or does not
/// shrink: then [`frame::encode`] it. `opcode` is text or binary.
///
/// The bytes refer to nothing outside of this message, so it does not matter to a receiver what
/// came before, and they are the same for all.
pub fn encode(
    opcode: Opcode,
    payload: &[u8],
    settings: &Settings,
    pool: &mut Pool,
    out: &mut Vec<u8>,
) -> bool {
    debug_assert!(matches!(opcode, Opcode::Text | Opcode::Binary));
    if payload.len() < settings.threshold_bytes {
        return false;
    }
    let before = out.len();
    let deflater = pool.deflater(SHARED_WINDOW_BITS, settings.level);
    let is_shorter = append(opcode, None, payload, deflater, out);
    if is_shorter {
        pool.count_deflated(payload.len(), out.len() - before);
    }
    is_shorter
}

/// Appends one final frame with the payload compressed, or nothing if that is not shorter.
pub(crate) fn append(
    opcode: Opcode,
    mask: Option<Key>,
    payload: &[u8],
    deflater: Deflater<'_>,
    out: &mut Vec<u8>,
) -> bool {
    // How long the header is depends on what comes after it: leave room for any, then move up.
    let start = out.len();
    out.resize(start + HEADER_BYTES_MAX, 0);
    if !deflater.compress(payload, out) {
        out.truncate(start);
        return false;
    }
    frame::seal(opcode, mask, start, out);
    true
}
