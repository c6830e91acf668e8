//! A worker's loop: wait, take, tell the shard, and write once when the turn ends.

use super::clock::Clock;
use super::doorbell::Doorbell;
use super::driver::{Driver, End, Notice, Shown};
use super::injector::{Arrival, Inbound, Injector};
use super::mailbox::PostOffice;
use super::outbox::Progress;
use super::slot::{self, Stage};
use super::transport::{Got, Transport};
use clarion_engine::{ConnId, Mail, Open, Shard, WorkerId};
use clarion_protocol::close;
use mio::{Events, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// The bell's name in the poll; no connection gets so far.
pub(crate) const BELL: Token = Token(usize::MAX);
/// Bytes of one connection before it is another's turn. The buffer is the worker's, not the
/// connection's.
const SLICE_BYTES: usize = 256 << 10;
/// Bytes of all connections before the turn ends and its output is written.
const TURN_BYTES: usize = 4 << 20;
/// Rounds of mail to oneself before the turn ends.
const ROUNDS: u32 = 1_000;
/// Bytes that are read and thrown away from a connection that is being closed.
const LINGER_BYTES: u32 = 1 << 20;
/// How long to wait for the peer's end. It need only cover what is under way when ours gets there.
const LINGER_US: u64 = 1_000_000;
/// How often logs in which everything is too old are looked for.
const SWEEP_US: u64 = 60_000_000;

/// One worker: its connections, its shard, and the loop that moves bytes between them.
///
/// A turn: what the last turn left, mail, arrivals, sockets that can be read, timers; then the
/// shard gathers, mail to itself is handled until there is none, mail to others goes out with one
/// lock for each, and every connection that has something gets one write.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) poll: Poll,
    pub(crate) bell: Arc<Doorbell>,
    pub(crate) office: Arc<PostOffice>,
    pub(crate) injector: Arc<Injector>,
    pub(crate) idle: Arc<tokio::sync::Notify>,
    pub(crate) clock: Clock,
    pub(crate) shard: Shard,
    pub(crate) driver: Driver,
    pub(crate) buffer: Box<[u8]>,
    /// What comes encrypted, before it is decrypted into `buffer`.
    pub(crate) records: Box<[u8]>,
    pub(crate) draining: bool,
    pub(crate) sweep_at: u64,
    /// When the last turn ended.
    pub(crate) ended_us: u64,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Go,
    Stop,
}

impl Worker {
    /// What every connection of a worker is read into.
    pub(crate) fn buffer() -> Box<[u8]> {
        vec![0; SLICE_BYTES].into()
    }

