//! A room on a worker that has members: who is live, who reads the log, and where each stands.
//!
//! A live member gets every delivery and has no position of its own; it is the room's. A member
//! behind has one, and reads from it until it meets the room's, then is live. That one cursor
//! serves a join with replay, a resume, a slow reader, and a worker whose mailbox was full.

use crate::connection::{Membership, Seat, pause};
use crate::deflate::Form;
use crate::effects::Effects;
use crate::fault::Fault;
use crate::id::{ConnId, ConnRef, Now};
use crate::mail::{Frames, JoinBy, JoinOutcome, Mail, Outcome};
use crate::presence::wire;
use crate::shard::Shard;
use crate::timers::Timer;
use bytes::Bytes;
use clarion_protocol::{
    CommandId, Epoch, Gap, GapReason, Joined, LeftReason, Offset, Position, Reply, RoomName, codec,
};
use clarion_store::{Page, Shrink};
use clarion_websocket::{Opcode, frame};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// How long a member waits after the log could not be read, microseconds.
const REFETCH_US: u64 = 1_000_000;

/// A room with members on this worker.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) name: RoomName,
    /// Which log; `None` in a room without.
    epoch: Option<Epoch>,
    /// What live members have been sent.
    delivered: Offset,
    live: Vec<Live>,
    behind: Vec<Behind>,
    /// Reads under way, by position, with the members that wait for each.
    fetching: HashMap<Offset, Vec<ConnId>, FixedState>,
    /// Members that asked for presence.
    watchers: u32,
}

/// A member that gets every delivery.
#[derive(Clone, Copy, Debug)]
struct Live {
    conn: ConnId,
    /// Kept here, so that a delivery need not look at each of a thousand connections.
    form: Form,
}

/// A page of the log as frames, from one position on.
struct Encoded {
    frames: Frames,
    count: u64,
    last: Offset,
}

/// A member that reads the log.
#[derive(Debug)]
struct Behind {
    conn: ConnId,
    /// What it has been sent.
    after: Offset,
    pace: Pace,
}

/// What a member behind waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// A page of the log.
    Page,
    /// Its outbox to drain.
    Outbox,
    /// The room's position on this worker, which is behind its own.
    Room,
    /// A while, since the log could not be read.
    Retry,
}

/// What is said where there is no position.
const LOST: Gap = Gap { reason: GapReason::Slow, position: None, from: None, to: None };

impl Shard {
    fn find_local(&self, room: &RoomName) -> Option<u32> {
        self.locals.find(room)
    }

    /// A connection's join worked: seat it, answer, and send what is to be replayed.
    pub(crate) fn on_joined(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        id: Option<&CommandId>,
        mut outcome: JoinOutcome,
        ended: bool,
        now: Now,
        fx: &mut impl Effects,
    ) {
        if !self.is_open(conn) {
            let (room, client) = (room.clone(), outcome.client);
            let home = self.router.room_home(&room);
            let conn = ConnRef { worker: self.id, conn };
            return fx.post(home, Mail::Detach { room, client, conn, ended });
        }
        let local = self.local_at(room, outcome.position.as_ref(), now, fx);
        let page = outcome.page.take();
        let start = outcome.from - 1;
        let server = outcome.by == JoinBy::Server;
        self.take_seat(conn, local, server, outcome.watch, page.is_some().then_some(start));
        // With a full outbox the numbers have to do until it has drained.
        let all = outcome.members.as_ref().and_then(|members| members.all.as_deref());
        let late = all.is_some() && fx.queued(conn) > self.config.limits.outbox_bytes;
        if late && let Some(membership) = self.connection(conn).and_then(|c| c.membership(local)) {
            membership.stale = true;
        }
        let all = all.filter(|_| !late).map(wire);
        let joined = Joined {
            from: outcome.position.is_some().then_some(outcome.from),
            recovered: outcome.position.is_some().then_some(outcome.recovered),
            position: outcome.position,
            members: outcome.members.as_ref().map(|members| members.change(all.as_deref())),
        };
        let name = room.as_str();
        if outcome.by != JoinBy::Command {
            let frame = self.frame(|out| codec::json::joined(out, name, &joined));
            self.send(conn, frame, now, fx);
        } else if let Some(id) = id {
            let reply = Reply::Joined(&joined);
            let frame = self.frame(|out| codec::json::reply(out, id, Some(name), &reply));
            self.send(conn, frame, now, fx);
        }
        if let Some(page) = page {
            self.feed(conn, local, &page, &mut None, now, fx);
        }
        // It was allowed by the token of before.
        if !server && self.connection(conn).is_some_and(|connection| connection.refreshed) {
            self.doubt(conn, room.clone(), fx);
        }
        if server {
            self.settle_groups(conn, room, fx);
        }
    }

