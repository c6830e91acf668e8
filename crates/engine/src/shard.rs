//! The shard: the whole state of one worker, and how its driver calls it.
//!
//! Input comes through `on_*`, output goes through [`Effects`], and [`Shard::end_of_turn`] posts
//! what the turn gathered. The driver's turn is: events, mail, due timers, `end_of_turn`, the mail
//! that this worker posted to itself (until there is none), one write for each connection.
//!
//! What happens in a room is in `room.rs`, on a connection in `command.rs` and `session.rs`.

use crate::config::Config;
use crate::connection::{Bucket, Connection, Endpoint, Open, Phase, pause};
use crate::counters::Counters;
use crate::effects::Effects;
use crate::fault::{Fault, Planted};
use crate::groups::Groups;
use crate::home::Home;
use crate::id::{ConnId, ConnRef, Now, WorkerId};
use crate::local::Local;
use crate::mail::{Mail, Origin};
use crate::revoked::Revoked;
use crate::rooms::Rooms;
use crate::router::Router;
use crate::session::Binding;
use crate::ticket::Tickets;
use crate::timers::{HomeId, Timer, Timers};
use bytes::Bytes;
use clarion_protocol::{ClientId, ErrorName, Refusal, RoomName, close, codec};
use clarion_store::Shrink;
use clarion_websocket::deflate::{Agreed, Pool};
use clarion_websocket::{self as websocket, CloseCode, Event, Opcode, ProtocolError, frame};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long before its token expires a client is asked for a new one: spec section 4, `$refresh`.
const REFRESH_AHEAD_MS: u64 = 60_000;

/// The state of one worker: its connections, the rooms and sessions whose home it is, and the rooms
/// in which its connections are.
///
/// Memory is bounded by `Config::limits` and the number of connections; every table says by what.
#[derive(Debug)]
pub struct Shard {
    pub(crate) id: WorkerId,
    pub(crate) config: Arc<Config>,
    pub(crate) router: Router,
    pub(crate) tickets: Tickets,
    pub(crate) planted: Planted,
    /// By `ConnId::index`; as long as the highest index in use demands.
    pub(crate) connections: Vec<Option<Box<Connection>>>,
    /// Rooms with members on this worker.
    pub(crate) locals: Rooms<Local>,
    /// Rooms whose home this is; at most `limits.homes`.
    pub(crate) homes: Rooms<Home>,
    pub(crate) home_generation: u32,
    /// Homes with something to post at the end of the turn.
    pub(crate) dirty_homes: Vec<HomeId>,
    /// Rooms that were not delivered to a worker, since its mailbox was full.
    pub(crate) skipped: Vec<(WorkerId, HomeId)>,
    /// Workers that missed something to `$all`.
    pub(crate) all_skipped: Vec<WorkerId>,
    /// Connections not read because of mail to a worker.
    pub(crate) mail_paused: Vec<(WorkerId, ConnId)>,
    /// Connections that are gone with their sessions, and how many outcomes are still to come for each.
    pub(crate) ended: BTreeMap<ConnId, u32>,
    /// Sessions whose home this is: one for each that has a connection anywhere.
    pub(crate) sessions: HashMap<ClientId, Binding, FixedState>,
    pub(crate) bindings: u64,
    pub(crate) groups: Groups,
    pub(crate) revoked: Revoked,
    /// Members in their grace, each session once for every time that its connection went; at most
    /// `limits.graces`.
    pub(crate) graces: usize,
    pub(crate) questions: u64,
    pub(crate) timers: Timers,
    pub(crate) counters: Counters,
    /// A close of the connection that is being read, which waits for the end of its slice.
    close: Option<(u16, &'static str)>,
    /// Scratch for one message.
    pub(crate) text: Vec<u8>,
    /// Compressors and inflaters of all connections.
    pub(crate) pool: Pool,
    /// Connections that take frames that were compressed once for many.
    pub(crate) takers: u32,
    /// Scratch for what the WebSocket layer answers by itself.
    out: Vec<u8>,
    open: u64,
}

impl Shard {
    /// A shard with nothing in it. All shards of a process have the same `config`.
    #[must_use]
    pub fn new(id: WorkerId, config: Arc<Config>) -> Self {
        let router = Router::new(config.workers, config.hash_seed);
        let hasher = router.hasher();
        Self {
            id,
            tickets: Tickets::new(&config.ticket_key),
            planted: Planted::default(),
            connections: Vec::new(),
            locals: Rooms::new(hasher.clone()),
            homes: Rooms::new(hasher.clone()),
            home_generation: 0,
            dirty_homes: Vec::new(),
            skipped: Vec::new(),
            all_skipped: Vec::new(),
            mail_paused: Vec::new(),
            ended: BTreeMap::new(),
            sessions: HashMap::with_hasher(hasher.clone()),
            groups: Groups::new(hasher),
            revoked: Revoked::default(),
            graces: 0,
            bindings: 0,
            questions: 0,
            timers: Timers::default(),
            counters: Counters::default(),
            close: None,
            text: Vec::new(),
            pool: Pool::default(),
            takers: 0,
            out: Vec::new(),
            open: 0,
            config,
            router,
        }
    }

