//! What happens to a room at its home, command by command.
//!
//! Commands of one connection to one room run in order: what waits for the store makes that
//! connection's later commands to the room wait, publications excepted, which the store keeps in
//! order itself. Whatever tells a worker a position is posted after the deliveries up to it.

use crate::effects::Effects;
use crate::fault::Fault;
use crate::home::{Asker, Busy, Home, Log, PendingAppend};
use crate::id::{ConnRef, Now, WorkerId};
use crate::log::token;
use crate::mail::{ApiAnswer, Mail, Origin, Outcome, Place, RoomCommand, What};
use crate::router::addressed_session;
use crate::shard::Shard;
use crate::timers::{HomeId, Timer};
use bytes::Bytes;
use clarion_protocol::{
    ClientId, Epoch, Offset, Position, Publication, Refusal, RoomKind, RoomName, codec,
};
use clarion_store::{Appended, Key, Request, StoreError};
use clarion_websocket::{Opcode, frame};
use std::sync::Arc;

/// Deliveries of one room are posted when they reach so many bytes, or when the turn ends.
const BATCH_BYTES: usize = 64 << 10;
/// How long a home without members is kept, microseconds.
const IDLE_US: u64 = 30_000_000;
/// What an envelope needs beside type, payload, sender and room, bytes; no less than it does.
const ENVELOPE_BYTES: usize = 320;

impl Shard {
    /// A command arrived at what should be the home of its room.
    pub(crate) fn on_command(&mut self, command: RoomCommand, now: Now, fx: &mut impl Effects) {
        if let Some(client) = addressed_session(&command.room) {
            return self.on_addressed(client, command, fx);
        }
        match command.what {
            What::Group { .. } => return self.order_group(command, fx),
            What::GroupUsers { .. } => return self.group_users(&command, fx),
            _ => {}
        }
        if matches!(command.room.kind(), RoomKind::All) {
            return self.on_broadcast(command, fx);
        }
        match self.open_home(&command.room, fx) {
            Some(id) => self.enter(id, command, now, fx),
            None => {
                self.counters.limit("homes");
                let refusal = Refusal::unavailable("this server has as many rooms as it may have")
                    .with_limit(self.config.limits.homes as u64);
                self.tell(asker(&command), &command.room, Outcome::Refused(refusal), fx);
            }
        }
    }

    fn open_home(&mut self, room: &RoomName, fx: &mut impl Effects) -> Option<HomeId> {
        if let Some(id) = self.find_home(room) {
            return Some(id);
        }
        if self.homes.len() >= self.config.limits.homes {
            return None;
        }
        self.home_generation = self.home_generation.wrapping_add(1);
        let settings = self.config.room(room);
        let (logged, durable) = (settings.log.is_some(), settings.durable);
        let home = Home::new(room.clone(), self.home_generation, settings, &self.router.hasher());
        let index = self.homes.insert(room.clone(), home);
        let id = HomeId { index, generation: self.home_generation };
        if logged {
            let fresh = new_epoch(fx);
            let open = Request::Open { token: token(id), room: room.clone(), fresh };
            fx.submit(durable, open);
        }
        Some(id)
    }

    /// Runs a command, or lets it wait for its turn.
    pub(crate) fn enter(
        &mut self,
        id: HomeId,
        command: RoomCommand,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.home(id) else { return };
        if let Log::Opening(waiting) = &mut home.log {
            waiting.push(command);
            return;
        }
        if let Origin::Connection { conn, .. } = &command.origin
            && let Some(busy) = home.busy.get_mut(conn)
            && (!busy.parked.is_empty() || busy.blocks(&command))
        {
            busy.parked.push_back(command);
            return;
        }
        self.run(id, command, now, fx);
        // Whatever it was, it may have made the home and left nobody there.
        self.check_idle(id, now);
    }

    fn run(&mut self, id: HomeId, command: RoomCommand, now: Now, fx: &mut impl Effects) {
        match &command.what {
            What::Publish { .. } => self.publish(id, command, fx),
            What::Join { .. } => self.join(id, &command, now, fx),
            What::History { .. } => self.history(id, command, fx),
            What::Leave => self.leave(id, &command, now, fx),
            What::Members { .. } => self.members(id, &command, fx),
            What::State { .. } => self.state(id, &command, now, fx),
            What::Remove { .. } => self.remove(id, &command, now, fx),
            What::Ack { .. } => self.ack(id, &command, fx),
            // Told apart before there is a home.
            What::Group { .. } | What::GroupUsers { .. } => {}
        }
    }