    /// A connection's join worked although it is seated: the seat serves on from where it is. Says
    /// what came of the join.
    pub(crate) fn stay(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        outcome: &JoinOutcome,
        now: Now,
        fx: &mut impl Effects,
    ) -> Outcome {
        self.local_at(room, outcome.position.as_ref(), now, fx);
        if outcome.by == JoinBy::Server {
            self.settle_groups(conn, room, fx);
        }
        outcome.by.already()
    }

    /// Whether a connection is in a room.
    pub(crate) fn is_seated(&mut self, conn: ConnId, room: &RoomName) -> bool {
        let Some(local) = self.find_local(room) else { return false };
        self.connection(conn).is_some_and(|connection| connection.membership(local).is_some())
    }

    /// Who of this worker is in a room.
    pub(crate) fn members_here(&self, room: &RoomName) -> Vec<ConnId> {
        let local = self.find_local(room).and_then(|local| self.locals.get(local));
        local.map(Local::everybody).unwrap_or_default()
    }

    /// The room's slot, made if need be, standing at `position`.
    fn local_at(
        &mut self,
        room: &RoomName,
        position: Option<&Position>,
        now: Now,
        fx: &mut impl Effects,
    ) -> u32 {
        let local = match self.find_local(room) {
            Some(local) => local,
            None => {
                let new = Local {
                    name: room.clone(),
                    epoch: position.map(|position| position.epoch.clone()),
                    delivered: position.map_or(0, |position| position.offset),
                    live: Vec::new(),
                    behind: Vec::new(),
                    fetching: HashMap::with_hasher(self.router.hasher()),
                    watchers: 0,
                };
                self.locals.insert(room.clone(), new)
            }
        };
        // Others in the slot may have been forgotten by the home, and deliveries with them.
        if position.is_some() {
            self.skip(local, position.cloned(), now, fx);
        }
        local
    }

    /// Seats a connection: live, or behind at `after`.
    fn take_seat(
        &mut self,
        conn: ConnId,
        local: u32,
        server: bool,
        watch: bool,
        after: Option<Offset>,
    ) {
        let form = self.form(conn);
        let Some(room) = self.locals.get_mut(local) else { return };
        let seat = match after {
            None => {
                room.live.push(Live { conn, form });
                Seat::Live(room.live.len() as u32 - 1)
            }
            Some(after) => {
                room.behind.push(Behind { conn, after, pace: Pace::Page });
                Seat::Behind(room.behind.len() as u32 - 1)
            }
        };
        room.watchers += u32::from(watch);
        let membership = Membership { local, seat, server, watch, lost: false, stale: false };
        if let Some(connection) = self.connection(conn) {
            // Most connections are in few rooms, and there are many connections.
            connection.rooms.reserve_exact(1);
            connection.rooms.push(membership);
        }
    }

    /// Takes a connection's seat away, without a word to it.
    pub(crate) fn vacate(&mut self, conn: ConnId, local: u32) {
        let Some(connection) = self.connection(conn) else { return };
        let Some(at) = connection.rooms.iter().position(|membership| membership.local == local)
        else {
            return;
        };
        let membership = connection.rooms.swap_remove(at);
        self.unseat(local, membership.seat);
        let Some(room) = self.locals.get_mut(local) else { return };
        room.watchers -= u32::from(membership.watch);
        if room.live.is_empty() && room.behind.is_empty() {
            let name = room.name.clone();
            self.locals.remove(&name);
        }
    }

    /// The room's home took a member out.
    pub(crate) fn on_removed(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        reason: LeftReason,
        now: Now,
        fx: &mut impl Effects,
    ) {
        if !self.is_open(conn) {
            return;
        }
        if let Some(local) = self.find_local(room) {
            self.vacate(conn, local);
        }
        let frame = self.frame(|out| codec::json::left(out, room.as_str(), reason));
        self.send(conn, frame, now, fx);
    }

