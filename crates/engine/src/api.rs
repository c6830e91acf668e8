//! What the HTTP API asks of a worker: to be passed on to a room's home, or answered from here.

use crate::connection::Phase;
use crate::effects::Effects;
use crate::id::{ApiId, ConnId};
use crate::mail::{ApiAnswer, ApiRequest, ClientRow, Mail, Origin, RoomCommand, What};
use crate::shard::Shard;
use clarion_protocol::{ClientId, RoomName};

impl Shard {
    pub(crate) fn on_api(&mut self, api: ApiId, request: ApiRequest, fx: &mut impl Effects) {
        match request {
            ApiRequest::Publish { room, publication, ephemeral, principal } => {
                let home = self.router.room_home(&room);
                let what = What::Publish { publication, ephemeral, echo: true, principal };
                let origin = Origin::Api(api);
                let command = RoomCommand { origin, room, id: None, what };
                fx.post(home, Mail::Command(Box::new(command)));
            }
            ApiRequest::Stats => {
                let counters = self.counters();
                self.counters.outbox_bytes_max = 0;
                fx.answer(api, ApiAnswer::Stats(Box::new(counters)));
            }
            ApiRequest::Clients { after, limit, room, user } => {
                let rows = self.clients(after, limit, room.as_ref(), user.as_deref(), fx);
                fx.answer(api, ApiAnswer::Clients(rows));
            }
        }
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
        let room = room.map(|room| self.local_by_name.get(room).copied());
        let mut found: Vec<(ClientId, u32)> = Vec::new();
        for (index, slot) in self.connections.iter().enumerate() {
            let Some(connection) = slot else { continue };
            let Some(sender) = &connection.sender else { continue };
            let Some(client) = sender.client else { continue };
            let in_room = match room {
                None => true,
                Some(local) => connection.rooms.iter().any(|m| Some(m.local) == local),
            };
            let of_user = user.is_none_or(|user| sender.user.as_deref() == Some(user));
            let wanted = after.is_none_or(|after| client > after) && in_room && of_user;
            if wanted && connection.phase == Phase::Open {
                found.push((client, index as u32));
            }
        }
        found.sort_unstable();
        found.truncate(limit);
        let row = |(client, index): (ClientId, u32)| {
            let connection = self.connections[index as usize].as_deref()?;
            let conn = ConnId { index, generation: connection.generation };
            let name =
                |m: &crate::connection::Membership| self.locals[m.local as usize].name.clone();
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
