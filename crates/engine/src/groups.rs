//! Who is in which group, and how a session gets into its groups' rooms and out of them.
//!
//! A user is in a group because the HTTP API said so, or a session is because its token does. What
//! the API says is ordered by the home of the group's room, which tells every worker; so all
//! workers know the same, and a session that comes finds its groups without asking anybody. What
//! the token says is in the session's ticket.
//!
//! With a store that survives the process ([`Config::groups_durable`](crate::Config)) nothing of it
//! is so before that has it, and a restarted process is told who is in which group before anybody comes.
//! Guests are not kept: nobody is that guest later.

use crate::config::GUEST_PREFIX;
use crate::effects::Effects;
use crate::id::ConnId;
use crate::mail::{JoinBy, Mail, Origin, Outcome, RoomCommand, Target, What};
use crate::room::asker;
use crate::shard::Shard;
use clarion_protocol::{ErrorName, Join, LeftReason, Refusal, RoomKind, RoomName};
use clarion_store::{Request, Shrink, StoreError};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};

/// The groups that the API made.
#[derive(Debug)]
pub(crate) struct Groups {
    /// The groups of each user, on every worker the same.
    by_user: HashMap<Box<str>, BTreeSet<RoomName>, FixedState>,
    /// The users of each group whose home this worker is; the order is by these. At most
    /// `limits.group_users` of them in all.
    by_group: BTreeMap<RoomName, BTreeSet<Box<str>>>,
    users: usize,
    /// Commands that wait for the store, by the mark of its request. At most [`STORING_MAX`]; over
    /// it they are refused.
    storing: HashMap<u64, Box<RoomCommand>, FixedState>,
    /// Those of them that put a user in.
    adding: usize,
    requests: u64,
}

/// Changes of groups that may wait for the store at once.
const STORING_MAX: usize = 1_024;

impl Groups {
    pub(crate) fn new(hasher: FixedState) -> Self {
        Self {
            by_user: HashMap::with_hasher(hasher.clone()),
            by_group: BTreeMap::new(),
            users: 0,
            storing: HashMap::with_hasher(hasher),
            adding: 0,
            requests: 0,
        }
    }

    /// Gives back what users left that are in no group any more.
    pub(crate) fn shrink(&mut self) {
        self.by_user.shrink();
        self.storing.shrink();
    }

    /// The rooms of a user's groups, ascending.
    pub(crate) fn of(&self, user: &str) -> impl Iterator<Item = &RoomName> {
        self.by_user.get(user).into_iter().flatten()
    }

    fn has(&self, user: &str, room: &RoomName) -> bool {
        self.by_user.get(user).is_some_and(|rooms| rooms.contains(room))
    }

    /// At the group's home: says whether anything changed.
    fn order(&mut self, room: &RoomName, user: &str, member: bool) -> bool {
        if member {
            let added = self.by_group.entry(room.clone()).or_default().insert(user.into());
            self.users += usize::from(added);
            return added;
        }
        let Some(users) = self.by_group.get_mut(room) else { return false };
        let removed = users.remove(user);
        self.users -= usize::from(removed);
        if users.is_empty() {
            self.by_group.remove(room);
        }
        removed
    }

    fn note(&mut self, room: &RoomName, user: &str, member: bool) {
        if member {
            self.by_user.entry(user.into()).or_default().insert(room.clone());
        } else if let Some(rooms) = self.by_user.get_mut(user) {
            rooms.remove(room);
            if rooms.is_empty() {
                self.by_user.remove(user);
            }
        }
    }
}

