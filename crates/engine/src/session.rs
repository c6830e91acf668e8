//! Who a connection speaks for: `$hello`, tickets, the session's home, `$welcome`.
//!
//! The home of a session knows its connection now, and nothing else; whatever a session is, its
//! ticket says. Two connections that resume one session meet at its home: the later wins, and each
//! binding has a higher number than the one before, so that homes of rooms can tell which is which.

use crate::config::GUEST_PREFIX;
use crate::connection::{Hello, Phase, Waiting};
use crate::effects::{AuthOutcome, Credentials, Effects, Grants};
use crate::fault::Fault;
use crate::id::{ConnId, ConnRef, Now};
use crate::mail::{Mail, Origin, Place, RoomCommand, What};
use crate::revoked::{RENEW, REVOKED};
use crate::shard::Shard;
use crate::ticket::Ticket;
use clarion_protocol::{
    ClientId, CommandId, ErrorName, Join, Joined, Refusal, RoomKind, RoomName, Sender, UserId,
    Welcome, WelcomeLimits, close, codec,
};
use std::sync::Arc;

/// A session's connection, at the session's home.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) conn: ConnRef,
}

impl Shard {
    /// The handshake may have settled who this is.
    pub(crate) fn begin(
        &mut self,
        conn: ConnId,
        credentials: Option<Credentials>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        if connection.hello {
            if credentials.is_some() {
                connection.waiting().credentials = credentials;
            }
            return self.set_phase(conn, Phase::Hello);
        }
        self.set_phase(conn, Phase::Authenticating);
        let credentials = credentials.unwrap_or(Credentials::None);
        if let Some(outcome) = fx.authenticate(conn, &credentials) {
            self.on_authenticated(conn, outcome, now, fx);
        }
    }

    /// The first `$hello`.
    pub(crate) fn on_hello(
        &mut self,
        conn: ConnId,
        id: Option<CommandId>,
        hello: clarion_protocol::Hello,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let ticket = hello.ticket.and_then(|ticket| self.tickets.verify(&ticket, now.wall_ms));
        let ticket = ticket.filter(|ticket| {
            let Ticket { sender, grants, issued_at_ms, .. } = ticket;
            let token_id = grants.token_id.as_deref();
            !self.revoked.voids(sender, token_id, *issued_at_ms, now.wall_ms)
                || self.planted.is(Fault::VoidTicket)
        });
        let Some(connection) = self.connection(conn) else { return };
        connection.sdk = hello.sdk.map(Into::into);
        let waiting = connection.waiting();
        waiting.hello = Some(Hello { id, rooms: hello.rooms });
        let brought = waiting.credentials.take();
        self.set_phase(conn, Phase::Authenticating);
        let Some(connection) = self.connection(conn) else { return };
        if let Some(ticket) = ticket {
            // A token beside the ticket must name the same user; it is verified first.
            connection.sender = Some(Arc::new(ticket.sender));
            connection.guest = ticket.guest;
            connection.grants = ticket.grants.kept();
            connection.expires_at_ms = ticket.token_expires_at_ms;
            connection.resumed = true;
            connection.waiting().issued_at_ms = ticket.issued_at_ms;
            if hello.token.is_none() && brought.is_none() {
                return self.bind(conn, fx);
            }
        }
        let credentials = match hello.token {
            Some(token) => Credentials::Token(token),
            None => brought.unwrap_or(Credentials::None),
        };
        if let Some(outcome) = fx.authenticate(conn, &credentials) {
            self.on_authenticated(conn, outcome, now, fx);
        }
    }