    /// Removes a seat from its table; the one that takes its place there is told.
    fn unseat(&mut self, local: u32, seat: Seat) {
        let Some(room) = self.locals.get_mut(local) else { return };
        let moved = match seat {
            Seat::Live(slot) => {
                room.live.swap_remove(slot as usize);
                room.live.get(slot as usize).map(|live| live.conn)
            }
            Seat::Behind(slot) => {
                room.behind.swap_remove(slot as usize);
                room.behind.get(slot as usize).map(|behind| behind.conn)
            }
        };
        if let Some(moved) = moved {
            self.set_seat(moved, local, seat);
        }
    }

    /// Has deliveries pass a connection by that is being closed: "The application MUST NOT send any
    /// more data frames after sending a Close frame." RFC 6455 section 5.5.1.
    pub(crate) fn mute(&mut self, conn: ConnId) {
        let memberships = self.connection(conn).map(|c| c.rooms.clone()).unwrap_or_default();
        for membership in memberships {
            let Seat::Live(slot) = membership.seat else { continue };
            let room = self.locals.get_mut(membership.local);
            if let Some(live) = room.and_then(|room| room.live.get_mut(slot as usize)) {
                live.form = Form::Nothing;
            }
        }
    }

    fn set_seat(&mut self, conn: ConnId, local: u32, seat: Seat) {
        if let Some(membership) = self.connection(conn).and_then(|c| c.membership(local)) {
            membership.seat = seat;
        }
    }

    fn behind(&mut self, conn: ConnId, local: u32) -> Option<&mut Behind> {
        let Seat::Behind(slot) = self.connection(conn)?.membership(local)?.seat else {
            return None;
        };
        self.locals.get_mut(local)?.behind.get_mut(slot as usize)
    }

    /// Publications came for the live members.
    pub(crate) fn on_delivery(
        &mut self,
        room: &RoomName,
        epoch: Epoch,
        first: Offset,
        last: Offset,
        frames: &Frames,
        at_us: u64,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(local) = self.find_local(room) else { return };
        // Mail keeps order, so this changes nothing unless something was lost on the way.
        self.skip(local, Some(Position::new(epoch, first - 1)), now, fx);
        let bound = self.config.limits.outbox_bytes;
        let Some(room) = self.locals.get_mut(local) else { return };
        let before = std::mem::replace(&mut room.delivered, last);
        let (mut full, mut own) = (Vec::new(), Vec::new());
        let (mut sent, mut bytes) = (0, 0);
        for &Live { conn, form } in &room.live {
            if form == Form::Nothing {
                continue;
            }
            let chunk = if form == Form::Shared { frames.shared() } else { &frames.plain };
            let queued = fx.queued(conn);
            if queued > 0 && queued + chunk.len() > bound {
                full.push(conn);
                continue;
            }
            sent += 1;
            if form == Form::Own {
                own.push(conn);
                continue;
            }
            bytes += chunk.len() as u64;
            fx.send(conn, chunk.clone());
        }
        for conn in own {
            let chunk = self.compress(conn, frames.plain.clone());
            bytes += chunk.len() as u64;
            fx.send(conn, chunk);
        }
        if sent > 0 {
            fx.delivering(at_us);
        }
        self.counters.deliveries += sent * (last - before);
        self.counters.messages_out += sent * (last - before);
        self.counters.bytes_out += bytes;
        for conn in full {
            self.counters.fell_behind += 1;
            self.fall_behind(conn, local, before, Pace::Outbox);
            self.slow(conn, now, fx);
        }
    }

    fn fall_behind(&mut self, conn: ConnId, local: u32, after: Offset, pace: Pace) {
        let Some(membership) = self.connection(conn).and_then(|c| c.membership(local)) else {
            return;
        };
        let seat = membership.seat;
        self.unseat(local, seat);
        let Some(room) = self.locals.get_mut(local) else { return };
        room.behind.push(Behind { conn, after, pace });
        let slot = room.behind.len() as u32 - 1;
        self.set_seat(conn, local, Seat::Behind(slot));
    }

    fn go_live(&mut self, conn: ConnId, local: u32) {
        let Some(membership) = self.connection(conn).and_then(|c| c.membership(local)) else {
            return;
        };
        let seat = membership.seat;
        self.unseat(local, seat);
        let form = self.form(conn);
        let Some(room) = self.locals.get_mut(local) else { return };
        room.live.push(Live { conn, form });
        let slot = room.live.len() as u32 - 1;
        self.set_seat(conn, local, Seat::Live(slot));
    }

