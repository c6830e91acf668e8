//! Who is in a room, at its home: joining, leaving, presence state, and what becomes of a member
//! whose connection went.
//!
//! The table itself is in `home.rs`, how members are told of each other in `presence.rs`, and their
//! seats on the workers in `local.rs`.

use crate::effects::Effects;
use crate::fault::Fault;
use crate::home::{Home, Log, Member, PendingRead, Wants};
use crate::id::{ConnRef, Now};
use crate::log::{FETCH_LIMIT, clip, read, token};
use crate::mail::{JoinBy, JoinOutcome, Mail, Origin, Outcome, RoomCommand, Target, What};
use crate::room::asker;
use crate::shard::Shard;
use crate::timers::{HomeId, Timer};
use clarion_protocol::{
    ClientId, ErrorName, Join, Offset, Position, Refusal, RoomKind, RoomName, Sender,
};
use clarion_store::{Page, Range, Request, StoreError};
use std::borrow::Cow;
use std::sync::Arc;

impl Shard {
    pub(crate) fn join(
        &mut self,
        id: HomeId,
        command: &RoomCommand,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let bytes = self.fetch_bytes();
        let Some(home) = self.home(id) else { return };
        let What::Join { join, .. } = &command.what else { return };
        let Origin::Connection { conn, .. } = &command.origin else { return };
        let field = match join {
            _ if home.settings.log.is_some() => None,
            Join { after: Some(_), .. } => Some("payload.after"),
            Join { last: Some(_), .. } => Some("payload.last"),
            Join { .. } => None,
        };
        if let Some(field) = field {
            let refusal = Outcome::Refused(Refusal::no_history(field));
            return self.tell(asker(command), &command.room, refusal, fx);
        }
        let mut command = Cow::Borrowed(command);
        if let Some(join) = home.inbox_join(&command) {
            command.to_mut().what = What::Join { join, by: JoinBy::Server };
        }
        let What::Join { join, .. } = &command.what else { return };
        match replay_from(home, join) {
            Some(after) => {
                home.reads.push_back(PendingRead::Command(Box::new(command.into_owned())));
                home.busy.entry(*conn).or_default().reads += 1;
                let request = read(id, home, Range::After(after), FETCH_LIMIT, bytes);
                fx.submit(home.settings.durable, request);
            }
            None => self.admit(id, &command, None, now, fx),
        }
    }

    /// Makes the connection a member and tells it where it stands.
    pub(crate) fn admit(
        &mut self,
        id: HomeId,
        command: &RoomCommand,
        page: Option<Page>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let What::Join { join, by } = &command.what else { return };
        let Origin::Connection { conn, binding, sender, takes_shared } = &command.origin else {
            return;
        };
        let client = sender.client.expect("a session has a client id");
        let outranked = !self.planted.is(Fault::DoubleResume);
        let lies = self.planted.is(Fault::FalseRecovery);
        let Some(home) = self.home(id) else { return };
        // Asked here and not earlier: others may have come while the log was read. One with a higher
        // binding is a newer connection of the session; then this one is being closed.
        if home.members.get(&client).is_some_and(|member| {
            member.conn == Some(*conn) || (member.binding > *binding && outranked)
        }) {
            return self.tell(asker(command), &command.room, by.already(), fx);
        }
        let limits = self.config.limits;
        let Some(home) = self.home(id) else { return };
        let is_new = !home.members.contains_key(&client);
        if is_new && home.members.len() >= limits.members {
            self.counters.limit("members");
            let refusal = Refusal::new(ErrorName::RateLimited, "the room can have no more members")
                .with_field("metadata.room")
                .with_limit(limits.members as u64);
            return self.tell(asker(command), &command.room, Outcome::Refused(refusal), fx);
        }
        if matches!(home.name.kind(), RoomKind::User(_))
            && limits.connections_per_user > 0
            && home.connected_but(client) >= limits.connections_per_user
        {
            fx.post(conn.worker, Mail::Crowd { conn: conn.conn });
            return self.tell(asker(command), &command.room, Outcome::Count(0), fx);
        }
        self.flush(id, fx);
        self.catch_up_worker(id, conn.worker, fx);
        let Some(home) = self.home(id) else { return };
        let room = home.name.clone();
        home.told = true;
        let watch = join.members && home.settings.presence;
        // Its own snapshot tells the first that watches of itself.
        let watched = home.watched();
        let member = home.member(client, sender);
        let renewed = member.sender != *sender;
        member.sender = Arc::clone(sender);
        member.binding = *binding;
        home.seat(client, Some(*conn), Wants { watch, shared: *takes_shared });
        let position = home.position();
        let head = position.as_ref().map_or(0, |position| position.offset);
        let page = page.map(|page| clip(page, head));
        let first_sent = page.as_ref().and_then(|page| page.publications.first());
        let from = first_sent.map_or(head + 1, |(offset, _)| *offset);
        let recovered = match (&join.after, &position) {
            (Some(after), Some(position)) => {
                after.epoch == position.epoch
                    && after.offset <= head
                    && page.as_ref().map_or(after.offset == head, |page| {
                        page.standing.first <= after.offset + 1
                    })
            }
            _ => false,
        } || lies && join.after.is_some();
        if is_new && watched {
            self.note_joined(id, client, now);
        } else if renewed {
            self.note_changed(id, client, now);
        }
        let members = if join.members { self.snapshot(id) } else { None };
        let by = *by;
        let outcome = JoinOutcome { client, position, from, recovered, members, watch, by, page };
        self.tell(asker(command), &room, Outcome::Joined(Box::new(outcome)), fx);
    }