    /// Something of this origin's at the store is done; what waited behind it may run.
    pub(crate) fn settle(
        &mut self,
        id: HomeId,
        origin: &Origin,
        count: impl Fn(&mut Busy) -> &mut u32,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Origin::Connection { conn, .. } = origin else { return };
        if let Some(busy) = self.home(id).and_then(|home| home.busy.get_mut(conn)) {
            *count(busy) -= 1;
        }
        loop {
            let Some(home) = self.home(id) else { return };
            let Some(busy) = home.busy.get_mut(conn) else { return };
            match busy.parked.front() {
                Some(command) if !busy.blocks(command) => {
                    let command = busy.parked.pop_front().expect("there is a front");
                    self.run(id, command, now, fx);
                }
                Some(_) => return,
                None => {
                    if busy.appends == 0 && busy.reads == 0 {
                        home.busy.remove(conn);
                    }
                    return;
                }
            }
        }
    }

    // Publications.

    fn publish(&mut self, id: HomeId, command: RoomCommand, fx: &mut impl Effects) {
        let asker = asker(&command);
        let What::Publish { publication, ephemeral, echo, principal, at_us } = command.what else {
            return;
        };
        let Some(home) = self.homes.get(id.index) else { return };
        let room = home.name.clone();
        let limit = self.config.limits.delivery_bytes;
        if delivered_bytes(&room, &publication) > limit {
            self.counters.limit("delivery_bytes");
            let refusal = Refusal::too_large("payload", limit as u64);
            return self.tell(asker, &room, Outcome::Refused(refusal), fx);
        }
        if let Some(refusal) = home.settings.refuse(&publication) {
            return self.tell(asker, &room, Outcome::Refused(refusal), fx);
        }
        match (home.settings.log, ephemeral) {
            (Some(limits), false) => {
                self.append(id, asker, publication, principal, at_us, limits, fx);
            }
            _ if publication.key.is_some() => {
                self.tell(asker, &room, Outcome::Refused(Refusal::key_needs_log()), fx);
            }
            _ => {
                let except = match &asker.origin {
                    Origin::Connection { conn, .. } if !echo => Some(*conn),
                    Origin::Connection { .. } | Origin::Api(_) => None,
                };
                self.pass(id, asker, &publication, except, at_us, fx);
            }
        }
    }

    fn append(
        &mut self,
        id: HomeId,
        asker: Asker,
        publication: Arc<Publication>,
        principal: Box<str>,
        at_us: u64,
        limits: clarion_store::LogLimits,
        fx: &mut impl Effects,
    ) {
        let key = publication.key.clone().map(|key| Key { principal, key });
        let (key_race, early) =
            (self.planted.is(Fault::KeyRace), self.planted.is(Fault::EarlyAcknowledgement));
        let Some(home) = self.home(id) else { return };
        let room = home.name.clone();
        if let Origin::Connection { conn, .. } = &asker.origin {
            home.busy.entry(*conn).or_default().appends += 1;
        }
        if let Some(first) = key.as_ref().and_then(|key| home.appends.of(key))
            && !key_race
        {
            first.followers.push(asker);
            return;
        }
        let early = match &home.log {
            Log::Open { epoch, head }
                if early && matches!(asker.origin, Origin::Connection { .. }) =>
            {
                let offset = head + 1 + home.appends.len() as u64;
                Some(Position::new(epoch.clone(), offset))
            }
            _ => None,
        };
        let (token, fresh) = (token(id), new_epoch(fx));
        let (fresh, offers) = match home.offerable() {
            Some(epoch) => (epoch, true),
            None => (fresh, false),
        };
        let pending = (Arc::clone(&publication), key.clone());
        let durable = home.settings.durable;
        let room = room.clone();
        fx.submit(
            durable,
            Request::Append { token, room: room.clone(), publication, key, limits, fresh },
        );
        let members = home.count();
        let (publication, key) = pending;
        let followers = Vec::new();
        let mut pending = PendingAppend { publication, at_us, key, asker, followers, offers };
        let told = early.map(|position| {
            let origin = pending.asker.origin.clone();
            let quiet = Asker { id: None, key: None, command: None, place: Place::Command, origin };
            (std::mem::replace(&mut pending.asker, quiet), position)
        });
        let time_ms = pending.publication.time_ms;
        home.offered |= offers;
        home.appends.push(pending);
        if let Some((asker, position)) = told {
            let position = Some(position);
            let outcome = Outcome::Published { position, time_ms, duplicate: false, members };
            self.tell(asker, &room, outcome, fx);
        }
    }