    /// Lets a member behind take its next step.
    pub(crate) fn advance(&mut self, conn: ConnId, local: u32, now: Now, fx: &mut impl Effects) {
        let low = self.config.limits.outbox_bytes / 2;
        let Some(after) = self.behind(conn, local).map(|behind| behind.after) else { return };
        let Some(room) = self.locals.get(local) else { return };
        let pace = if after == room.delivered {
            return self.go_live(conn, local);
        } else if after > room.delivered {
            Pace::Room
        } else if fx.queued(conn) > low {
            Pace::Outbox
        } else {
            Pace::Page
        };
        if let Some(behind) = self.behind(conn, local) {
            behind.pace = pace;
        }
        match pace {
            Pace::Outbox => self.slow(conn, now, fx),
            Pace::Page => self.fetch(conn, local, after, fx),
            Pace::Room | Pace::Retry => {}
        }
    }

    fn fetch(&mut self, conn: ConnId, local: u32, after: Offset, fx: &mut impl Effects) {
        let worker = self.id;
        let Some(room) = self.locals.get_mut(local) else { return };
        let Some(epoch) = room.epoch.clone() else { return };
        let waiting = room.fetching.entry(after).or_default();
        waiting.push(conn);
        if waiting.len() == 1 {
            let room = room.name.clone();
            let home = self.router.room_home(&room);
            fx.post(home, Mail::Fetch { room, worker, epoch, after });
        }
    }

    /// A page came for the members that stood at `after`.
    pub(crate) fn on_page(
        &mut self,
        room: &RoomName,
        after: Offset,
        page: Option<Page>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(local) = self.find_local(room) else { return };
        let Some(room) = self.locals.get_mut(local) else { return };
        let waiting = room.fetching.remove(&after).unwrap_or_default();
        let page = page.filter(|page| Some(&page.standing.epoch) == room.epoch.as_ref());
        let mut encoded = None;
        for conn in waiting {
            let Some(behind) = self.behind(conn, local) else { continue };
            if behind.after != after || behind.pace != Pace::Page {
                continue;
            }
            match &page {
                Some(page) => self.feed(conn, local, page, &mut encoded, now, fx),
                None => {
                    behind.pace = Pace::Retry;
                    self.timers.set(now.mono_us + REFETCH_US, Timer::Refetch(conn, local));
                }
            }
        }
    }

    pub(crate) fn refetch(&mut self, conn: ConnId, local: u32, now: Now, fx: &mut impl Effects) {
        if self.behind(conn, local).is_some_and(|behind| behind.pace == Pace::Retry) {
            self.advance(conn, local, now, fx);
        }
    }

    /// Sends a member behind its part of a page, which is encoded for the first of those that stand
    /// at the same position.
    fn feed(
        &mut self,
        conn: ConnId,
        local: u32,
        page: &Page,
        encoded: &mut Option<Encoded>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(mut after) = self.behind(conn, local).map(|behind| behind.after) else { return };
        let Some(room) = self.locals.get(local) else { return };
        let name = room.name.clone();
        let standing = &page.standing;
        if standing.first > after + 1 {
            let (from, to) = (Some(after + 1), Some(standing.first - 1));
            after = standing.first - 1;
            let position = Some(Position::new(standing.epoch.clone(), after));
            self.send_gap(
                conn,
                &name,
                &Gap { reason: GapReason::Trimmed, position, from, to },
                now,
                fx,
            );
        }
        let encoded = encoded.get_or_insert_with(|| self.encode_page(&name, page, after));
        if self.form(conn) == Form::Shared && encoded.frames.shared.is_none() {
            encoded.frames = self.frames(encoded.frames.plain.clone(), true);
        }
        if let Some(behind) = self.behind(conn, local) {
            behind.after = encoded.last;
        }
        if encoded.count > 0 {
            self.counters.deliveries += encoded.count;
            self.counters.messages_out += encoded.count - 1;
            self.send_frames(conn, &encoded.frames, now, fx);
        }
        self.advance(conn, local, now, fx);
    }

    /// What a page has for members that stand at `after`: as many bytes as were asked for.
    ///
    /// The log counts bytes of what it keeps, and small publications are many times as long once
    /// they are delivered; what is left over is read again.
    fn encode_page(&mut self, room: &RoomName, page: &Page, after: Offset) -> Encoded {
        let bytes = self.fetch_bytes();
        let mut plain = Vec::new();
        let (mut count, mut last) = (0, after);
        for (offset, publication) in &page.publications {
            if *offset != last + 1 {
                continue;
            }
            if plain.len() >= bytes && count > 0 {
                break;
            }
            self.text.clear();
            let place = Some((&page.standing.epoch, *offset));
            codec::json::publication(&mut self.text, room.as_str(), place, publication);
            frame::encode(Opcode::Text, &self.text, &mut plain);
            last = *offset;
            count += 1;
        }
        Encoded { frames: Frames { plain: Bytes::from(plain), shared: None }, count, last }
    }