    pub(crate) fn on_authenticated(
        &mut self,
        conn: ConnId,
        outcome: AuthOutcome,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let rooms_max = self.config.limits.rooms;
        let outcome = self.revoked_outcome(outcome, now);
        let Some(connection) = self.connection(conn) else { return };
        if connection.phase == Phase::Open {
            return self.on_refreshed(conn, outcome, now, fx);
        }
        if connection.phase != Phase::Authenticating {
            return;
        }
        match outcome {
            AuthOutcome::User { user, info, grants, issued_at_ms, expires_at_ms } => {
                if let Err(why) = check_identity(&user, info.as_deref(), &grants, rooms_max) {
                    let outcome = AuthOutcome::Denied(why);
                    return self.on_authenticated(conn, outcome, now, fx);
                }
                let resumed = connection.resumed
                    && connection.sender.as_ref().is_some_and(|s| s.user.as_ref() == Some(&user));
                let kept = connection.sender.take().filter(|_| resumed);
                let client = kept.and_then(|sender| sender.client);
                let client = client.unwrap_or_else(|| new_client(fx));
                let Some(connection) = self.connection(conn) else { return };
                connection.resumed = resumed;
                connection.guest = false;
                connection.grants = grants.kept();
                connection.waiting().issued_at_ms = issued_at_ms;
                connection.expires_at_ms = expires_at_ms.unwrap_or(0);
                let sender = Sender { client: Some(client), user: Some(user), info };
                connection.sender = Some(Arc::new(sender));
                self.bind(conn, fx);
            }
            AuthOutcome::Guest => {
                let client = new_client(fx);
                let Some(connection) = self.connection(conn) else { return };
                connection.resumed = false;
                connection.guest = true;
                connection.grants = None;
                connection.expires_at_ms = 0;
                let user = Some(format!("{GUEST_PREFIX}{client}").into());
                connection.sender =
                    Some(Arc::new(Sender { client: Some(client), user, info: None }));
                self.bind(conn, fx);
            }
            AuthOutcome::Denied(why) => {
                let asked = connection.waiting.as_ref().is_some_and(|w| w.hello.is_some());
                // A token that is void has passed the front, which does not know.
                let void = why == REVOKED || why == RENEW;
                if !connection.hello && !asked && !void {
                    // Nobody by the handshake, and it did not offer to say `$hello`; it still may.
                    let early = connection.waiting.as_mut().map(|w| std::mem::take(&mut w.early));
                    self.set_phase(conn, Phase::Hello);
                    for text in early.into_iter().flatten() {
                        self.on_text(conn, &text, now, fx);
                    }
                    return;
                }
                let code = if why == RENEW { close::TOKEN_EXPIRED } else { close::UNAUTHENTICATED };
                self.turn_away(conn, &Refusal::unauthenticated(why), code, now, fx);
            }
            AuthOutcome::Unavailable => {
                let refusal = Refusal::unavailable("nobody can be authenticated now");
                self.turn_away(conn, &refusal, close::OVERLOADED, now, fx);
            }
        }
    }

    /// What becomes of an outcome whose token was revoked.
    fn revoked_outcome(&self, outcome: AuthOutcome, now: Now) -> AuthOutcome {
        if let AuthOutcome::User { user, grants, issued_at_ms, .. } = &outcome {
            let sender = Sender { user: Some(user.clone()), ..Sender::default() };
            let token_id = grants.token_id.as_deref();
            let (issued_at_ms, now_ms) = (*issued_at_ms, now.wall_ms);
            if self.revoked.voids(&sender, token_id, issued_at_ms, now_ms) {
                let newer = self.revoked.may_be_newer(user, issued_at_ms, now_ms);
                return AuthOutcome::Denied(if newer { RENEW } else { REVOKED });
            }
        }
        outcome
    }

    /// Says why with an `$error`, and closes.
    pub(crate) fn turn_away(
        &mut self,
        conn: ConnId,
        refusal: &Refusal,
        code: u16,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let hello = self.connection(conn).and_then(|c| c.waiting.as_mut()?.hello.take());
        let id = hello.and_then(|hello| hello.id);
        self.counters.error(refusal.name);
        let frame = self.frame(|out| {
            codec::json::error(out, id.as_ref(), None, None, None, refusal, Some(code), None);
        });
        self.send(conn, frame, now, fx);
        self.close(conn, code, refusal.name.as_str(), now, fx);
    }