    /// The store answered an append.
    pub(crate) fn on_appended(
        &mut self,
        id: HomeId,
        result: Result<Appended, StoreError>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.home(id) else { return };
        let Some(pending) = home.appends.pop() else { return };
        if pending.offers && result == Err(StoreError::Unavailable) {
            // Nothing was made under this epoch, so it may be offered again.
            home.offered = false;
        }
        let room = home.name.clone();
        let publication = &pending.publication;
        let outcome = match result {
            Ok(appended) => {
                if appended.duplicate {
                    self.reach(id, &appended, fx);
                } else {
                    self.counters.publications += 1;
                    self.place(id, &appended, publication, pending.at_us, fx);
                }
                let Appended { epoch, offset, time_ms, duplicate } = appended;
                let position = Some(Position::new(epoch, offset));
                let members = self.home(id).map_or(0, |home| home.count());
                Outcome::Published { position, time_ms, duplicate, members }
            }
            Err(StoreError::Unavailable) => {
                Outcome::Refused(Refusal::unavailable("the room's log cannot be written now"))
            }
            Err(StoreError::Unknown) => {
                self.check_log(id, fx);
                Outcome::Refused(Refusal::unavailable(
                    "it is not known whether this was kept; repeat it with the same key",
                ))
            }
        };
        let mut again = outcome.clone();
        if let Outcome::Published { duplicate, .. } = &mut again {
            *duplicate = true;
        }
        let origin = pending.asker.origin.clone();
        self.tell(pending.asker, &room, outcome, fx);
        self.settle(id, &origin, |busy| &mut busy.appends, now, fx);
        for follower in pending.followers {
            let origin = follower.origin.clone();
            self.tell(follower, &room, again.clone(), fx);
            self.settle(id, &origin, |busy| &mut busy.appends, now, fx);
        }
        self.check_idle(id, now);
    }

    /// Puts an appended publication behind those that wait to be posted.
    fn place(
        &mut self,
        id: HomeId,
        appended: &Appended,
        publication: &Publication,
        at_us: u64,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.homes.get_mut(id.index) else { return };
        let Log::Open { epoch, head } = &home.log else { return };
        if appended.epoch == *epoch && appended.offset <= *head {
            // It was found there already after an outcome was unknown; members read it.
            return;
        }
        if appended.epoch != *epoch || appended.offset != head + 1 {
            // Another log, or others appended to it: whoever is here must be told, or must read.
            let position = Position::new(appended.epoch.clone(), appended.offset - 1);
            self.move_to(id, &position, fx);
        }
        let Some(home) = self.homes.get_mut(id.index) else { return };
        let Log::Open { epoch, head } = &mut home.log else { return };
        *head = appended.offset;
        if home.workers.is_empty() {
            return;
        }
        let batch = &mut home.batch;
        if batch.frames.is_empty() {
            batch.first = appended.offset;
            batch.at_us = at_us;
        }
        batch.last = appended.offset;
        if self.planted.is(Fault::SkippedOffset)
            && appended.offset % 7 == 3
            && batch.first != batch.last
        {
            return;
        }
        let place = Some((&*epoch, appended.offset));
        encode(&mut self.text, &mut batch.frames, home.name.as_str(), place, publication);
        let full = batch.frames.len() >= BATCH_BYTES;
        if !std::mem::replace(&mut home.dirty, true) {
            self.dirty_homes.push(id);
        }
        if full {
            self.flush(id, fx);
        }
    }

    /// A repeated key may be the first that is heard of its place: what came of the publication
    /// before was never known, and members have to read it.
    fn reach(&mut self, id: HomeId, appended: &Appended, fx: &mut impl Effects) {
        let Some(home) = self.homes.get_mut(id.index) else { return };
        let Log::Open { epoch, head } = &home.log else { return };
        if appended.epoch != *epoch || appended.offset > *head {
            let position = Position::new(appended.epoch.clone(), appended.offset);
            self.move_to(id, &position, fx);
        }
    }