    /// Plants a bug, to prove that the simulator finds it.
    #[cfg(feature = "__faults")]
    pub fn plant(&mut self, fault: Fault) {
        self.planted.plant(fault);
    }

    /// A connection was handed over. What was read behind its handshake follows by
    /// [`Self::on_bytes`].
    pub fn on_open(&mut self, open: Open, now: Now, fx: &mut impl Effects) {
        let Open { conn, endpoint, deflate, hello, peer, credentials } = open;
        let index = conn.index as usize;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        let phase = match endpoint {
            Endpoint::Echo => Phase::Echo,
            Endpoint::Session => Phase::Hello,
        };
        let deadline_us = match endpoint {
            Endpoint::Echo => 0,
            Endpoint::Session => now.mono_us + self.config.limits.handshake_ms * 1_000,
        };
        self.connections[index] = Some(Box::new(Connection {
            generation: conn.generation,
            phase,
            hello,
            guest: false,
            resumed: false,
            refreshed: false,
            refresh_told: false,
            ended: false,
            reading: false,
            lost_all: false,
            paused: 0,
            websocket: match deflate {
                Some(agreed) => websocket::Connection::server().with_deflate(agreed),
                None => websocket::Connection::server(),
            },
            sender: None,
            grants: None,
            binding: 0,
            expires_at_ms: 0,
            rooms: Vec::new(),
            under_way: 0,
            expecting: 0,
            joining: 0,
            waiting: None,
            last_input_us: now.mono_us,
            ping_us: 0,
            rtt_us: 0,
            slow_us: 0,
            deadline_us,
            armed_us: u64::MAX,
            publish: Bucket::default(),
            commands: Bucket::default(),
            bytes: Bucket::default(),
            close_code: CloseCode::ABNORMAL.get(),
            peer: peer.into(),
            connected_at_ms: now.wall_ms,
            sdk: None,
            failures: None,
        }));
        self.open += 1;
        self.counters.phase(phase, 1);
        self.takers += u32::from(deflate.is_some_and(Agreed::takes_shared));
        self.arm(conn, now);
        if endpoint == Endpoint::Session {
            self.begin(conn, credentials, now, fx);
        }
    }