    fn bind(&mut self, conn: ConnId, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        let client = connection.client();
        self.set_phase(conn, Phase::Binding);
        let home = self.router.session_home(client);
        let conn = ConnRef { worker: self.id, conn };
        fx.post(home, Mail::Bind { client, conn });
    }

    /// At the session's home: a connection speaks for it now.
    pub(crate) fn on_bind(&mut self, client: ClientId, conn: ConnRef, fx: &mut impl Effects) {
        self.bindings += 1;
        let binding = self.bindings;
        let older = self.sessions.insert(client, Binding { conn });
        if let Some(older) = older
            && older.conn != conn
            && !self.planted.is(Fault::DoubleResume)
        {
            fx.post(older.conn.worker, Mail::Evict { conn: older.conn.conn });
        }
        fx.post(conn.worker, Mail::Bound { conn: conn.conn, binding });
    }

    /// At the session's home: a connection no longer does.
    pub(crate) fn on_unbind(&mut self, client: ClientId, conn: ConnRef) {
        if self.sessions.get(&client).is_some_and(|binding| binding.conn == conn) {
            self.sessions.remove(&client);
        }
    }

    pub(crate) fn on_evict(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        self.close(conn, close::REPLACED, "a newer connection took over the session", now, fx);
    }

    /// At the connection: its user has too many.
    pub(crate) fn on_crowd(&mut self, conn: ConnId, now: Now, fx: &mut impl Effects) {
        if self.is_open(conn) {
            let limit = self.config.limits.connections_per_user as u64;
            self.counters.limit("connections_per_user");
            let why = "one user can have no more connections";
            let refusal = Refusal::new(ErrorName::RateLimited, why).with_limit(limit);
            self.turn_away(conn, &refusal, close::RATE_LIMITED, now, fx);
        }
    }

    /// The session is this connection's: say so, and begin what it asked for.
    pub(crate) fn on_bound(&mut self, conn: ConnId, binding: u64, now: Now, fx: &mut impl Effects) {
        let Some(connection) = self.connection(conn) else { return };
        if connection.phase != Phase::Binding {
            return;
        }
        self.set_phase(conn, Phase::Open);
        let Some(connection) = self.connection(conn) else { return };
        connection.binding = binding;
        connection.deadline_us = 0;
        let resumed = connection.resumed;
        let Waiting { hello, early, issued_at_ms, .. } =
            connection.waiting.take().map_or_else(Waiting::default, |w| *w);
        let Hello { id, rooms } = hello.unwrap_or_default();
        self.counters.resumed += u64::from(resumed);
        self.welcome(conn, id.as_ref(), issued_at_ms, now, fx);
        self.arm(conn, now);
        self.join_own(conn, &rooms, now, fx);
        for room in self.groups_of(conn) {
            let join = position_only(&rooms, &room);
            self.join_by_server(conn, room, join, fx);
        }
        for (room, join) in rooms {
            if !room.kind().is_special() {
                self.join_wanted(conn, room, join, now, fx);
            }
        }
        for text in early {
            self.on_text(conn, &text, now, fx);
        }
        self.check_commands(conn, fx);
    }