    /// Makes `position` the one from which live delivery goes on, for everybody.
    pub(crate) fn move_to(&mut self, id: HomeId, position: &Position, fx: &mut impl Effects) {
        self.flush(id, fx);
        let Some(home) = self.home(id) else { return };
        let Position { epoch, offset } = position.clone();
        if matches!(&home.log, Log::Open { epoch: before, .. } if *before != epoch) {
            // What the user acknowledged was of a log that is gone.
            home.acked = 0;
        }
        home.log = Log::Open { epoch, head: offset };
        let name = home.name.clone();
        for subscriber in &mut home.workers {
            subscriber.skipped = false;
            let position = Some(position.clone());
            fx.post(subscriber.worker, Mail::Skip { room: name.clone(), position });
        }
    }

    /// Delivers a publication that is not logged.
    fn pass(
        &mut self,
        id: HomeId,
        asker: Asker,
        publication: &Publication,
        except: Option<ConnRef>,
        at_us: u64,
        fx: &mut impl Effects,
    ) {
        self.counters.publications += 1;
        let Some(home) = self.homes.get(id.index) else { return };
        let (room, taken) = (home.name.clone(), home.has_takers());
        let frame =
            self.frame(|out| codec::json::publication(out, room.as_str(), None, publication));
        let frame = self.frames(frame, taken);
        let bound = self.config.limits.mailbox_bytes;
        let own = self.id;
        let Some(home) = self.homes.get_mut(id.index) else { return };
        for subscriber in &mut home.workers {
            let to = subscriber.worker;
            if subscriber.skipped || (to != own && fx.mail_queued(to) > bound) {
                if home.settings.log.is_none() && !std::mem::replace(&mut subscriber.skipped, true)
                {
                    self.skipped.push((to, id));
                    fx.want_mail_room(to);
                }
                continue;
            }
            let except = except.filter(|conn| conn.worker == to).map(|conn| conn.conn);
            let frame = frame.for_takers(subscriber.takers);
            fx.post(to, Mail::Unlogged { room: room.clone(), except, frame, at_us });
        }
        let (time_ms, members) = (publication.time_ms, home.count());
        let outcome = Outcome::Published { position: None, time_ms, duplicate: false, members };
        self.tell(asker, &room, outcome, fx);
    }

    /// To `$all`: every worker walks its own connections.
    fn on_broadcast(&mut self, command: RoomCommand, fx: &mut impl Effects) {
        let asker = asker(&command);
        let room = command.room;
        let outcome = match command.what {
            What::Publish { publication, at_us, .. } => match self
                .unlogged_frame(&room, &publication)
            {
                Err(refusal) => Outcome::Refused(refusal),
                Ok(frame) => {
                    // Who is elsewhere is not known here; a worker with takers does it by itself.
                    let frame = self.frames(frame, self.takers > 0);
                    for to in self.router.workers() {
                        if to != self.id && fx.mail_queued(to) > self.config.limits.mailbox_bytes {
                            if !self.all_skipped.contains(&to) {
                                self.all_skipped.push(to);
                                fx.want_mail_room(to);
                            }
                            continue;
                        }
                        let (room, frame) = (room.clone(), frame.clone());
                        fx.post(to, Mail::Unlogged { room, except: None, frame, at_us });
                    }
                    self.counters.publications += 1;
                    let (time_ms, members) = (publication.time_ms, self.sessions.len() as u64);
                    Outcome::Published { position: None, time_ms, duplicate: false, members }
                }
            },
            other => Outcome::Refused(no_room_for(&other)),
        };
        self.tell(asker, &room, outcome, fx);
    }

    /// To one session, by its client id: its home knows its connection.
    fn on_addressed(&mut self, client: ClientId, command: RoomCommand, fx: &mut impl Effects) {
        let asker = asker(&command);
        let room = command.room;
        let outcome = match command.what {
            What::Publish { publication, .. } => match self.unlogged_frame(&room, &publication) {
                Err(refusal) => Outcome::Refused(refusal),
                Ok(frame) => {
                    let bound = self.sessions.get(&client).map(|binding| binding.conn);
                    if let Some(ConnRef { worker, conn }) = bound {
                        fx.post(worker, Mail::Unicast { conn, frame });
                    }
                    self.counters.publications += 1;
                    let (time_ms, members) = (publication.time_ms, u64::from(bound.is_some()));
                    Outcome::Published { position: None, time_ms, duplicate: false, members }
                }
            },
            other => Outcome::Refused(no_room_for(&other)),
        };
        self.tell(asker, &room, outcome, fx);
    }

