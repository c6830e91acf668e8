//! What a shard asks for, done: the real [`Effects`].
//!
//! But for what is lent, nothing here writes to a socket, and nothing takes a lock; what is to be
//! done is noted, and the turn ([`super::turn`]) does it at its end.

use super::injector::{Inbound, Injector};
use super::load::Load;
use super::mailbox::Outgoing;
use super::meter::Meter;
use super::outbox::Chunks;
use super::slot::{Slot, Slots, Stage};
use crate::api::Answers;
use crate::auth::Auth;
use crate::front::Admission;
use bytes::Bytes;
use clarion_engine::effects::{AuthOutcome, Credentials, Question, Verdict};
use clarion_engine::mail::ApiAnswer;
use clarion_engine::{ApiId, Config, ConnId, Effects, Mail, Now, WorkerId, permission};
use clarion_store::{MemoryStore, Request, Shrink};
use clarion_store_sqlite::SqliteStore;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::Instant;

/// Something that a later turn tells the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// `on_sent`.
    Sent(ConnId),
    /// `on_close`.
    Closed(ConnId, End),
}

/// Who ended a connection, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We did, and everything was sent.
    Server,
    /// We did, and the peer did not take everything in time.
    Unsent,
    /// The peer did.
    Peer,
    /// Neither did.
    Error(io::ErrorKind),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Unsent => f.write_str("server; not everything could be sent"),
            Self::Peer => f.write_str("peer"),
            Self::Error(kind) => write!(f, "error: {kind}"),
        }
    }
}

/// Everything of a worker but its shard and its poll.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) id: WorkerId,
    pub(crate) now: Now,
    pub(crate) slots: Slots,
    pub(crate) chunks: Chunks,
    /// Connections with something to write, or to finish, at the end of this turn.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections with bytes to read.
    pub(crate) ready: Vec<ConnId>,
    /// For the next turn.
    pub(crate) notices: Vec<Notice>,
    /// Connections that are being flushed, by the time at which that ends; always the same delay,
    /// so they are in order.
    pub(crate) flushing: VecDeque<(u64, ConnId)>,
    /// The same of those that wait for the peer's end.
    pub(crate) lingering: VecDeque<(u64, ConnId)>,
    pub(crate) outgoing: Outgoing,
    /// Mail to this worker itself, for this turn.
    pub(crate) own: Vec<Mail>,
    pub(crate) load: Load,
    /// Of those connections to which limits per address apply.
    pub(crate) admissions: HashMap<ConnId, Admission>,
    pub(crate) meter: Arc<Meter>,
    /// When the publications were read that this turn will have written; one for each batch.
    pub(crate) deliveries: Vec<u64>,
    config: Arc<Config>,
    close_us: u64,
    /// For what survives the process, unless nothing is to.
    durable: Option<Arc<SqliteStore>>,
    store: MemoryStore,
    answers: Arc<Answers>,
    auth: Arc<Auth>,
    /// For what is answered later.
    injector: Arc<Injector>,
    randomness: Randomness,
}

/// Random bytes in stock: every publication with a log asks for 8, and a system call for each costs
/// as much as what else is done with it.
#[derive(Debug)]
struct Randomness {
    bytes: Box<[u8; Self::SIZE]>,
    used: usize,
}

impl Randomness {
    const SIZE: usize = 1_024;

    fn new() -> Self {
        Self { bytes: Box::new([0; Self::SIZE]), used: Self::SIZE }
    }

    /// Fills `out` with bytes that nobody gets again.
    fn fill(&mut self, out: &mut [u8]) {
        if out.len() > Self::SIZE {
            return crate::keys::fill_random(out);
        }
        if Self::SIZE - self.used < out.len() {
            crate::keys::fill_random(&mut self.bytes[..]);
            self.used = 0;
        }
        let taken = &mut self.bytes[self.used..self.used + out.len()];
        out.copy_from_slice(taken);
        taken.fill(0);
        self.used += out.len();
    }
}

/// What a driver is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) id: WorkerId,
    pub(crate) outgoing: Outgoing,
    pub(crate) load: Load,
    pub(crate) meter: Arc<Meter>,
    pub(crate) answers: Arc<Answers>,
    pub(crate) config: Arc<Config>,
    pub(crate) durable: Option<Arc<SqliteStore>>,
    pub(crate) auth: Arc<Auth>,
    pub(crate) injector: Arc<Injector>,
}