    fn welcome(
        &mut self,
        conn: ConnId,
        id: Option<&CommandId>,
        issued_at_ms: u64,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let (limits, ttl_ms) = (self.config.limits, self.config.session.ttl_ms);
        let heartbeat_ms = self.config.heartbeat.interval_ms;
        let Some(connection) = self.connection(conn) else { return };
        let (guest, resumed) = (connection.guest, connection.resumed);
        let (publish_per_s, _, rooms) = connection.limits(&limits);
        let token_expires_at_ms = connection.expires_at_ms;
        let Some(sender) = connection.sender.clone() else { return };
        let grants = connection.grants.as_deref().cloned().unwrap_or_default();
        let mut expires_at_ms = now.wall_ms + ttl_ms;
        if token_expires_at_ms > 0 {
            expires_at_ms = expires_at_ms.min(token_expires_at_ms);
        }
        let ticket = Ticket {
            sender: (*sender).clone(),
            grants,
            guest,
            expires_at_ms,
            issued_at_ms,
            token_expires_at_ms,
        };
        let mut nonce = [0; 8];
        fx.entropy(&mut nonce);
        let ticket = self.tickets.issue(&ticket, nonce);
        let welcome = Welcome {
            client: sender.client.expect("a session has a client id"),
            user: sender.user.as_deref().unwrap_or_default(),
            ticket: &ticket,
            ticket_ttl_ms: expires_at_ms.saturating_sub(now.wall_ms),
            resumed,
            limits: WelcomeLimits {
                message_bytes: limits.message_bytes as u64,
                delivery_bytes: limits.delivery_bytes as u64,
                rooms: rooms as u64,
                page: u64::from(limits.page),
                publish_per_s: u64::from(publish_per_s),
            },
            heartbeat_ms,
            expires_at_ms: (token_expires_at_ms > 0).then_some(token_expires_at_ms),
        };
        let frame = self.frame(|out| codec::json::welcome(out, id, &welcome));
        // Never compressed: half of it is random, and all clients may come back at once.
        self.queue(conn, frame, now, fx);
    }

    /// Joins the session to its own user's room.
    ///
    /// A guest's is an address without log or members, so there is nothing to ask anybody.
    fn join_own(
        &mut self,
        conn: ConnId,
        wanted: &[(RoomName, Join)],
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        let guest = connection.guest;
        let Some(user) = connection.sender.as_ref().and_then(|sender| sender.user.clone()) else {
            return;
        };
        let Ok(room) = RoomName::parse(&format!("$user/{user}")) else { return };
        if guest {
            let joined = Joined::default();
            let frame = self.frame(|out| codec::json::joined(out, room.as_str(), &joined));
            return self.send(conn, frame, now, fx);
        }
        let join = position_only(wanted, &room);
        self.join_by_server(conn, room, join, fx);
    }

    /// Whether a room is the session's own.
    pub(crate) fn is_own(&mut self, conn: ConnId, room: &RoomName) -> bool {
        let user = self.connection(conn).and_then(|c| c.sender.as_ref()?.user.clone());
        matches!((room.kind(), user), (RoomKind::User(room), Some(user)) if *room == *user)
    }

    /// Passes a command of the session on to the room's home.
    pub(crate) fn forward(
        &mut self,
        conn: ConnId,
        room: RoomName,
        id: Option<CommandId>,
        what: What,
        fx: &mut impl Effects,
    ) {
        let worker = self.id;
        let bound = self.config.limits.mailbox_bytes;
        let home = self.router.room_home(&room);
        let Some(connection) = self.connection(conn) else { return };
        let Some(sender) = connection.sender.clone() else { return };
        let place = what.place();
        connection.expecting += 1;
        connection.under_way += u32::from(place != Place::None);
        connection.joining += u32::from(place == Place::Room);
        let binding = connection.binding;
        let takes_shared = connection.takes_shared();
        let conn_ref = ConnRef { worker, conn };
        let origin = Origin::Connection { conn: conn_ref, binding, sender, takes_shared };
        fx.post(home, Mail::Command(Box::new(RoomCommand { origin, room, id, what })));
        if home != worker && fx.mail_queued(home) > bound {
            self.pause(conn, crate::connection::pause::MAILBOX, fx);
            self.mail_paused.push((home, conn));
            fx.want_mail_room(home);
        }
    }

    /// The rooms that the client joined.
    fn chosen_rooms(&mut self, conn: ConnId) -> Vec<RoomName> {
        let rooms = self.connection(conn).map(|connection| connection.rooms.clone());
        let chosen = rooms.into_iter().flatten().filter(|membership| !membership.server);
        chosen.map(|membership| self.locals[membership.local].name.clone()).collect()
    }