    fn unlogged_frame(
        &mut self,
        room: &RoomName,
        publication: &Publication,
    ) -> Result<Bytes, Refusal> {
        let limit = self.config.limits.delivery_bytes;
        if publication.key.is_some() {
            return Err(Refusal::key_needs_log());
        }
        if delivered_bytes(room, publication) > limit {
            self.counters.limit("delivery_bytes");
            return Err(Refusal::too_large("payload", limit as u64));
        }
        Ok(self.frame(|out| codec::json::publication(out, room.as_str(), None, publication)))
    }

    /// Posts what the room gathered to every worker that has members.
    pub(crate) fn flush(&mut self, id: HomeId, fx: &mut impl Effects) {
        let bound = self.config.limits.mailbox_bytes;
        let own = self.id;
        let Some(home) = self.homes.get_mut(id.index) else { return };
        if home.generation != id.generation || home.batch.frames.is_empty() {
            return;
        }
        let taken = home.has_takers();
        let batch = std::mem::take(&mut home.batch);
        let frames = self.frames(Bytes::from(batch.frames), taken);
        let Some(home) = self.homes.get_mut(id.index) else { return };
        let Log::Open { epoch, .. } = &home.log else { return };
        for subscriber in &mut home.workers {
            let to = subscriber.worker;
            if subscriber.skipped {
                continue;
            }
            if to != own && fx.mail_queued(to) > bound {
                self.counters.limit("mailbox_bytes");
                subscriber.skipped = true;
                self.skipped.push((to, id));
                fx.want_mail_room(to);
                continue;
            }
            fx.post(
                to,
                Mail::Delivery {
                    room: home.name.clone(),
                    epoch: epoch.clone(),
                    first: batch.first,
                    last: batch.last,
                    frames: frames.for_takers(subscriber.takers),
                    at_us: batch.at_us,
                },
            );
        }
    }

    /// There is room in a worker's mailbox again: say what it missed.
    pub(crate) fn resume_worker(&mut self, to: WorkerId, fx: &mut impl Effects) {
        let (missed, rest) =
            std::mem::take(&mut self.skipped).into_iter().partition(|(worker, _)| *worker == to);
        self.skipped = rest;
        let missed: Vec<(WorkerId, HomeId)> = missed;
        for (worker, id) in missed {
            self.catch_up_worker(id, worker, fx);
        }
        if self.all_skipped.contains(&to) {
            self.all_skipped.retain(|worker| *worker != to);
            fx.post(to, Mail::Skip { room: RoomName::all(), position: None });
        }
    }

    /// Ends a worker's skipping of a room, if it is skipped.
    pub(crate) fn catch_up_worker(&mut self, id: HomeId, worker: WorkerId, fx: &mut impl Effects) {
        self.flush(id, fx);
        let Some(home) = self.home(id) else { return };
        let position = home.position();
        let room = home.name.clone();
        let Some(subscriber) = home.subscriber(worker) else { return };
        if std::mem::replace(&mut subscriber.skipped, false) {
            fx.post(worker, Mail::Skip { room, position });
        }
    }

    // The table of homes.

    pub(crate) fn find_home(&self, room: &RoomName) -> Option<HomeId> {
        let index = self.homes.find(room)?;
        let generation = self.homes.get(index)?.generation;
        Some(HomeId { index, generation })
    }

    pub(crate) fn home(&mut self, id: HomeId) -> Option<&mut Home> {
        self.homes.get_mut(id.index).filter(|home| home.generation == id.generation)
    }

    pub(crate) fn drop_home(&mut self, id: HomeId) {
        if let Some(name) = self.home(id).map(|home| home.name.clone()) {
            self.homes.remove(&name);
        }
    }