    /// Runs until it is told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        let (mut mail, mut items, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            self.wait(&mut events);
            self.driver.now = self.clock.now();
            self.driver.meter.turn_began(self.driver.now.mono_us);
            self.tell_notices();
            if self.bell.answer() {
                self.office.take(self.driver.id, &mut mail);
                mail.drain(..).for_each(|item| self.take_mail(item));
                self.injector.take(&mut items);
                for item in items.drain(..) {
                    if self.take_item(item) == Flow::Stop {
                        return;
                    }
                }
            }
            self.driver.outgoing.rooms(&mut rooms);
            rooms.drain(..).for_each(|to: WorkerId| {
                self.shard.on_mail_room(to, self.driver.now, &mut self.driver);
            });
            for event in &events {
                self.take_event(event);
            }
            self.read_ready();
            self.tick();
            self.settle();
            self.driver.outgoing.flush(&self.driver.meter);
            self.write_dirty();
            self.measure();
        }
    }

    /// Everything is written: notes how long it took.
    fn measure(&mut self) {
        let driver = &mut self.driver;
        self.ended_us = self.clock.mono_us();
        for read_us in driver.deliveries.drain(..) {
            driver.meter.deliveries.observe_us(self.ended_us.saturating_sub(read_us));
        }
        let length_us = self.ended_us.saturating_sub(driver.now.mono_us);
        driver.meter.turn_ended(length_us, driver.chunks.bytes());
    }

    /// Sleeps until something happens; not at all if something is left to do.
    fn wait(&mut self, events: &mut Events) {
        let driver = &self.driver;
        let busy = !(driver.ready.is_empty() && driver.notices.is_empty() && driver.own.is_empty());
        let timeout = if busy || !self.bell.park() {
            Some(Duration::ZERO)
        } else {
            self.next_deadline().map(|at| Duration::from_micros(at.saturating_sub(self.ended_us)))
        };
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            // mio leaves the events of the last turn in place.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
            Err(error) => panic!("the poll failed: {error}"),
        }
        self.bell.unpark();
    }

    fn next_deadline(&self) -> Option<u64> {
        let flushing = self.driver.flushing.front().map(|(at, _)| *at);
        let lingering = self.driver.lingering.front().map(|(at, _)| *at);
        let all = [self.shard.next_deadline(), flushing, lingering, Some(self.sweep_at)];
        all.into_iter().flatten().min()
    }

    fn tell_notices(&mut self) {
        for notice in std::mem::take(&mut self.driver.notices) {
            let now = self.driver.now;
            match notice {
                Notice::Sent(conn) => self.shard.on_sent(conn, now, &mut self.driver),
                Notice::Closed(conn, end) => {
                    let (worker, code) = (self.driver.id.0, self.shard.close_code(conn));
                    tracing::info!(worker, conn = %Shown(conn), code, by = %end, "connection closed");
                    if let Some(admission) = self.driver.admissions.get(&conn)
                        && code.is_some_and(is_strike)
                    {
                        admission.strike();
                    }
                    self.shard.on_close(conn, now, &mut self.driver);
                    self.driver.release(conn);
                    self.say_if_idle();
                }
            }
        }
    }

    fn say_if_idle(&self) {
        if self.draining && self.driver.slots.count() == 0 {
            self.idle.notify_one();
        }
    }

    fn take_mail(&mut self, mail: Mail) {
        self.shard.on_mail(mail, self.driver.now, &mut self.driver);
    }

    fn take_item(&mut self, item: Inbound) -> Flow {
        match item {
            Inbound::Arrival(arrival) => self.take_arrival(*arrival),
            Inbound::Mail(mail) => self.take_mail(mail),
            Inbound::Drain => {
                self.draining = true;
                self.shard.on_shutdown(self.driver.now, &mut self.driver);
                self.say_if_idle();
            }
            Inbound::Stop => return Flow::Stop,
        }
        Flow::Go
    }

    fn take_arrival(&mut self, arrival: Arrival) {
        let Arrival {
            stream,
            read,
            endpoint,
            deflate,
            hello,
            peer,
            credentials,
            guests,
            seat,
            admission,
        } = arrival;
        let mut transport = match Transport::new(stream) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::debug!(worker = self.driver.id.0, %peer, %error, "connection lost");
                return;
            }
        };
        let conn = self.driver.slots.insert(guests);
        if let Err(error) = transport.register(self.poll.registry(), slot::token(conn)) {
            self.driver.slots.release(conn);
            tracing::error!(worker = self.driver.id.0, %peer, %error, "a socket cannot be watched");
            return;
        }
        self.driver.slots.get(conn).expect("just inserted").transport = Some(transport);
        seat.settle();
        if let Some(admission) = admission {
            self.driver.admissions.insert(conn, admission);
        }
        tracing::info!(worker = self.driver.id.0, conn = %Shown(conn), %peer, "connection opened");
        let now = self.driver.now;
        let open = Open { conn, endpoint, deflate, hello, peer, credentials };
        self.shard.on_open(open, now, &mut self.driver);
        // A request's head and what came with it fit into the front's buffer, which is smaller.
        for piece in read.chunks(SLICE_BYTES) {
            let data = &mut self.buffer[..piece.len()];
            data.copy_from_slice(piece);
            let open = |s: &slot::Slot| s.stage == Stage::Open;
            if self.driver.slots.peek(conn).is_some_and(open) {
                self.shard.on_bytes(conn, data, now, &mut self.driver);
            }
        }
        let driver = &mut self.driver;
        if let Some(slot) = driver.slots.get(conn)
            && slot.transport.as_ref().is_some_and(Transport::is_fresh)
        {
            slot.readable = true;
            Driver::mark_ready(&mut driver.ready, conn, slot);
        }
        if self.draining {
            // Its handshake was under way when we began; to the others this says nothing new.
            self.shard.on_shutdown(now, &mut self.driver);
        }
    }

    fn take_event(&mut self, event: &mio::event::Event) {
        if event.token() == BELL {
            return;
        }
        let conn = slot::conn(event.token());
        let driver = &mut self.driver;
        let Some(slot) = driver.slots.get(conn) else { return };
        if event.is_writable() {
            slot.writable = true;
            if slot.wants_write() {
                Driver::mark_dirty(&mut driver.dirty, conn, slot);
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            slot.readable = true;
            slot.hung_up |= event.is_read_closed() || event.is_error();
            if !slot.paused {
                Driver::mark_ready(&mut driver.ready, conn, slot);
            } else if event.is_error() || event.is_write_closed() {
                // It will not be read before it is unpaused, so nothing else would tell.
                self.finish(conn, End::Error(io::ErrorKind::ConnectionReset));
            }
        }
    }

    /// Gives every connection that can be read one slice, until the turn has had enough.
    fn read_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.driver.ready);
        let mut read = 0;
        let mut served = 0;
        for &conn in &ready {
            if read >= TURN_BYTES {
                break;
            }
            served += 1;
            read += self.read(conn);
        }
        // Those that were not served come first in the next turn; then those with more to read.
        ready.drain(..served);
        ready.append(&mut self.driver.ready);
        self.driver.ready = ready;
    }

    /// Reads one slice and gives it to the shard; the number of its bytes.
    fn read(&mut self, conn: ConnId) -> usize {
        let Some(slot) = self.driver.slots.get(conn) else { return 0 };
        slot.listed = false;
        match slot.stage {
            Stage::Open if slot.paused => return 0,
            Stage::Open => {}
            Stage::Lingering => {
                self.discard(conn);
                return 0;
            }
            Stage::Flushing { .. } | Stage::Closed => return 0,
        }
        let Some(transport) = &mut slot.transport else { return 0 };
        match transport.receive(&mut self.buffer, &mut self.records) {
            Ok(Got::End) => {
                slot.readable = false;
                self.driver.start_flushing(conn, true);
                0
            }
            Ok(Got::Bytes { size, more }) => {
                // The end may be waiting behind what was read, which is reported no second time.
                slot.readable = more || slot.hung_up;
                let answers = transport.wants_write();
                let now = self.driver.now;
                if size > 0 {
                    let data = &mut self.buffer[..size];
                    self.shard.on_bytes(conn, data, now, &mut self.driver);
                }
                let driver = &mut self.driver;
                if let Some(slot) = driver.slots.get(conn) {
                    if slot.readable && !slot.paused {
                        Driver::mark_ready(&mut driver.ready, conn, slot);
                    }
                    if answers {
                        Driver::mark_dirty(&mut driver.dirty, conn, slot);
                    }
                }
                size
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slot.readable = false;
                0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                Driver::mark_ready(&mut self.driver.ready, conn, slot);
                0
            }
            // The session is broken, and has told the peer why, who is to read it.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.driver.chunks.clear(&mut slot.queue);
                self.start_lingering(conn, End::Error(error.kind()));
                0
            }
            Err(error) => {
                self.driver.drop_transport(conn, End::Error(error.kind()));
                0
            }
        }
    }

    /// Reads what the peer still sends after our end, and throws it away.
    fn discard(&mut self, conn: ConnId) {
        let Some(slot) = self.driver.slots.get(conn) else { return };
        let Some(transport) = &mut slot.transport else { return };
        match transport.discard(&mut self.buffer) {
            Ok(size) if size > 0 && size <= slot.linger_bytes as usize => {
                slot.linger_bytes -= size as u32;
                Driver::mark_ready(&mut self.driver.ready, conn, slot);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                Driver::mark_ready(&mut self.driver.ready, conn, slot);
            }
            Ok(_) | Err(_) => self.finish(conn, End::Server),
        }
    }

    fn finish(&mut self, conn: ConnId, end: End) {
        self.driver.drop_transport(conn, end);
        self.say_if_idle();
    }

    fn tick(&mut self) {
        let now = self.driver.now;
        if self.shard.next_deadline().is_some_and(|at| at <= now.mono_us) {
            self.shard.on_tick(now, &mut self.driver);
        }
        while let Some(conn) = pop_due(&mut self.driver.flushing, now.mono_us) {
            let lingers = |slot: &slot::Slot| slot.stage == Stage::Lingering;
            if !self.driver.slots.peek(conn).is_some_and(lingers) {
                self.finish(conn, End::Unsent);
            }
        }
        while let Some(conn) = pop_due(&mut self.driver.lingering, now.mono_us) {
            self.finish(conn, End::Server);
        }
        if self.sweep_at <= now.mono_us {
            self.sweep_at = now.mono_us + SWEEP_US;
            self.shard.sweep(now);
            let shard = &self.shard;
            self.driver.sweep(|room| shard.is_home(room));
        }
    }

    /// Lets the shard gather, and handles what it posts to itself, until nothing is left.
    fn settle(&mut self) {
        let now = self.driver.now;
        for _ in 0..ROUNDS {
            self.shard.end_of_turn(now, &mut self.driver);
            if self.driver.own.is_empty() {
                return;
            }
            for mail in std::mem::take(&mut self.driver.own) {
                self.take_mail(mail);
            }
        }
    }

    fn write_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.driver.dirty);
        for conn in dirty.drain(..) {
            self.write(conn);
        }
        // Nothing above sends, so the list is still empty, and its memory can serve again.
        self.driver.dirty = dirty;
    }

    /// Writes what is queued for the connection, and goes on with closing it.
    fn write(&mut self, conn: ConnId) {
        let driver = &mut self.driver;
        let Some(slot) = driver.slots.get(conn) else { return };
        slot.dirty = false;
        let Some(transport) = &mut slot.transport else { return };
        let progress = if slot.writable {
            match driver.chunks.write(&mut slot.queue, transport) {
                Ok(Progress::Done) => flush(transport),
                other => other,
            }
        } else {
            Ok(if slot.wants_write() { Progress::Blocked } else { Progress::Done })
        };
        let progress = match progress {
            Ok(progress) => progress,
            Err(error) => {
                self.finish(conn, End::Error(error.kind()));
                return;
            }
        };
        slot.writable &= progress == Progress::Done;
        if progress == Progress::Blocked {
            driver.meter.outbox_holds(slot.queued());
        }
        if slot.sent_mark().is_some_and(|mark| slot.queued() <= mark) {
            slot.set_sent_mark(None);
            driver.notices.push(Notice::Sent(conn));
        }
        match (slot.stage, progress) {
            (Stage::Flushing { ended: true }, _) => {
                if let Some(transport) = &mut slot.transport {
                    transport.say_goodbye();
                }
                self.finish(conn, End::Peer);
            }
            (Stage::Flushing { ended: false }, Progress::Done) => {
                self.start_lingering(conn, End::Server);
            }
            (Stage::Flushing { ended: false }, Progress::Blocked)
            | (Stage::Open | Stage::Lingering | Stage::Closed, _) => {}
        }
    }

    /// Nothing more is to be written: sends our end and waits for the peer's. The shard need not
    /// wait.
    fn start_lingering(&mut self, conn: ConnId, end: End) {
        let driver = &mut self.driver;
        let Some(slot) = driver.slots.get(conn) else { return };
        let Some(transport) = &mut slot.transport else { return };
        if transport.shutdown_write().is_err() {
            self.finish(conn, end);
            return;
        }
        slot.stage = Stage::Lingering;
        driver.lingering.push_back((driver.now.mono_us + LINGER_US, conn));
        slot.linger_bytes = LINGER_BYTES;
        Driver::note_closed(&mut driver.notices, conn, slot, end);
        Driver::mark_ready(&mut driver.ready, conn, slot);
    }
}

/// Writes what the transport holds.
fn flush(transport: &mut Transport) -> io::Result<Progress> {
    match transport.flush() {
        Ok(()) => Ok(Progress::Done),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Progress::Blocked),
        Err(error) => Err(error),
    }
}

/// Whether a connection that ended so has broken a rule; see the setting `bans`.
fn is_strike(code: u16) -> bool {
    matches!(
        code,
        close::PROTOCOL_ERROR
            | close::UNSUPPORTED_DATA
            | close::INVALID_DATA
            | close::POLICY_VIOLATION
            | close::MESSAGE_TOO_BIG
            | close::ABUSE
            | close::RATE_LIMITED
    )
}

/// The next of those whose time has come.
fn pop_due(queue: &mut VecDeque<(u64, ConnId)>, now_us: u64) -> Option<ConnId> {
    let &(at, conn) = queue.front()?;
    if at > now_us {
        return None;
    }
    queue.pop_front();
    Some(conn)
}