    /// Makes `position` the room's on this worker, for whatever reason it is not; a `None` says that
    /// something was lost in a room without log.
    pub(crate) fn on_skip(
        &mut self,
        room: &RoomName,
        position: Option<Position>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        if *room == RoomName::all() {
            for conn in self.open_connections() {
                self.send_gap(conn, room, &LOST, now, fx);
            }
        } else if let Some(local) = self.find_local(room) {
            self.skip(local, position, now, fx);
        }
    }

    fn skip(&mut self, local: u32, position: Option<Position>, now: Now, fx: &mut impl Effects) {
        let Some(room) = self.locals.get_mut(local) else { return };
        let Some(position) = position else {
            let (name, members) = (room.name.clone(), room.everybody());
            for conn in members {
                self.send_gap(conn, &name, &LOST, now, fx);
            }
            return;
        };
        let same_log = room.epoch.as_ref() == Some(&position.epoch);
        if same_log && room.delivered == position.offset {
            return;
        }
        let before = std::mem::replace(&mut room.delivered, position.offset);
        let members = room.everybody();
        if same_log {
            for Live { conn, .. } in std::mem::take(&mut room.live) {
                // The table is empty now, so the seat in it need not be given back.
                let Some(room) = self.locals.get_mut(local) else { return };
                room.behind.push(Behind { conn, after: before, pace: Pace::Retry });
                let slot = room.behind.len() as u32 - 1;
                self.set_seat(conn, local, Seat::Behind(slot));
            }
            for conn in members {
                let pace = self.behind(conn, local).map(|behind| behind.pace);
                if matches!(pace, Some(Pace::Retry | Pace::Room)) {
                    self.advance(conn, local, now, fx);
                }
            }
            return;
        }
        // Another log: nobody's position means anything any more, and everybody starts anew.
        room.epoch = Some(position.epoch.clone());
        room.fetching.clear();
        let name = room.name.clone();
        let position = Some(position);
        let gap = Gap { reason: GapReason::Epoch, position, from: None, to: None };
        for conn in members {
            if self.behind(conn, local).is_some() {
                self.go_live(conn, local);
            }
            self.send_gap(conn, &name, &gap, now, fx);
        }
    }

    /// A message without offset came for all members.
    pub(crate) fn on_unlogged(
        &mut self,
        room: &RoomName,
        except: Option<ConnId>,
        mut frame: Frames,
        at_us: u64,
        now: Now,
        fx: &mut impl Effects,
    ) {
        fx.delivering(at_us);
        let bound = self.config.limits.outbox_bytes;
        let (members, local) = if *room == RoomName::all() {
            // Its home only knows of its own worker's connections how they take it.
            if frame.shared.is_none() && self.takers > 0 {
                frame = self.frames(frame.plain, true);
            }
            (self.open_connections(), None)
        } else {
            let Some(local) = self.find_local(room) else { return };
            (self.locals[local].everybody(), Some(local))
        };
        for conn in members {
            if except == Some(conn) || self.form(conn) == Form::Nothing {
                continue;
            }
            let queued = fx.queued(conn);
            if queued == 0 || queued + frame.plain.len() <= bound {
                if self.take_lost(conn, local) {
                    // Said before anything that follows what was lost.
                    self.send_gap(conn, room, &LOST, now, fx);
                }
                self.counters.deliveries += 1;
                self.send_frames(conn, &frame, now, fx);
                continue;
            }
            let logged = local.is_some_and(|local| self.locals[local].epoch.is_some());
            let Some(connection) = self.connection(conn) else { continue };
            match local {
                None => connection.lost_all = true,
                // Where there is a log, a gap would speak of it; what bypasses it may get lost.
                Some(_) if logged => {}
                Some(local) => {
                    if let Some(membership) = connection.membership(local) {
                        membership.lost = true;
                    }
                }
            }
            self.slow(conn, now, fx);
        }
    }

    /// Whether the connection is still to be told of a loss, in a room or among what goes to all. Only
    /// one whose outbox has not drained since can be.
    fn take_lost(&mut self, conn: ConnId, local: Option<u32>) -> bool {
        let Some(connection) = self.connection(conn) else { return false };
        if connection.paused & pause::OUTBOX == 0 {
            return false;
        }
        match local {
            None => std::mem::take(&mut connection.lost_all),
            Some(local) => {
                connection.membership(local).is_some_and(|seat| std::mem::take(&mut seat.lost))
            }
        }
    }