    /// Sets the timer that forgets the home, if there is nothing to keep it for; one of an empty room
    /// that had no member is forgotten at once, or whoever asks for many rooms that are not there fills
    /// the table.
    pub(crate) fn check_idle(&mut self, id: HomeId, now: Now) {
        let Some(home) = self.home(id) else { return };
        if !home.is_idle() {
            return;
        }
        if !home.keeps_epoch() && home.position().is_none_or(|position| position.offset == 0) {
            return self.drop_home(id);
        }
        if !std::mem::replace(&mut home.idle_armed, true) {
            self.timers.set(now.mono_us + IDLE_US, Timer::Idle(id));
        }
    }

    /// A command that only asked made this home: it need not outlive the turn.
    pub(crate) fn check_idle_now(&mut self, id: HomeId) {
        if self
            .home(id)
            .is_some_and(|home| home.is_idle() && !home.idle_armed && !home.keeps_epoch())
        {
            self.drop_home(id);
        }
    }

    pub(crate) fn end_idle(&mut self, id: HomeId) {
        let Some(home) = self.home(id) else { return };
        home.idle_armed = false;
        if home.is_idle() {
            self.drop_home(id);
        }
    }

    pub(crate) fn tell(
        &mut self,
        asker: Asker,
        room: &RoomName,
        outcome: Outcome,
        fx: &mut impl Effects,
    ) {
        match asker.origin {
            Origin::Connection { conn, .. } => fx.post(
                conn.worker,
                Mail::Outcome {
                    conn: conn.conn,
                    room: room.clone(),
                    id: asker.id,
                    key: asker.key,
                    command: asker.command,
                    place: asker.place,
                    outcome,
                },
            ),
            Origin::Api(api) => {
                let answer = match outcome {
                    Outcome::Published { position, time_ms, duplicate, members } => {
                        ApiAnswer::Published { position, time_ms, duplicate, members }
                    }
                    Outcome::Refused(refusal) => ApiAnswer::Refused(refusal),
                    Outcome::History { page } => ApiAnswer::History { page },
                    Outcome::Members { members, count, users, more } => {
                        ApiAnswer::Members { members, count, users, more }
                    }
                    Outcome::Count(count) => ApiAnswer::Count(count),
                    Outcome::Users(users) => ApiAnswer::Users(users),
                    Outcome::Joined(_) | Outcome::Left | Outcome::Stated => {
                        unreachable!("the API is no member")
                    }
                };
                fx.answer(api, answer);
            }
        }
    }
}

impl Busy {
    /// Whether a command must wait for what its connection has at the store.
    fn blocks(&self, command: &RoomCommand) -> bool {
        let publish = matches!(command.what, What::Publish { .. });
        self.reads > 0 || (self.appends > 0 && !publish)
    }
}

pub(crate) fn asker(command: &RoomCommand) -> Asker {
    let key = match &command.what {
        What::Publish { publication, .. } => publication.key.clone(),
        _ => None,
    };
    let id = command.id.clone();
    // Only a failure without id needs to be named by its command.
    let name = id.is_none().then(|| command.what.command().into());
    let place = command.what.place();
    Asker { origin: command.origin.clone(), id, key, command: name, place }
}

fn no_room_for(what: &What) -> Refusal {
    match what {
        What::History { .. } => Refusal::no_history("metadata.room"),
        _ => Refusal::not_joined(),
    }
}

fn delivered_bytes(room: &RoomName, publication: &Publication) -> usize {
    let sender = publication.from.as_ref().map_or(0, |from| {
        from.user.as_ref().map_or(0, |user| user.len())
            + from.info.as_ref().map_or(0, |info| info.len())
    });
    ENVELOPE_BYTES
        + room.as_str().len()
        + publication.kind.len()
        + publication.payload.len()
        + sender
}

/// Appends a publication as a WebSocket frame.
fn encode(
    text: &mut Vec<u8>,
    out: &mut Vec<u8>,
    room: &str,
    place: Option<(&Epoch, Offset)>,
    publication: &Publication,
) {
    text.clear();
    codec::json::publication(text, room, place, publication);
    frame::encode(Opcode::Text, text, out);
}

pub(crate) fn new_epoch(fx: &mut impl Effects) -> Epoch {
    let mut random = [0; 8];
    fx.entropy(&mut random);
    let text = format!("{:016x}", u64::from_be_bytes(random));
    Epoch::new(&text).expect("16 bytes")
}
