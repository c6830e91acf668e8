//! What a connection is sent, compressed, if it agreed to that (RFC 7692).
//!
//! Everything is encoded as a plain frame first, which costs little beside compressing it; whether
//! it leaves as one is decided here. How is the business of `clarion-websocket`.

use crate::id::ConnId;
use crate::shard::Shard;
use bytes::Bytes;
use clarion_websocket::{Opcode, Role, frame};

impl Shard {
    /// Plain frames as this connection is sent them: each compressed by itself, where that was
    /// agreed on and is worth it.
    ///
    /// They must be queued at once: with context takeover the next ones build on them.
    pub(crate) fn compress(&mut self, conn: ConnId, frames: Bytes) -> Bytes {
        let settings = self.config.deflate.settings();
        let pool = &mut self.pool;
        let connection =
            self.connections.get_mut(conn.index as usize).and_then(Option::as_deref_mut);
        let Some(websocket) = connection.map(|connection| &mut connection.websocket) else {
            return frames;
        };
        if websocket.deflate().is_none() || frames.len() < settings.threshold_bytes {
            return frames;
        }
        let mut out = Vec::new();
        let mut rest = &frames[..];
        let mut any = false;
        while let Ok(Some((header, size))) = frame::Header::decode(rest, Role::Client, false) {
            let (frame, others) = rest.split_at(size + header.payload_size as usize);
            if websocket.compress(header.opcode, &frame[size..], &settings, pool, &mut out) {
                any = true;
            } else {
                out.extend_from_slice(frame);
            }
            rest = others;
        }
        debug_assert!(rest.is_empty(), "whole frames of ours");
        if any { Bytes::from(out) } else { frames }
    }

    /// Appends a message for this connection, compressed; false if it goes as it is.
    pub(crate) fn compress_echo(
        &mut self,
        conn: ConnId,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let settings = self.config.deflate.settings();
        let connection =
            self.connections.get_mut(conn.index as usize).and_then(Option::as_deref_mut);
        connection.is_some_and(|connection| {
            connection.websocket.compress(opcode, payload, &settings, &mut self.pool, out)
        })
    }
}