    /// Bytes came. `data` is lent for the call, and changed by it.
    pub fn on_bytes(&mut self, conn: ConnId, data: &mut [u8], now: Now, fx: &mut impl Effects) {
        let echo_limits = websocket::Limits {
            message_bytes: self.config.limits.echo_message_bytes,
            fragments: self.config.limits.echo_fragments,
        };
        let session_limits = websocket::Limits {
            message_bytes: self.config.limits.message_bytes,
            fragments: self.config.limits.fragments,
        };
        self.counters.bytes_in += data.len() as u64;
        let Some(connection) = self.connection(conn) else { return };
        if connection.phase == Phase::Closed {
            return;
        }
        let echo = connection.phase == Phase::Echo;
        let limits = if echo { echo_limits } else { session_limits };
        connection.last_input_us = now.mono_us;
        connection.ping_us = 0;
        connection.reading = true;
        self.throttle(conn, data.len(), now, fx);
        let Some(connection) = self.connection(conn) else { return };
        // What an event lends is borrowed from it; what is sent meanwhile, the other one sends.
        let stand_in = connection.websocket.stand_in();
        let mut websocket = std::mem::replace(&mut connection.websocket, stand_in);
        let mut out = std::mem::take(&mut self.out);
        let mut input = data;
        let inflated = self.pool.counts().inflated;
        while let Some(event) =
            websocket.receive_with(&limits, &mut self.pool, &mut input, &mut out)
        {
            match event {
                Event::Text(text) => {
                    self.counters.messages_in += 1;
                    if echo {
                        self.echo(conn, Opcode::Text, text.as_bytes(), &mut out, fx);
                    } else {
                        self.on_text(conn, text, now, fx);
                    }
                }
                Event::Binary(bytes) => {
                    self.counters.messages_in += 1;
                    if echo {
                        self.echo(conn, Opcode::Binary, bytes, &mut out, fx);
                    } else {
                        let why = "this subprotocol has no binary messages";
                        self.close(conn, close::UNSUPPORTED_DATA, why, now, fx);
                    }
                }
                Event::Ping(_) => {}
                Event::Pong(payload) => self.on_pong(conn, payload, now),
                Event::Closed { code, .. } => {
                    self.end(conn, code.unwrap_or(CloseCode::NO_STATUS), true);
                }
                Event::Failed(error) => {
                    match error {
                        ProtocolError::MessageTooBig => self.counters.limit("message_bytes"),
                        ProtocolError::TooManyFragments => self.counters.limit("fragments"),
                        _ => {}
                    }
                    self.end(conn, error.code(), false);
                }
            }
        }
        self.send_out(conn, &mut out, fx);
        self.out = out;
        self.check_outbox(conn, now, fx);
        // What came was counted; what it was inflated to is work for us, too.
        let done = self.pool.counts().inflated;
        let plain_bytes = done.plain_bytes - inflated.plain_bytes;
        let extra = plain_bytes.saturating_sub(done.compressed_bytes - inflated.compressed_bytes);
        if extra > 0 {
            self.throttle(conn, extra as usize, now, fx);
        }
        let close = self.close.take();
        let Some(connection) = self.connection(conn) else { return };
        let stand_in = std::mem::replace(&mut connection.websocket, websocket);
        connection.websocket.rejoin(stand_in);
        connection.reading = false;
        if connection.phase == Phase::Closed {
            fx.close(conn, true);
        } else if let Some((code, reason)) = close {
            self.send_close(conn, code, reason, now, fx);
        }
    }

    /// The connection's outbox is below the mark that was asked for.
    pub fn on_sent(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        connection.slow_us = 0;
        self.unpause(conn, pause::OUTBOX, fx);
        self.pay(conn, now, fx);
    }

    /// There is room again in the mailbox of `to`.
    pub fn on_mail_room(&mut self, to: WorkerId, _now: Now, fx: &mut impl Effects) {
        self.resume_worker(to, fx);
        let (ready, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.mail_paused).into_iter().partition(|(at, _)| *at == to);
        self.mail_paused = rest;
        for (_, conn) in ready {
            self.unpause(conn, pause::MAILBOX, fx);
        }
    }

    /// The connection is gone: the peer went, an error, or what [`Effects::close`] asked for.
    pub fn on_close(&mut self, conn: ConnId, _now: Now, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        let (ended, rooms) = (connection.ended, connection.rooms.clone());
        let takes_shared = connection.takes_shared();
        let (session, code) = (connection.sender.clone(), connection.close_code);
        let (phase, expecting) = (connection.phase, connection.expecting);
        self.counters.phase(phase, -1);
        self.counters.closed(code);
        if ended && expecting > 0 {
            self.ended.insert(conn, expecting);
        }
        let at = ConnRef { worker: self.id, conn };
        if let Some(client) = session.and_then(|sender| sender.client) {
            for membership in rooms {
                let room = self.locals[membership.local].name.clone();
                self.vacate(conn, membership.local);
                let home = self.router.room_home(&room);
                fx.post(home, Mail::Detach { room, client, conn: at, ended });
            }
            let home = self.router.session_home(client);
            fx.post(home, Mail::Unbind { client, conn: at });
        }
        self.connections[conn.index as usize] = None;
        self.open -= 1;
        self.takers -= u32::from(takes_shared);
    }

