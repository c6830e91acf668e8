//! How messages leave for connections that agreed to compression (RFC 7692).
//!
//! Everything is encoded as plain frames first, which costs little beside compressing it. What goes
//! to a room is compressed at most once, at its home, for all members that take it so; what goes to
//! one connection, with that connection's own context. How is the business of `clarion-websocket`.

use crate::config::Unshared;
use crate::connection::Connection;
use crate::effects::Effects;
use crate::fault::Fault;
use crate::id::{ConnId, Now};
use crate::mail::Frames;
use crate::shard::Shard;
use bytes::Bytes;
use clarion_websocket::{Opcode, Role, deflate, frame};

/// What a connection is sent of what goes to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing any more: a close frame was sent, or waits to be.
    Nothing,
    /// Plain frames.
    Plain,
    /// Frames that were compressed once for all.
    Shared,
    /// Frames that are compressed for it alone.
    Own,
}

impl Connection {
    /// Whether what was compressed once for many can be sent to it.
    pub(crate) fn takes_shared(&self) -> bool {
        self.websocket.deflate().is_some_and(deflate::Agreed::takes_shared)
    }
}

impl Shard {
    pub(crate) fn form(&mut self, conn: ConnId) -> Form {
        let unshared = self.config.deflate.unshared;
        let shared_for_all = self.planted.is(Fault::SharedForAll);
        let Some(connection) = self.connection(conn) else { return Form::Nothing };
        if !connection.may_send() {
            return Form::Nothing;
        }
        match (connection.websocket.deflate(), unshared) {
            (Some(agreed), _) if agreed.takes_shared() || shared_for_all => Form::Shared,
            (Some(_), Unshared::Own) => Form::Own,
            (Some(_), Unshared::Plain) | (None, _) => Form::Plain,
        }
    }

    /// Plain frames for many, also compressed if somebody takes them so.
    pub(crate) fn frames(&mut self, plain: Bytes, taken: bool) -> Frames {
        let shared = taken.then(|| self.share(&plain));
        Frames { plain, shared }
    }

    /// Plain frames, each compressed for everybody who takes that. The same if none of them shrinks.
    fn share(&mut self, plain: &Bytes) -> Bytes {
        let settings = self.config.deflate.shared();
        let pool = &mut self.pool;
        recode(plain, settings.threshold_bytes, |opcode, payload, out| {
            deflate::encode(opcode, payload, &settings, pool, out)
        })
    }

    /// Plain frames as this connection is sent them: each compressed for it alone, where that was
    /// agreed on and is worth it.
    ///
    /// They must be queued at once: with context takeover the next ones build on them.
    pub(crate) fn compress(&mut self, conn: ConnId, plain: Bytes) -> Bytes {
        let pool = &mut self.pool;
        let slot = self.connections.get_mut(conn.index as usize).and_then(Option::as_deref_mut);
        let Some(connection) = slot else { return plain };
        let Some(agreed) = connection.websocket.deflate() else { return plain };
        let settings = self.config.deflate.unicast(agreed);
        recode(&plain, settings.threshold_bytes, |opcode, payload, out| {
            connection.websocket.compress(opcode, payload, &settings, pool, out)
        })
    }

    /// Appends a message for this connection, compressed; false if it goes as it is.
    pub(crate) fn compress_echo(
        &mut self,
        conn: ConnId,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> bool {
        let slot = self.connections.get_mut(conn.index as usize).and_then(Option::as_deref_mut);
        let Some(connection) = slot else { return false };
        let Some(agreed) = connection.websocket.deflate() else { return false };
        let settings = self.config.deflate.unicast(agreed);
        connection.websocket.compress(opcode, payload, &settings, &mut self.pool, out)
    }

    /// Queues what goes to many, in the form that this connection takes.
    pub(crate) fn send_frames(
        &mut self,
        conn: ConnId,
        frames: &Frames,
        now: Now,
        fx: &mut impl Effects,
    ) {
        match self.form(conn) {
            Form::Nothing => {}
            Form::Plain => self.queue(conn, frames.plain.clone(), now, fx),
            Form::Shared => self.queue(conn, frames.shared().clone(), now, fx),
            Form::Own => self.send(conn, frames.plain.clone(), now, fx),
        }
    }
}

impl Frames {
    /// Without the compressed ones where nobody takes them.
    pub(crate) fn for_takers(&self, takers: u32) -> Self {
        let shared = self.shared.as_ref().filter(|_| takers > 0);
        Self { plain: self.plain.clone(), shared: shared.cloned() }
    }

    /// For those who take what was compressed for many: that, or nobody was known to.
    pub(crate) fn shared(&self) -> &Bytes {
        self.shared.as_ref().unwrap_or(&self.plain)
    }
}

/// Copies plain frames of ours, with those in another form that `compress` has one for.
fn recode(
    plain: &Bytes,
    threshold_bytes: usize,
    mut compress: impl FnMut(Opcode, &[u8], &mut Vec<u8>) -> bool,
) -> Bytes {
    // So that what is short costs nothing.
    if plain.len() < threshold_bytes {
        return plain.clone();
    }
    let mut out = Vec::new();
    let mut rest = &plain[..];
    let mut any = false;
    while let Ok(Some((header, size))) = frame::Header::decode(rest, Role::Client, false) {
        let (frame, others) = rest.split_at(size + header.payload_size as usize);
        if compress(header.opcode, &frame[size..], &mut out) {
            any = true;
        } else {
            out.extend_from_slice(frame);
        }
        rest = others;
    }
    debug_assert!(rest.is_empty(), "whole frames of ours");
    if any { Bytes::from(out) } else { plain.clone() }
}
