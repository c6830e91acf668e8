//! What the HTTP API asks of a worker: to be passed on to a room's home, or answered from here.

use crate::connection::Connection;
use crate::effects::Effects;
use crate::home::Home;
use crate::id::{ApiId, ConnId, Now};
use crate::mail::{
    ApiAnswer, ApiRequest, ClientRow, Mail, Origin, RoomCommand, RoomRow, Target, What,
};
use crate::shard::Shard;
use clarion_protocol::{
    ClientId, ErrorName, Join, LeftReason, NameError, Pattern, Refusal, RoomName, close,
};
use std::cmp::Ordering;

impl Shard {
    pub(crate) fn on_api(
        &mut self,
        api: ApiId,
        request: ApiRequest,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let (room, what) = match request {
            ApiRequest::Publish { room, publication, ephemeral, principal } => {
                let at_us = now.mono_us;
                (room, What::Publish { publication, ephemeral, echo: true, principal, at_us })
            }
            ApiRequest::History { room, after, before, limit } => {
                (room, What::History { after, before, limit })
            }
            ApiRequest::Members { room, limit, after } => (room, What::Members { limit, after }),
            ApiRequest::Kick { room, .. } | ApiRequest::Join { room, .. }
                if room.kind().is_special() =>
            {
                let rule = "what the server joined, the server leaves: this is no room to join";
                let refusal = Refusal::new(ErrorName::BadRoom, rule);
                return fx.answer(api, ApiAnswer::Refused(refusal));
            }
            ApiRequest::Kick { room, target } => {
                (room, What::Remove { target, reason: LeftReason::Kicked })
            }
            ApiRequest::Group { group, user, member } => match RoomName::group(&group) {
                Ok(room) => (room, What::Group { user, member }),
                Err(error) => return fx.answer(api, bad_group(&error)),
            },
            ApiRequest::GroupUsers { group, after, limit } => match RoomName::group(&group) {
                Ok(room) => (room, What::GroupUsers { after, limit }),
                Err(error) => return fx.answer(api, bad_group(&error)),
            },
            ApiRequest::Stats => {
                return fx.answer(api, ApiAnswer::Stats(Box::new(self.counters())));
            }
            ApiRequest::Clients { after, limit, room, user } => {
                let rows = self.clients(after, limit, room.as_ref(), user.as_deref(), fx);
                return fx.answer(api, ApiAnswer::Clients(rows));
            }
            ApiRequest::Rooms { after, limit, pattern } => {
                let rows = self.rooms(after.as_ref(), limit, pattern.as_ref());
                return fx.answer(api, ApiAnswer::Rooms(rows));
            }
            ApiRequest::Disconnect { target } => {
                let meant = self.connections_of(&target);
                for &conn in &meant {
                    self.close(conn, close::DISCONNECTED, "disconnected by an operator", now, fx);
                }
                return fx.answer(api, ApiAnswer::Count(meant.len() as u64));
            }
            ApiRequest::Revoke { subject, span, keep } => {
                return self.revoke(api, &subject, span, keep, now, fx);
            }
            ApiRequest::Revocations { after, limit } => {
                let rows = self.revocations(after.as_ref(), limit, now);
                return fx.answer(api, ApiAnswer::Revocations(rows));
            }
            ApiRequest::Join { room, target } => {
                let meant = self.connections_of(&target);
                for &conn in &meant {
                    self.join_by_server(conn, room.clone(), Join::default(), fx);
                }
                return fx.answer(api, ApiAnswer::Count(meant.len() as u64));
            }
        };
        let home = self.router.room_home(&room);
        let command = RoomCommand { origin: Origin::Api(api), room, id: None, what };
        fx.post(home, Mail::Command(Box::new(command)));
    }

    /// This worker's open connections of some sessions. Looks at every connection there is.
    pub(crate) fn connections_of(&self, target: &Target) -> Vec<ConnId> {
        let meant =
            |connection: &Connection| connection.sender.as_ref().is_some_and(|s| target.is(s));
        let open = self.each_open().filter(|(_, connection)| meant(connection));
        open.map(|(conn, _)| conn).collect()
    }

    fn rooms(
        &self,
        after: Option<&RoomName>,
        limit: usize,
        pattern: Option<&Pattern>,
    ) -> Vec<RoomRow> {
        let wanted = |home: &&Home| {
            after.is_none_or(|after| home.name > *after)
                && pattern.is_none_or(|pattern| pattern.matches(home.name.as_str()))
        };
        let mut homes: Vec<&Home> =
            self.homes.iter().map(|(_, home)| home).filter(wanted).collect();
        keep_first(&mut homes, limit, |a, b| a.name.cmp(&b.name));
        let row = |home: &Home| RoomRow {
            room: home.name.clone(),
            members: home.count(),
            users: home.users(),
            position: home.position(),
        };
        homes.into_iter().map(row).collect()
    }

    fn clients(
        &self,
        after: Option<ClientId>,
        limit: usize,
        room: Option<&RoomName>,
        user: Option<&str>,
        fx: &impl Effects,
    ) -> Vec<ClientRow> {
        /// Rooms shown of one connection.
        const ROOMS_MAX: usize = 100;
        let room = room.map(|room| self.locals.find(room));
        let mut found: Vec<(ClientId, u32)> = Vec::new();
        for (conn, connection) in self.each_open() {
            let Some(sender) = &connection.sender else { continue };
            let Some(client) = sender.client else { continue };
            let in_room = match room {
                None => true,
                Some(local) => connection.rooms.iter().any(|m| Some(m.local) == local),
            };
            let of_user = user.is_none_or(|user| sender.user.as_deref() == Some(user));
            let wanted = after.is_none_or(|after| client > after) && in_room && of_user;
            if wanted {
                found.push((client, conn.index));
            }
        }
        keep_first(&mut found, limit, Ord::cmp);
        let row = |(client, index): (ClientId, u32)| {
            let connection = self.connections[index as usize].as_deref()?;
            let conn = ConnId { index, generation: connection.generation };
            let name = |m: &crate::connection::Membership| self.locals[m.local].name.clone();
            Some(ClientRow {
                client,
                user: connection.sender.as_ref()?.user.clone().unwrap_or_default(),
                address: connection.peer.into(),
                connected_at_ms: connection.connected_at_ms,
                rooms: connection.rooms.iter().take(ROOMS_MAX).map(name).collect(),
                rtt_us: (connection.rtt_us > 0).then_some(connection.rtt_us),
                outbox_bytes: fx.queued(conn),
                lag: self.lag(&connection.rooms),
                sdk: connection.sdk.clone(),
            })
        };
        found.into_iter().filter_map(row).collect()
    }
}

/// The first `limit` in order, in time that hardly depends on how many there are in order.
fn keep_first<T>(items: &mut Vec<T>, limit: usize, mut order: impl FnMut(&T, &T) -> Ordering) {
    if items.len() > limit {
        if limit > 0 {
            items.select_nth_unstable_by(limit - 1, &mut order);
        }
        items.truncate(limit);
    }
    items.sort_unstable_by(order);
}

fn bad_group(error: &NameError) -> ApiAnswer {
    ApiAnswer::Refused(Refusal::new(ErrorName::BadRoom, error.message()).with_field("group"))
}