impl Shard {
    /// At the group's home: the API puts a user in, or takes it out.
    pub(crate) fn order_group(&mut self, command: RoomCommand, fx: &mut impl Effects) {
        let What::Group { user, member } = &command.what else { return };
        let (limit, rooms_max) = (self.config.limits.group_users, self.config.limits.rooms);
        // Whoever asks twice for what is so already is not over any limit.
        let more = *member && !self.groups.has(user, &command.room);
        let RoomKind::Group(group) = command.room.kind() else {
            let refusal = Refusal::new(ErrorName::BadRoom, "this room is not a group's");
            return self.tell(asker(&command), &command.room, Outcome::Refused(refusal), fx);
        };
        let durable = self.config.groups_durable && !user.starts_with(GUEST_PREFIX);
        let refusal = if more && self.groups.users + self.groups.adding >= limit {
            Some(
                Refusal::unavailable("groups have as many users as they may")
                    .with_limit(limit as u64),
            )
        } else if more && self.groups.of(user).count() >= rooms_max {
            let rule = "one user can be in no more groups";
            Some(Refusal::new(ErrorName::RateLimited, rule).with_limit(rooms_max as u64))
        } else if durable && self.groups.storing.len() >= STORING_MAX {
            let refusal = Refusal::unavailable("too many changes of groups wait for the store");
            Some(refusal.with_limit(STORING_MAX as u64))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.tell(asker(&command), &command.room, Outcome::Refused(refusal), fx);
        }
        if !durable {
            return self.regrouped(&command, fx);
        }
        // Also what is so already: after an outcome that nobody knew the store may have it otherwise.
        self.groups.requests += 1;
        let token = self.groups.requests;
        let (group, user, member) = (group.into(), user.clone(), *member);
        self.groups.adding += usize::from(member);
        self.groups.storing.insert(token, Box::new(command));
        fx.submit(true, Request::Group { token, group, user, member });
    }

    /// At the group's home: the store has it, or not.
    pub(crate) fn on_group_stored(
        &mut self,
        token: u64,
        result: Result<bool, StoreError>,
        fx: &mut impl Effects,
    ) {
        let Some(command) = self.groups.storing.remove(&token) else { return };
        let What::Group { member, .. } = &command.what else { return };
        self.groups.adding -= usize::from(*member);
        match result {
            // What is so here is told, which after an outcome that nobody knew is not what was there.
            Ok(_) => self.regrouped(&command, fx),
            Err(error) => {
                let refusal = Refusal::unavailable(match error {
                    StoreError::Unavailable => "the store is not available",
                    StoreError::Unknown => "it is not known whether the store has it; ask again",
                });
                self.tell(asker(&command), &command.room, Outcome::Refused(refusal), fx);
            }
        }
    }

    /// Before anybody comes: who was in a group when the process ended. Every worker is told of all.
    pub fn restore_group(&mut self, room: &RoomName, user: &str) {
        self.groups.note(room, user, true);
        if self.router.room_home(room) == self.id {
            self.groups.order(room, user, true);
        }
    }

    /// At the group's home: it is so from now on.
    fn regrouped(&mut self, command: &RoomCommand, fx: &mut impl Effects) {
        let What::Group { user, member } = &command.what else { return };
        let changed = self.groups.order(&command.room, user, *member);
        if changed {
            for to in self.router.workers() {
                let (room, user) = (command.room.clone(), user.clone());
                fx.post(to, Mail::Grouped { room, user, member: *member });
            }
        }
        let outcome = Outcome::Count(u64::from(changed));
        self.tell(asker(command), &command.room, outcome, fx);
    }

    /// At the group's home: whom the API put in.
    pub(crate) fn group_users(&mut self, command: &RoomCommand, fx: &mut impl Effects) {
        let What::GroupUsers { after, limit } = &command.what else { return };
        let users = self.groups.by_group.get(&command.room);
        let users = users.into_iter().flatten().filter(|user| after.as_ref() < Some(*user));
        let users = users.take(*limit).cloned().collect();
        self.tell(asker(command), &command.room, Outcome::Users(users), fx);
    }

    /// On every worker: a user is in a group from now on, or no more.
    pub(crate) fn on_grouped(
        &mut self,
        room: &RoomName,
        user: &str,
        member: bool,
        fx: &mut impl Effects,
    ) {
        self.groups.note(room, user, member);
        for conn in self.sessions_of(user) {
            if member {
                self.join_by_server(conn, room.clone(), Join::default(), fx);
            } else if !self.groups_of(conn).contains(room) {
                self.leave_group(conn, room.clone(), fx);
            }
        }
    }