impl Driver {
    pub(crate) fn new(parts: Parts, now: Now) -> Self {
        Self {
            id: parts.id,
            now,
            slots: Slots::new(),
            chunks: Chunks::new(),
            dirty: Vec::new(),
            ready: Vec::new(),
            notices: Vec::new(),
            flushing: VecDeque::new(),
            lingering: VecDeque::new(),
            outgoing: parts.outgoing,
            own: Vec::new(),
            load: parts.load,
            admissions: HashMap::new(),
            meter: parts.meter,
            deliveries: Vec::new(),
            close_us: parts.config.limits.close_ms * 1_000,
            store: MemoryStore::new(parts.config.hash_seed)
                .with_bytes(parts.config.limits.log_bytes / usize::from(parts.config.workers)),
            config: parts.config,
            durable: parts.durable,
            answers: parts.answers,
            auth: parts.auth,
            injector: parts.injector,
            randomness: Randomness::new(),
        }
    }

    /// Forgets logs in which everything is too old, and gives back what a burst left.
    pub(crate) fn sweep(&mut self, in_use: impl Fn(&clarion_protocol::RoomName) -> bool) {
        self.store.sweep(self.now.wall_ms, in_use);
        self.flushing.shrink();
        self.lingering.shrink();
        self.admissions.shrink();
        self.outgoing.shrink();
        self.meter.logs_hold(self.store.bytes(), self.store.squeezed());
    }

    /// Has the connection looked at when the turn ends.
    pub(crate) fn mark_dirty(dirty: &mut Vec<ConnId>, conn: ConnId, slot: &mut Slot) {
        if !slot.dirty {
            slot.dirty = true;
            dirty.push(conn);
        }
    }

    /// Has the connection read, in this turn or the next.
    pub(crate) fn mark_ready(ready: &mut Vec<ConnId>, conn: ConnId, slot: &mut Slot) {
        if !slot.listed {
            slot.listed = true;
            ready.push(conn);
        }
    }

    /// Has the shard told that the connection is gone, if it was not yet.
    pub(crate) fn note_closed(notices: &mut Vec<Notice>, conn: ConnId, slot: &mut Slot, end: End) {
        if slot.known {
            slot.known = false;
            notices.push(Notice::Closed(conn, end));
        }
    }

    /// Stops reading; what is queued is still written, for a bounded time.
    pub(crate) fn start_flushing(&mut self, conn: ConnId, ended: bool) {
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.stage == Stage::Open {
            slot.stage = Stage::Flushing { ended };
            self.flushing.push_back((self.now.mono_us + self.close_us, conn));
            Self::mark_dirty(&mut self.dirty, conn, slot);
        }
    }

    /// Closes the socket at once. The shard is told in the next turn, if it does not know.
    pub(crate) fn drop_transport(&mut self, conn: ConnId, end: End) {
        let Some(slot) = self.slots.get(conn) else { return };
        // Closing the descriptor takes it out of the poll.
        let Some(_transport) = slot.transport.take() else { return };
        slot.stage = Stage::Closed;
        self.chunks.clear(&mut slot.queue);
        if slot.known {
            Self::note_closed(&mut self.notices, conn, slot, end);
        } else {
            self.release(conn);
        }
    }

    /// The shard knows; once the socket is closed, too, the slot is free.
    pub(crate) fn release(&mut self, conn: ConnId) {
        let closed = self.slots.get(conn).is_some_and(|slot| slot.transport.is_none());
        if closed {
            self.slots.release(conn);
            self.admissions.remove(&conn);
            self.load.leave();
        }
    }
}

impl Effects for Driver {
    fn delivering(&mut self, at_us: u64) {
        self.deliveries.push(at_us);
    }

    fn send(&mut self, conn: ConnId, chunk: Bytes) {
        let Some(slot) = self.slots.get(conn) else { return };
        if slot.stage == Stage::Open {
            self.chunks.push(&mut slot.queue, chunk);
            Self::mark_dirty(&mut self.dirty, conn, slot);
        }
    }

