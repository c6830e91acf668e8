//! What the server says.

use std::sync::Arc;

use clarion_protocol::close;

use super::lifecycle::{Plan, Slot};
use super::{Core, membership};
use crate::core::codec::{self, Incoming, Welcome};
use crate::core::connection::Step;
use crate::core::errors::{ClientError, CommandError};
use crate::core::membership::is_address;
use crate::core::output::{ClientEvent, Output, Session};
use crate::core::status::{ClientState, Status};

impl Core {
    pub(super) fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Nothing => {}
            Step::Send(text) => {
                if let Some(connection) = &self.connection {
                    self.cx.out.push_back(Output::Send { conn: connection.id, text });
                }
            }
            Step::Malformed(why) => self.cx.report(ClientError::Malformed(why)),
            Step::Welcomed(welcome) => self.welcomed(welcome),
            Step::Incoming(incoming) => self.receive(incoming),
            Step::Dropped(end) => {
                self.end_connection(close::HEARTBEAT_MISSED, "");
                self.lost(end);
            }
        }
    }

    pub(super) fn welcomed(&mut self, mut welcome: Box<Welcome>) {
        let Some(conn) = self.connection.as_ref().map(|connection| connection.id) else { return };
        self.credentials.welcomed(&mut welcome, self.cx.now);
        let Welcome { client, user, resumed, limits, .. } = *welcome;
        self.session = Some(Session { client, user, resumed, limits });
        self.connected_at_ms = self.cx.now.mono_ms;
        self.cx.connected = true;
        let reason = if resumed { "resumed" } else { "welcome" };
        self.transition(Status::new(ClientState::Connected, reason));
        let limit = limits.message_bytes;
        for (id, owner) in self.cx.commands.attach(conn, limit, &mut self.cx.out) {
            self.settled(id, owner, Err(CommandError::too_large(limit)));
        }
        for membership in self.rooms.values_mut() {
            membership.connected(&mut self.cx);
        }
        self.outbox.attach(&limits, &mut self.cx);
    }

    pub(super) fn receive(&mut self, incoming: Incoming<'_>) {
        let cx = &mut self.cx;
        match incoming {
            Incoming::Reply { id: Some(id), payload }
            | Incoming::Pong { id: Some(id), payload } => {
                if let Some(owner) = cx.commands.take(id) {
                    self.settled(id, owner, Ok(payload));
                }
            }
            Incoming::Reply { id: None, .. } | Incoming::Pong { id: None, .. } => {}
            Incoming::Error { id, room, refused, key: _ } => {
                let error = CommandError::Refused(refused);
                match id {
                    // An answer to a command that has timed out is no news.
                    Some(codec::Id::Number(id)) => {
                        if let Some(owner) = cx.commands.take(id) {
                            self.settled(id, owner, Err(error));
                        }
                    }
                    Some(codec::Id::Text(_)) => {}
                    None => self.failed(room.as_deref(), error),
                }
            }
            Incoming::Refresh { .. } => self.start_refresh(),
            Incoming::Reconnect { after_ms, url } => {
                // The server drains: go before it closes on us.
                let at_ms = self.cx.now.mono_ms.saturating_add(after_ms);
                self.slot = Some(Slot { at_ms, url });
                self.timer = Some((at_ms, Plan::Move));
            }
            Incoming::Joined(room, reply) => {
                let room: Arc<str> = room.into();
                let logged = reply.position.is_some();
                let is_new = !self.rooms.contains_key(&room);
                // Before the room joins, so that whoever starts listening now hears everything.
                if is_new {
                    self.cx.out.push_back(Output::Client(ClientEvent::Room(room.clone())));
                }
                let membership = membership(&mut self.rooms, &room);
                if membership.handle_joined(reply, &mut self.cx) {
                    self.outbox.learn(&room, logged);
                }
            }
            Incoming::Left(room, reason) => {
                if let Some(membership) = self.rooms.get_mut(&*room) {
                    membership.handle_left(reason, cx);
                }
            }
            Incoming::Gap(room, gap) => {
                if let Some(membership) = self.rooms.get_mut(&*room) {
                    membership.handle_gap(gap, cx);
                }
            }
            Incoming::Members(room, change) => {
                if let Some(membership) = self.rooms.get_mut(&*room) {
                    membership.handle_members(change, cx);
                }
            }
            Incoming::Publication(publication) => {
                if is_address(&publication.room) {
                    let room = publication.room.as_str().into();
                    membership(&mut self.rooms, &room).handle_publication(*publication, cx);
                } else if let Some(membership) = self.rooms.get_mut(&*publication.room) {
                    membership.handle_publication(*publication, cx);
                }
            }
            // A second welcome is none.
            Incoming::Welcome(_) | Incoming::Ignored => {}
        }
    }

    /// An error without id: the answer to an entry of `$hello.rooms`, or a complaint.
    pub(super) fn failed(&mut self, room: Option<&str>, error: CommandError) {
        let CommandError::Refused(refused) = error else { return };
        let of_join = refused.command.as_deref().is_none_or(|command| command == "$join");
        if let Some(membership) = room.filter(|_| of_join).and_then(|it| self.rooms.get_mut(it))
            && membership.handle_error(&CommandError::Refused(refused.clone()), &mut self.cx)
        {
            return;
        }
        self.cx.report(ClientError::Refused(refused));
    }
}