    pub(crate) fn leave(
        &mut self,
        id: HomeId,
        command: &RoomCommand,
        now: Now,
        fx: &mut impl Effects,
    ) {
        self.flush(id, fx);
        let Some((home, client)) = self.member_of(id, command) else {
            return self.refuse_stranger(id, command, fx);
        };
        let left = home.remove(client).expect("it was there");
        let room = home.name.clone();
        self.note_left(id, left.present(), now);
        self.tell(asker(command), &room, Outcome::Left, fx);
        self.check_idle(id, now);
    }

    /// Takes members out on the server's behalf and tells them why.
    pub(crate) fn remove(
        &mut self,
        id: HomeId,
        command: &RoomCommand,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let What::Remove { target, reason } = &command.what else { return };
        self.flush(id, fx);
        let Some(home) = self.home(id) else { return };
        // What a connection asks is about itself: a newer one of the session may be in the room.
        let origin = &command.origin;
        let own = |member: &Member| match origin {
            Origin::Connection { conn, .. } => member.conn == Some(*conn),
            Origin::Api(_) => true,
        };
        let is_meant = |member: &Member| own(member) && target.is(&member.sender);
        let clients: Vec<ClientId> = match target {
            Target::Client(client) => {
                let member = home.members.get(client).filter(|member| is_meant(member));
                member.map(|_| *client).into_iter().collect()
            }
            Target::User(_) => {
                let meant = home.members.iter().filter(|(_, member)| is_meant(member));
                meant.map(|(client, _)| *client).collect()
            }
        };
        for client in &clients {
            let Some(home) = self.home(id) else { return };
            let conn = home.members.get(client).and_then(|member| member.conn);
            let Some(left) = home.remove(*client) else { continue };
            if let Some(ConnRef { worker, conn }) = conn {
                let (room, reason) = (command.room.clone(), *reason);
                fx.post(worker, Mail::Removed { conn, room, reason });
            }
            self.note_left(id, left.present(), now);
        }
        let count = clients.len() as u64;
        self.tell(asker(command), &command.room, Outcome::Count(count), fx);
        self.check_idle_now(id);
        self.check_idle(id, now);
    }

    pub(crate) fn state(
        &mut self,
        id: HomeId,
        command: &RoomCommand,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some((home, client)) = self.member_of(id, command) else {
            return self.refuse_stranger(id, command, fx);
        };
        let What::State { value } = &command.what else { return };
        let state = (&**value != "null").then(|| Arc::from(&**value));
        home.members.get_mut(&client).expect("it is there").state = state;
        let room = home.name.clone();
        self.note_changed(id, client, now);
        self.tell(asker(command), &room, Outcome::Stated, fx);
    }

    /// `$ack`: this user has everything up to a position.
    pub(crate) fn ack(&mut self, id: HomeId, command: &RoomCommand, fx: &mut impl Effects) {
        let What::Ack { position } = &command.what else { return };
        let Some(home) = self.home(id) else { return };
        let Log::Open { .. } = &home.log else {
            let refusal = Outcome::Refused(Refusal::no_history("metadata.room"));
            return self.tell(asker(command), &command.room, refusal, fx);
        };
        home.acks.push_back(asker(command));
        let Position { epoch, offset } = position.clone();
        let (room, durable) = (home.name.clone(), home.settings.durable);
        fx.submit(durable, Request::Ack { token: token(id), room, epoch, offset });
    }

    /// The store answered an acknowledgement.
    pub(crate) fn on_acked(
        &mut self,
        id: HomeId,
        result: Result<Offset, StoreError>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.home(id) else { return };
        let Some(asker) = home.acks.pop_front() else { return };
        let room = home.name.clone();
        let outcome = match result {
            Ok(offset) => {
                home.acked = home.acked.max(offset);
                Outcome::Stated
            }
            // It only moves forward, so it is safe to say again.
            Err(StoreError::Unavailable | StoreError::Unknown) => {
                Outcome::Refused(Refusal::unavailable("the room's log cannot be written now"))
            }
        };
        self.tell(asker, &room, outcome, fx);
        self.check_idle(id, now);
    }