    fn lend(&mut self, conn: ConnId, head: &[u8], body: &[u8]) {
        let Some(slot) = self.slots.get(conn) else { return };
        let total = head.len() + body.len();
        let mut size = 0;
        if slot.stage == Stage::Open
            && slot.queue.is_empty()
            && slot.writable
            && let Some(transport) = &mut slot.transport
        {
            match transport.write_vectored(&[IoSlice::new(head), IoSlice::new(body)]) {
                Ok(taken) => {
                    size = taken;
                    slot.writable = taken == total && transport.held() == 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => slot.writable = false,
                // It comes again when the rest is written.
                Err(_) => {}
            }
        }
        if size < total {
            let mut rest = Vec::with_capacity(total - size);
            rest.extend_from_slice(&head[size.min(head.len())..]);
            rest.extend_from_slice(&body[size.saturating_sub(head.len())..]);
            self.send(conn, Bytes::from(rest));
        }
    }

    fn queued(&self, conn: ConnId) -> usize {
        self.slots.peek(conn).map_or(0, Slot::queued)
    }

    fn want_sent(&mut self, conn: ConnId, below: usize) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.set_sent_mark(Some(below));
        // Looked at when the turn ends, also if nothing is written.
        Self::mark_dirty(&mut self.dirty, conn, slot);
    }

    fn close(&mut self, conn: ConnId, after_flush: bool) {
        if after_flush {
            self.start_flushing(conn, false);
        } else {
            self.drop_transport(conn, End::Server);
        }
    }

    fn pause_read(&mut self, conn: ConnId, paused: bool) {
        let Some(slot) = self.slots.get(conn) else { return };
        slot.paused = paused;
        if !paused && slot.readable {
            Self::mark_ready(&mut self.ready, conn, slot);
        }
    }

    fn post(&mut self, to: WorkerId, mail: Mail) {
        if to == self.id {
            self.own.push(mail);
        } else {
            self.outgoing.post(to, mail);
        }
    }

    fn mail_queued(&self, to: WorkerId) -> usize {
        // Mail to oneself is taken before the turn ends, so it never piles up.
        if to == self.id { 0 } else { self.outgoing.queued(to) }
    }

    fn want_mail_room(&mut self, to: WorkerId) {
        self.outgoing.want_room(to);
    }

    fn submit(&mut self, durable: bool, request: Request) {
        if durable && let Some(store) = &self.durable {
            // It answers by mail, after its commit.
            return store.submit(u32::from(self.id.0), request);
        }
        let append = matches!(request, Request::Append { .. });
        let asked = Instant::now();
        let completion = self.store.handle(request, self.now.wall_ms);
        let took_ns = asked.elapsed().as_nanos() as u64;
        if append { &self.meter.appends } else { &self.meter.reads }.observe_ns(took_ns);
        self.meter.logs_hold(self.store.bytes(), self.store.squeezed());
        self.own.push(Mail::Stored(completion));
    }

    fn decide(&mut self, question: &Question) -> Option<Verdict> {
        Some(permission::decide(&self.config, question))
    }

    fn authenticate(&mut self, conn: ConnId, credentials: &Credentials) -> Option<AuthOutcome> {
        let guests = self.slots.peek(conn).is_some_and(|slot| slot.guests);
        self.auth.authenticate(credentials, guests, || {
            let injector = self.injector.clone();
            Box::new(move |outcome| {
                injector.push(Inbound::Mail(Mail::Authenticated { conn, outcome }));
            })
        })
    }

    fn answer(&mut self, api: ApiId, answer: ApiAnswer) {
        self.answers.give(api, answer);
    }

    fn entropy(&mut self, out: &mut [u8]) {
        self.randomness.fill(out);
    }
}

/// A connection's name in the log.
pub(crate) struct Shown(pub(crate) ConnId);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0.index, self.0.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::Randomness;
    use std::collections::HashSet;

    #[test]
    fn nobody_gets_the_same_random_bytes() {
        let mut stock = Randomness::new();
        let mut seen = HashSet::new();
        // Sizes that do not divide the stock, and one that is larger than it.
        for size in [16, 24, 100, 8, 2_000].repeat(200) {
            let mut out = vec![0; size];
            stock.fill(&mut out);
            assert!(seen.insert(out.clone()));
            assert!(out.iter().any(|&byte| byte != 0));
        }
    }
}