    /// Mail came, from a worker, a service, the API or this shard itself.
    pub fn on_mail(&mut self, mail: Mail, now: Now, fx: &mut impl Effects) {
        match mail {
            Mail::Command(command) => self.on_command(*command, now, fx),
            Mail::Detach { room, client, conn, ended } => {
                self.on_detach(&room, client, conn, ended, now);
            }
            Mail::Fetch { room, worker, epoch, after } => {
                self.on_fetch(room, worker, &epoch, after, fx);
            }
            Mail::Bind { client, conn } => self.on_bind(client, conn, fx),
            Mail::Unbind { client, conn } => self.on_unbind(client, conn),
            Mail::Bound { conn, binding } => self.on_bound(conn, binding, now, fx),
            Mail::Evict { conn } => self.on_evict(conn, now, fx),
            Mail::Crowd { conn } => self.on_crowd(conn, now, fx),
            Mail::Unicast { conn, frame } => {
                if self.is_open(conn) {
                    self.unicast(conn, frame, now, fx);
                }
            }
            Mail::Members { conn, room, frame } => self.on_roster(conn, &room, frame, now, fx),
            Mail::Removed { conn, room, reason } => self.on_removed(conn, &room, reason, now, fx),
            Mail::Rejoin(command) => self.rejoin(command, fx),
            Mail::Grouped { room, user, member } => self.on_grouped(&room, &user, member, fx),
            Mail::Outcome { conn, room, id, key, command, place, outcome } => {
                let (id, key, command) = (id.as_ref(), key.as_deref(), command.as_deref());
                self.on_outcome(conn, &room, id, key, command, place, outcome, now, fx);
            }
            Mail::Delivery { room, epoch, first, last, frames, at_us } => {
                self.on_delivery(&room, epoch, first, last, &frames, at_us, now, fx);
            }
            Mail::Unlogged { room, except, frame, at_us } => {
                self.on_unlogged(&room, except, frame, at_us, now, fx);
            }
            Mail::Skip { room, position } => self.on_skip(&room, position, now, fx),
            Mail::Page { room, after, page } => self.on_page(&room, after, page, now, fx),
            Mail::Roster { room, conn } => self.send_roster(&room, conn, fx),
            Mail::Presence { room, frame } => self.on_presence(&room, &frame, now, fx),
            Mail::Stored(completion) => self.on_stored(completion, now, fx),
            Mail::Decided { token, conn, verdict } => {
                self.on_decided(conn, token, verdict, now, fx);
            }
            Mail::Authenticated { conn, outcome } => self.on_authenticated(conn, outcome, now, fx),
            Mail::Api { api, request } => self.on_api(api, request, now, fx),
        }
    }

    /// Does what is due. Call it when [`Self::next_deadline`] has come; more often does no harm.
    pub fn on_tick(&mut self, now: Now, fx: &mut impl Effects) {
        while let Some((due_us, timer)) = self.timers.pop(now.mono_us) {
            match timer {
                Timer::Connection(conn) => self.on_deadline(conn, due_us, now, fx),
                Timer::Presence(home) => self.tell_presence(home, fx),
                Timer::Idle(home) => self.end_idle(home),
                Timer::Grace(grace) => {
                    let (home, client, binding) = *grace;
                    self.end_grace(home, client, binding, now);
                }
                Timer::Refetch(conn, local) => self.refetch(conn, local, now, fx),
                Timer::Check(home) => self.recheck(home, fx),
                Timer::Rejoin(rejoin) => {
                    if let Origin::Connection { conn, .. } = &rejoin.0.origin {
                        fx.post(conn.worker, Mail::Rejoin(Box::new(rejoin.0)));
                    }
                }
            }
        }
    }

    /// When [`Self::on_tick`] has something to do, on the monotonic clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.timers.next_us()
    }

    /// The server stops: every connection is closed with 1001, behind what is queued for it.
    pub fn on_shutdown(&mut self, now: Now, fx: &mut impl Effects) {
        for conn in self.all_connections() {
            self.close(conn, close::GOING_AWAY, "the server stops", now, fx);
        }
    }