    /// The user's connections here. One whose session's own room is not joined yet is not among
    /// them; it is seen to when it is ([`Self::settle_groups`]).
    fn sessions_of(&self, user: &str) -> Vec<ConnId> {
        if user.starts_with(GUEST_PREFIX) {
            // A guest's room has no members.
            return self.connections_of(&Target::User(user.into()));
        }
        let room = RoomName::parse(&format!("$user/{user}")).ok();
        room.map(|room| self.members_here(&room)).unwrap_or_default()
    }

    /// The rooms of a session's groups, those of the API and those of its token, ascending.
    pub(crate) fn groups_of(&mut self, conn: ConnId) -> BTreeSet<RoomName> {
        let Some(connection) = self.connection(conn) else { return BTreeSet::new() };
        let granted = connection.grants.as_deref().map(|grants| grants.group_rooms());
        let mut rooms: BTreeSet<RoomName> = granted.into_iter().flatten().collect();
        let sender = connection.sender.clone();
        if let Some(user) = sender.as_ref().and_then(|sender| sender.user.as_deref()) {
            rooms.extend(self.groups.of(user).cloned());
        }
        rooms
    }

    /// The server joined a session to one of its rooms: now its groups may have changed on the way.
    pub(crate) fn settle_groups(&mut self, conn: ConnId, room: &RoomName, fx: &mut impl Effects) {
        match room.kind() {
            RoomKind::User(_) => {
                let now_in = self.groups_in(conn);
                self.regroup(conn, &now_in, fx);
            }
            RoomKind::Group(_) if !self.groups_of(conn).contains(room) => {
                self.leave_group(conn, room.clone(), fx);
            }
            RoomKind::Group(_) | RoomKind::Client(_) | RoomKind::All | RoomKind::Plain => {}
        }
    }

    /// Joins the groups that the session was not in `before`, and leaves those it no longer is in.
    pub(crate) fn regroup(
        &mut self,
        conn: ConnId,
        before: &BTreeSet<RoomName>,
        fx: &mut impl Effects,
    ) {
        let after = self.groups_of(conn);
        for room in after.difference(before) {
            self.join_by_server(conn, room.clone(), Join::default(), fx);
        }
        for room in before.difference(&after) {
            self.leave_group(conn, room.clone(), fx);
        }
    }

    /// The groups' rooms that the session is seated in.
    fn groups_in(&mut self, conn: ConnId) -> BTreeSet<RoomName> {
        let rooms = self.connection(conn).map(|connection| connection.rooms.clone());
        let names = rooms.into_iter().flatten().map(|m| self.locals[m.local].name.clone());
        names.filter(|name| matches!(name.kind(), RoomKind::Group(_))).collect()
    }

    /// Joins a session to a room on the server's behalf; nothing happens if it is there.
    pub(crate) fn join_by_server(
        &mut self,
        conn: ConnId,
        room: RoomName,
        join: Join,
        fx: &mut impl Effects,
    ) {
        self.forward(conn, room, None, What::Join { join, by: JoinBy::Server }, fx);
    }

    /// Asks once more for a join of the server's, unless nobody is there any more to be in the room.
    pub(crate) fn rejoin(&mut self, command: Box<RoomCommand>, fx: &mut impl Effects) {
        let Origin::Connection { conn, .. } = &command.origin else { return };
        if self.is_open(conn.conn) {
            fx.post(self.router.room_home(&command.room), Mail::Command(command));
        } else {
            self.count_outcome(conn.conn);
        }
    }

    fn leave_group(&mut self, conn: ConnId, room: RoomName, fx: &mut impl Effects) {
        self.take_out(conn, room, LeftReason::Group, fx);
    }

    /// Has a session leave a room; it is told why.
    pub(crate) fn take_out(
        &mut self,
        conn: ConnId,
        room: RoomName,
        reason: LeftReason,
        fx: &mut impl Effects,
    ) {
        let Some(connection) = self.connection(conn) else { return };
        let target = Target::Client(connection.client());
        self.forward(conn, room, None, What::Remove { target, reason }, fx);
    }
}