    fn on_refreshed(
        &mut self,
        conn: ConnId,
        outcome: AuthOutcome,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let rooms_max = self.config.limits.rooms;
        let Some(connection) = self.connection(conn) else { return };
        let Some(id) = connection.waiting.as_mut().and_then(|waiting| waiting.refresh.take())
        else {
            return;
        };
        connection.under_way -= 1;
        let own = connection.sender.as_ref().and_then(|sender| sender.user.clone());
        let refusal = match outcome {
            AuthOutcome::User { user, info, grants, expires_at_ms, .. }
                if Some(&user) == own.as_ref()
                    && check_identity(&user, info.as_deref(), &grants, rooms_max).is_ok() =>
            {
                let before = self.groups_of(conn);
                let Some(connection) = self.connection(conn) else { return };
                connection.grants = grants.kept();
                connection.expires_at_ms = expires_at_ms.unwrap_or(0);
                connection.refresh_told = false;
                connection.refreshed = true;
                if let Some(waiting) = &mut connection.waiting {
                    // They are asked anew, for what the session may now.
                    waiting.doubts.clear();
                }
                self.arm(conn, now);
                self.regroup(conn, &before, fx);
                for room in self.chosen_rooms(conn) {
                    self.doubt(conn, room, fx);
                }
                let reply = clarion_protocol::Reply::Refreshed { expires_at_ms };
                if let Some(id) = &id {
                    let frame = self.frame(|out| codec::json::reply(out, id, None, &reply));
                    self.send(conn, frame, now, fx);
                }
                return self.check_commands(conn, fx);
            }
            AuthOutcome::User { .. } | AuthOutcome::Guest => {
                Refusal::forbidden("the token is another user's").with_field("payload.token")
            }
            AuthOutcome::Denied(why) => Refusal::unauthenticated(why).with_field("payload.token"),
            AuthOutcome::Unavailable => Refusal::unavailable("nobody can be authenticated now"),
        };
        self.refuse(conn, id.as_ref(), None, None, Some("$refresh"), &refusal, now, fx);
        self.check_commands(conn, fx);
    }
}

/// How the server joins a room of its own choosing: from the client's position, if it has one.
fn position_only(wanted: &[(RoomName, Join)], room: &RoomName) -> Join {
    let wanted = wanted.iter().find(|(wanted, _)| wanted == room);
    Join { after: wanted.and_then(|(_, join)| join.after.clone()), last: None, members: false }
}

/// What a token may say: section 1, "User and group ids", and section 3, "Who is this".
fn check_identity(
    user: &str,
    info: Option<&str>,
    grants: &Grants,
    rooms_max: usize,
) -> Result<(), &'static str> {
    if UserId::validate_segment(user).is_err() {
        return Err("the token's user is not one segment of at most 96 bytes");
    }
    if user.starts_with(GUEST_PREFIX) {
        return Err("the token's user begins as only a guest's may");
    }
    if grants.groups.iter().any(|group| UserId::validate_segment(group).is_err()) {
        return Err("a group of the token is not one segment of at most 96 bytes");
    }
    if grants.rooms.as_ref().is_some_and(|rooms| rooms.len() > Grants::ROOMS_MAX) {
        return Err("the token has more than 100 patterns in its rooms");
    }
    if grants.token_id.as_ref().is_some_and(|id| id.len() > Grants::TOKEN_ID_MAX) {
        return Err("the token's id is longer than 128 bytes");
    }
    if grants.size() + info.map_or(0, str::len) > Grants::BYTES_MAX {
        return Err("groups, rooms and info of the token are longer than 8192 bytes together");
    }
    if grants.groups.len() > rooms_max {
        return Err("the token has more groups than one session can be in rooms");
    }
    Ok(())
}

fn new_client(fx: &mut impl Effects) -> ClientId {
    let mut id = [0; 16];
    fx.entropy(&mut id);
    ClientId(id)
}