    /// Presence changed: tell the members that asked.
    pub(crate) fn on_presence(
        &mut self,
        room: &RoomName,
        frame: &Frames,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let bound = self.config.limits.outbox_bytes;
        let Some(local) = self.find_local(room) else { return };
        for conn in self.locals[local].everybody() {
            let Some(membership) = self.connection(conn).and_then(|c| c.membership(local)) else {
                continue;
            };
            if !membership.watch {
                continue;
            }
            if fx.queued(conn) > bound {
                membership.stale = true;
                self.slow(conn, now, fx);
            } else {
                self.send_frames(conn, frame, now, fx);
            }
        }
    }

    /// The members that a connection was owed. They may be more than its outbox has room for, as in
    /// several rooms at once: then it is owed them still.
    pub(crate) fn on_roster(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        frame: Bytes,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let full = fx.queued(conn) > self.config.limits.outbox_bytes;
        let Some(local) = self.find_local(room) else { return };
        let Some(membership) = self.connection(conn).and_then(|c| c.membership(local)) else {
            return;
        };
        membership.stale = full;
        if full {
            self.slow(conn, now, fx);
        } else {
            self.send(conn, frame, now, fx);
        }
    }

    /// A connection's outbox has drained: pay what it is owed and let its cursors go on.
    pub(crate) fn pay(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        let lost_wake_up = self.planted.is(Fault::LostWakeUp);
        let worker = self.id;
        let Some(connection) = self.connection(conn) else { return };
        let memberships = connection.rooms.clone();
        let mut lost = Vec::new();
        if std::mem::take(&mut connection.lost_all) {
            lost.push(RoomName::all());
        }
        for membership in &mut connection.rooms {
            (membership.lost, membership.stale) = (false, false);
        }
        for membership in memberships {
            let Some(room) = self.locals.get(membership.local) else { continue };
            let room = room.name.clone();
            if membership.stale {
                let (home, conn) = (self.router.room_home(&room), ConnRef { worker, conn });
                fx.post(home, Mail::Roster { room: room.clone(), conn });
            }
            if membership.lost {
                lost.push(room);
            }
            if !lost_wake_up
                && self.behind(conn, membership.local).is_some_and(|b| b.pace == Pace::Outbox)
            {
                self.advance(conn, membership.local, now, fx);
            }
        }
        for room in lost {
            self.send_gap(conn, &room, &LOST, now, fx);
        }
    }

    /// How many publications a connection is behind, over all its rooms.
    pub(crate) fn lag(&self, memberships: &[Membership]) -> u64 {
        let lag = |membership: &Membership| {
            let room = self.locals.get(membership.local)?;
            let Seat::Behind(slot) = membership.seat else { return None };
            Some(room.delivered.saturating_sub(room.behind.get(slot as usize)?.after))
        };
        memberships.iter().filter_map(lag).sum()
    }

    /// Members that read the log, over all rooms, and how many publications the last of them is
    /// behind.
    pub(crate) fn behind_and_lag(&self) -> (u64, u64) {
        self.locals.iter().fold((0, 0), |(count, lag), (_, room)| {
            let lags = room.behind.iter().map(|b| room.delivered.saturating_sub(b.after));
            (count + room.behind.len() as u64, lags.fold(lag, u64::max))
        })
    }

    fn send_gap(
        &mut self,
        conn: ConnId,
        room: &RoomName,
        gap: &Gap,
        now: Now,
        fx: &mut impl Effects,
    ) {
        if self.planted.is(Fault::SilentGap) {
            return;
        }
        self.counters.gaps += 1;
        let frame = self.frame(|out| codec::json::gap(out, room.as_str(), gap));
        self.send(conn, frame, now, fx);
    }

    fn open_connections(&self) -> Vec<ConnId> {
        self.each_open().map(|(conn, _)| conn).collect()
    }
}

impl Local {
    /// Gives back what members left that are gone.
    pub(crate) fn shrink(&mut self) {
        self.live.shrink();
        self.behind.shrink();
        self.fetching.shrink();
    }

    fn everybody(&self) -> Vec<ConnId> {
        let live = self.live.iter().map(|live| live.conn);
        live.chain(self.behind.iter().map(|behind| behind.conn)).collect()
    }
}