    /// Posts what this turn gathered for many at once.
    pub fn end_of_turn(&mut self, _now: Now, fx: &mut impl Effects) {
        for id in std::mem::take(&mut self.dirty_homes) {
            if let Some(home) = self.home(id) {
                home.dirty = false;
            }
            self.flush(id, fx);
        }
    }

    /// Forgets revocations that are over, and gives back what a burst left in the tables. Call it now
    /// and then.
    pub fn sweep(&mut self, now: Now) {
        self.revoked.sweep(now);
        self.locals.shrink(Local::shrink);
        self.homes.shrink(Home::shrink);
        self.sessions.shrink();
        self.groups.shrink();
        self.timers.shrink();
    }

    /// Totals and gauges of this moment.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        let done = self.pool.counts();
        counters.deflated_messages = done.deflated.messages;
        counters.deflated_plain_bytes = done.deflated.plain_bytes;
        counters.deflated_bytes = done.deflated.compressed_bytes;
        counters.inflated_messages = done.inflated.messages;
        counters.inflated_plain_bytes = done.inflated.plain_bytes;
        counters.inflated_bytes = done.inflated.compressed_bytes;
        counters.connections = self.open;
        counters.revocations = self.revoked.len() as u64;
        counters.rooms = self.homes.len() as u64;
        counters.members = self.homes.iter().map(|(_, home)| home.count()).sum();
        (counters.behind, counters.lag) = self.behind_and_lag();
        counters
    }

    /// Connections, those included that are being closed.
    #[must_use]
    pub fn open_count(&self) -> u64 {
        self.open
    }

    /// With which code a connection ends: the one that was sent or received, 1006 for none so far.
    #[must_use]
    pub fn close_code(&self, conn: ConnId) -> Option<u16> {
        let connection = self.connections.get(conn.index as usize)?.as_deref()?;
        (connection.generation == conn.generation).then_some(connection.close_code)
    }

    /// Whether a room's home is here and in use, so that its log must not be forgotten.
    #[must_use]
    pub fn is_home(&self, room: &RoomName) -> bool {
        self.homes.find(room).is_some()
    }

    // The table of connections.

    pub(crate) fn connection(&mut self, conn: ConnId) -> Option<&mut Connection> {
        let stale = self.planted.is(Fault::StaleGeneration);
        let connection = self.connections.get_mut(conn.index as usize)?.as_deref_mut()?;
        (connection.generation == conn.generation || stale).then_some(connection)
    }

    pub(crate) fn is_open(&mut self, conn: ConnId) -> bool {
        self.connection(conn).is_some_and(|connection| connection.phase == Phase::Open)
    }

    /// The connections that have a session, by index.
    pub(crate) fn each_open(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.each_connection().filter(|(_, connection)| connection.phase == Phase::Open)
    }

    /// All connections, by index.
    pub(crate) fn each_connection(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        self.connections.iter().enumerate().filter_map(|(index, slot)| {
            let connection = slot.as_deref()?;
            let conn = ConnId { index: index as u32, generation: connection.generation };
            Some((conn, connection))
        })
    }

    fn all_connections(&self) -> Vec<ConnId> {
        let id = |(index, slot): (usize, &Option<Box<Connection>>)| {
            let generation = slot.as_ref()?.generation;
            Some(ConnId { index: index as u32, generation })
        };
        self.connections.iter().enumerate().filter_map(id).collect()
    }

    // Sending.

    /// A message as one WebSocket frame.
    pub(crate) fn frame(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.text.clear();
        write(&mut self.text);
        let mut out = Vec::with_capacity(self.text.len() + 10);
        frame::encode(Opcode::Text, &self.text, &mut out);
        Bytes::from(out)
    }

    /// Queues a frame for one connection, compressed if that was agreed on; whoever it puts over the
    /// bound is not read until it has drained.
    ///
    /// What a connection is sent this way is bounded by what it asked for, and it cannot ask while
    /// it is not read; deliveries check the bound first.
    pub(crate) fn send(&mut self, conn: ConnId, frame: Bytes, now: Now, fx: &mut impl Effects) {
        if self.connection(conn).is_some_and(|connection| connection.may_send()) {
            let frame = self.compress(conn, frame);
            self.queue(conn, frame, now, fx);
        }
    }

    /// Does what [`Self::send`] does, with the frame as it is.
    pub(crate) fn queue(&mut self, conn: ConnId, frame: Bytes, now: Now, fx: &mut impl Effects) {
        if !self.connection(conn).is_some_and(|connection| connection.may_send()) {
            return;
        }
        self.counters.messages_out += 1;
        self.counters.bytes_out += frame.len() as u64;
        fx.send(conn, frame);
        self.check_outbox(conn, now, fx);
    }

    /// Sends a message back.
    fn echo(
        &mut self,
        conn: ConnId,
        opcode: Opcode,
        payload: &[u8],
        out: &mut Vec<u8>,
        fx: &mut impl Effects,
    ) {
        /// From here on a copy costs more than a write: measured, 64 KiB took 11 us to copy.
        const LEND_BYTES: usize = 16 << 10;
        self.counters.messages_out += 1;
        if self.compress_echo(conn, opcode, payload, out) {
            return;
        }
        if payload.len() < LEND_BYTES {
            return frame::encode(opcode, payload, out);
        }
        self.send_out(conn, out, fx);
        let mut head = [0; 10];
        let size = frame::encode_header(opcode, payload.len(), &mut head);
        self.counters.bytes_out += (size + payload.len()) as u64;
        fx.lend(conn, &head[..size], payload);
    }

    /// Queues what the WebSocket layer or the echo wrote.
    fn send_out(&mut self, conn: ConnId, out: &mut Vec<u8>, fx: &mut impl Effects) {
        /// From here on the buffer is given away instead of copied.
        const COPY_MAX: usize = 4 << 10;
        /// The buffer is kept up to this size.
        const KEPT_MAX: usize = 256 << 10;
        if out.is_empty() {
            return;
        }
        self.counters.bytes_out += out.len() as u64;
        // What was compressed into the buffer has left it much too large for what is in it.
        let loose = out.capacity() / 2 > out.len();
        let chunk = if out.len() > COPY_MAX && !loose {
            Bytes::from(std::mem::take(out))
        } else {
            let chunk = Bytes::copy_from_slice(out);
            out.clear();
            out.shrink_to(KEPT_MAX);
            chunk
        };
        fx.send(conn, chunk);
    }

    fn unicast(&mut self, conn: ConnId, frame: Bytes, now: Now, fx: &mut impl Effects) {
        if fx.queued(conn) > self.config.limits.outbox_bytes {
            if let Some(connection) = self.connection(conn) {
                connection.lost_all = true;
            }
            return self.slow(conn, now, fx);
        }
        self.counters.deliveries += 1;
        self.send(conn, frame, now, fx);
    }

    fn check_outbox(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        let queued = fx.queued(conn);
        if queued > self.config.limits.outbox_bytes {
            self.slow(conn, now, fx);
        }
    }

    /// The connection does not keep up: it is not read until it does, and closed if it never does.
    pub(crate) fn slow(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        let low = self.config.limits.outbox_bytes / 2;
        let Some(connection) = self.connection(conn) else { return };
        if connection.slow_us == 0 {
            connection.slow_us = now.mono_us.max(1);
            self.arm(conn, now);
        }
        self.pause(conn, pause::OUTBOX, fx);
        fx.want_sent(conn, low);
    }

    pub(crate) fn pause(&mut self, conn: ConnId, why: u8, fx: &mut impl Effects) {
        if why == pause::OUTBOX && self.planted.is(Fault::LostPause) {
            return;
        }
        let Some(connection) = self.connection(conn) else { return };
        let before = connection.paused;
        connection.paused |= why;
        if before == 0 {
            fx.pause_read(conn, true);
        }
        if before & why == 0 {
            self.counters.limit(pause::limit(why));
        }
    }

    pub(crate) fn unpause(&mut self, conn: ConnId, why: u8, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        let before = connection.paused;
        connection.paused &= !why;
        if before != 0 && connection.paused == 0 {
            fx.pause_read(conn, false);
        }
    }

    /// Does not read a connection that sent more than it may until that is made good.
    fn throttle(&mut self, conn: ConnId, used: usize, now: Now, fx: &mut impl Effects) {
        let rate = self.config.limits.bytes_per_s;
        let Some(connection) = self.connection(conn) else { return };
        // What is closing is read to the end, which comes soon.
        if matches!(connection.phase, Phase::Echo | Phase::Closing)
            || connection.bytes.charge(used, rate, now.mono_us).is_none()
        {
            return;
        }
        self.pause(conn, pause::RATE, fx);
        self.arm(conn, now);
    }

    // Closing.

    /// Begins the closing handshake.
    pub(crate) fn close(
        &mut self,
        conn: ConnId,
        code: u16,
        reason: &'static str,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        if matches!(connection.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        connection.close_code = code;
        let reading = connection.reading;
        self.set_phase(conn, Phase::Closing);
        self.mute(conn);
        if reading {
            self.close = Some((code, reason));
        } else {
            self.send_close(conn, code, reason, now, fx);
        }
    }

    fn send_close(
        &mut self,
        conn: ConnId,
        code: u16,
        reason: &str,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let close_us = self.config.limits.close_ms * 1_000;
        let Some(connection) = self.connection(conn) else { return };
        connection.deadline_us = now.mono_us + close_us;
        let mut out = Vec::new();
        let code = CloseCode::new(code).expect("our own codes are valid");
        // A connection that is closed already has nothing more to say.
        let _ = connection.websocket.close(code, reason, &mut out);
        if connection.paused != 0 {
            // The answer must be read.
            connection.paused = 0;
            fx.pause_read(conn, false);
        }
        self.counters.bytes_out += out.len() as u64;
        fx.send(conn, Bytes::from(out));
        self.arm(conn, now);
    }

    /// The peer closed, or broke a rule; the answer is in what will be sent.
    fn end(&mut self, conn: ConnId, code: CloseCode, by_peer: bool) {
        let Some(connection) = self.connection(conn) else { return };
        if connection.phase != Phase::Closing {
            connection.close_code = code.get();
            connection.ended = by_peer && code == CloseCode::NORMAL;
        }
        self.set_phase(conn, Phase::Closed);
    }

    /// Moves a connection on in its life, and keeps count of how many are where.
    pub(crate) fn set_phase(&mut self, conn: ConnId, phase: Phase) {
        let Some(connection) = self.connection(conn) else { return };
        let before = std::mem::replace(&mut connection.phase, phase);
        self.counters.phase(before, -1);
        self.counters.phase(phase, 1);
    }

    // Time.

    /// Sets the connection's timer for its earliest deadline.
    pub(crate) fn arm(&mut self, conn: ConnId, now: Now) {
        let due_us = self.due(conn, now);
        let Some(connection) = self.connection(conn) else { return };
        if due_us < connection.armed_us {
            connection.armed_us = due_us;
            self.timers.set(due_us, Timer::Connection(conn));
        }
    }

    /// When something has to be done about the connection at the latest.
    fn due(&mut self, conn: ConnId, now: Now) -> u64 {
        let heartbeat = self.config.heartbeat;
        let grace_us = self.config.limits.slow_grace_ms * 1_000;
        let Some(connection) = self.connection(conn) else { return u64::MAX };
        let mut due_us = u64::MAX;
        if connection.deadline_us > 0 {
            due_us = due_us.min(connection.deadline_us);
        }
        if connection.slow_us > 0 {
            due_us = due_us.min(connection.slow_us + grace_us);
        }
        if connection.paused & pause::RATE != 0 {
            due_us = due_us.min(connection.bytes.debt_ends_us(now.mono_us).unwrap_or(now.mono_us));
        }
        if matches!(connection.phase, Phase::Open | Phase::Echo) {
            due_us = due_us.min(if connection.ping_us > 0 {
                // Its answer makes the next Ping due, which may be before the timeout.
                let next_us = now.mono_us + heartbeat.interval_ms * 1_000;
                next_us.min(connection.ping_us + heartbeat.timeout_ms * 1_000)
            } else {
                connection.last_input_us + heartbeat.interval_ms * 1_000
            });
            if connection.expires_at_ms > 0 {
                let ahead_ms = if connection.refresh_told { 0 } else { REFRESH_AHEAD_MS };
                let left_ms = connection.expires_at_ms.saturating_sub(now.wall_ms + ahead_ms);
                due_us = due_us.min(now.mono_us + left_ms * 1_000);
            }
        }
        due_us
    }

    fn on_deadline(&mut self, conn: ConnId, due_us: u64, now: Now, fx: &mut impl Effects) {
        let heartbeat = self.config.heartbeat;
        let grace_us = self.config.limits.slow_grace_ms * 1_000;
        let Some(connection) = self.connection(conn) else { return };
        if connection.armed_us != due_us {
            return;
        }
        connection.armed_us = u64::MAX;
        if connection.paused & pause::RATE != 0
            && connection.bytes.debt_ends_us(now.mono_us).is_none()
        {
            self.unpause(conn, pause::RATE, fx);
        }
        let Some(connection) = self.connection(conn) else { return };
        let over = |at_us: u64| at_us > 0 && now.mono_us >= at_us;
        if over(connection.deadline_us) {
            connection.deadline_us = 0;
            if connection.phase == Phase::Closing {
                self.set_phase(conn, Phase::Closed);
                return fx.close(conn, false);
            }
            self.counters.limit("handshake");
            let refusal = Refusal::unauthenticated("no $hello in time");
            self.turn_away(conn, &refusal, close::UNAUTHENTICATED, now, fx);
        } else if connection.slow_us > 0 && over(connection.slow_us + grace_us) {
            connection.slow_us = 0;
            self.counters.limit("slow_grace");
            self.close(conn, close::SLOW_CONSUMER, "reads too slowly", now, fx);
        } else if matches!(connection.phase, Phase::Open | Phase::Echo) {
            if connection.expires_at_ms > 0 && connection.expires_at_ms <= now.wall_ms {
                self.close(conn, close::TOKEN_EXPIRED, "the token expired", now, fx);
            } else if connection.expires_at_ms > 0
                && !connection.refresh_told
                && connection.expires_at_ms <= now.wall_ms + REFRESH_AHEAD_MS
            {
                connection.refresh_told = true;
                let expires_at_ms = connection.expires_at_ms;
                let frame = self.frame(|out| codec::json::refresh(out, expires_at_ms));
                self.send(conn, frame, now, fx);
            } else if connection.paused != 0 {
                // It is we who do not listen.
                connection.last_input_us = now.mono_us;
                connection.ping_us = 0;
            } else if connection.ping_us > 0 {
                if over(connection.ping_us + heartbeat.timeout_ms * 1_000) {
                    self.close(conn, close::HEARTBEAT_MISSED, "no heartbeat", now, fx);
                }
            } else if over(connection.last_input_us + heartbeat.interval_ms * 1_000) {
                connection.ping_us = now.mono_us;
                // 140 to 380 KB, which somebody who says nothing for long can do without.
                connection.websocket.release_compressor();
                let mut out = Vec::new();
                let _ = connection.websocket.ping(&now.mono_us.to_be_bytes(), &mut out);
                fx.send(conn, Bytes::from(out));
            }
        }
        self.arm(conn, now);
    }

    fn on_pong(&mut self, conn: ConnId, payload: &[u8], now: Now) {
        let Ok(sent) = payload.try_into().map(u64::from_be_bytes) else { return };
        let timeout_us = self.config.heartbeat.timeout_ms * 1_000;
        let Some(connection) = self.connection(conn) else { return };
        // The payload comes from the peer: only what can be a time of ours counts.
        if let Some(rtt_us) = now.mono_us.checked_sub(sent).filter(|rtt_us| *rtt_us <= timeout_us) {
            connection.rtt_us = u32::try_from(rtt_us).unwrap_or(u32::MAX).max(1);
        }
    }
}

impl Connection {
    /// Frames may still be queued: no close frame was, and none waits.
    pub(crate) fn may_send(&self) -> bool {
        !matches!(self.phase, Phase::Closing | Phase::Closed)
    }

    pub(crate) fn client(&self) -> ClientId {
        let sender = self.sender.as_ref();
        sender.and_then(|sender| sender.client).expect("a session has a client id")
    }

    /// A command to this room waits for its verdict.
    pub(crate) fn is_parked(&self, room: &RoomName) -> bool {
        let waiting = self.waiting.as_ref();
        waiting.is_some_and(|w| w.parked.iter().any(|parked| parked.room == *room))
    }
}

impl Counters {
    pub(crate) fn error(&mut self, name: ErrorName) {
        *self.errors.entry(name.as_str()).or_default() += 1;
    }
}