    /// The member that a command comes from, if its connection is the one that is in the room.
    fn member_of(&mut self, id: HomeId, command: &RoomCommand) -> Option<(&mut Home, ClientId)> {
        let Origin::Connection { conn, sender, .. } = &command.origin else { return None };
        let client = sender.client?;
        let home = self.home(id)?;
        (home.members.get(&client)?.conn == Some(*conn)).then_some((home, client))
    }

    fn refuse_stranger(&mut self, id: HomeId, command: &RoomCommand, fx: &mut impl Effects) {
        self.tell(asker(command), &command.room, Outcome::Refused(Refusal::not_joined()), fx);
        self.check_idle_now(id);
    }

    pub(crate) fn members(&mut self, id: HomeId, command: &RoomCommand, fx: &mut impl Effects) {
        let (page, bytes) = (self.config.limits.page, self.config.limits.delivery_bytes);
        let What::Members { limit, after } = &command.what else { return };
        let Some(home) = self.home(id) else { return };
        let limit = limit.unwrap_or(page).min(page) as usize;
        let (members, more) = home.page(*after, limit, bytes);
        let (count, users, room) = (home.count(), home.users(), home.name.clone());
        self.tell(asker(command), &room, Outcome::Members { members, count, users, more }, fx);
        self.check_idle_now(id);
    }

    /// A member's connection is gone.
    pub(crate) fn on_detach(
        &mut self,
        room: &RoomName,
        client: ClientId,
        conn: ConnRef,
        ended: bool,
        now: Now,
    ) {
        let ttl_ms = self.config.session.ttl_ms;
        let full = self.graces >= self.config.limits.graces;
        let Some(id) = self.find_home(room) else { return };
        let Some(home) = self.home(id) else { return };
        let Some(member) = home.members.get(&client) else { return };
        if member.conn != Some(conn) {
            return;
        }
        let binding = member.binding;
        if ended || !home.settings.presence || full {
            if full {
                self.counters.limit("graces");
            }
            let Some(home) = self.home(id) else { return };
            let left = home.remove(client).expect("it is there");
            self.note_left(id, left.present(), now);
            return self.check_idle(id, now);
        }
        home.seat(client, None, Wants::default());
        self.graces += 1;
        let due_us = now.mono_us + ttl_ms * 1_000;
        self.timers.set(due_us, Timer::Grace(Box::new((id, client, binding))));
    }

    /// Ends the grace of all absent members who are meant, in every room whose home this is.
    pub(crate) fn end_graces(&mut self, meant: impl Fn(&Sender) -> bool, now: Now) {
        if self.graces == 0 {
            return;
        }
        let is_meant = |member: &Member| member.conn.is_none() && meant(&member.sender);
        let of_home = |(index, home): (u32, &Home)| {
            let id = HomeId { index, generation: home.generation };
            let meant = home.members.iter().filter(|(_, member)| is_meant(member));
            meant.map(|(client, member)| (id, *client, member.binding)).collect::<Vec<_>>()
        };
        let absent: Vec<_> = self.homes.iter().flat_map(of_home).collect();
        // Their timers find nobody later, and count down then.
        for (id, client, binding) in absent {
            self.forget_absent(id, client, binding, now);
        }
    }

    /// An absent member's grace is over.
    pub(crate) fn end_grace(&mut self, id: HomeId, client: ClientId, binding: u64, now: Now) {
        self.graces -= 1;
        self.forget_absent(id, client, binding, now);
    }

    fn forget_absent(&mut self, id: HomeId, client: ClientId, binding: u64, now: Now) {
        let Some(home) = self.home(id) else { return };
        let Some(member) = home.members.get(&client) else { return };
        if member.conn.is_none() && member.binding == binding {
            let left = home.remove(client).expect("it is there");
            self.note_left(id, left.present(), now);
            self.check_idle(id, now);
        }
    }
}

/// From which offset a join replays; `None` if it does not.
fn replay_from(home: &Home, join: &Join) -> Option<Offset> {
    let Log::Open { epoch, head } = &home.log else { return None };
    match (&join.after, join.last) {
        (Some(after), _) if after.epoch == *epoch && after.offset <= *head => {
            (after.offset < *head).then_some(after.offset)
        }
        (_, Some(last)) => (last > 0 && *head > 0).then(|| head.saturating_sub(u64::from(last))),
        (_, None) => None,
    }
}
