//! What the application asks and gets an answer to.

use std::sync::Arc;

use clarion_protocol::command::STATE_SIZE_MAX;
use clarion_protocol::{OFFSET_MAX, Position, RoomName};

use super::{Core, membership};
use crate::core::codec::{self, Json, Metadata};
use crate::core::commands::{COMMANDS_MAX, Owner};
use crate::core::errors::CommandError;
use crate::core::membership::RoomState;
use crate::core::options::{HistoryOptions, JoinOptions, MembersOptions, PublishOptions};
use crate::core::output::{CallId, Outcome};
use crate::core::status::ClientState;
use crate::core::time::Now;

impl Core {
    /// Joins, and stays joined over reconnects until `leave`. A timeout fails the call and nothing
    /// else: the room is joined as soon as that is possible.
    pub fn join(
        &mut self,
        room: &str,
        options: JoinOptions,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let (call, timeout_ms) = self.begin(now, timeout_ms);
        if let Some(room) = self.checked(call, room) {
            membership(&mut self.rooms, &room).join(call, options, timeout_ms, &mut self.cx);
        }
        call
    }

    /// Leaves, and forgets the position.
    pub fn leave(&mut self, room: &str, timeout_ms: Option<u64>, now: Now) -> CallId {
        let (call, timeout_ms) = self.begin(now, timeout_ms);
        match self.rooms.get_mut(room) {
            Some(membership) => membership.leave(call, timeout_ms, &mut self.cx),
            None => self.cx.done(call, Ok(Outcome::Done)),
        }
        call
    }

    /// Publishes. Settles when the server has accepted it to the room's durability, or will not.
    pub fn publish(
        &mut self,
        room: &str,
        kind: impl Into<String>,
        payload: Json,
        options: PublishOptions,
        now: Now,
    ) -> CallId {
        let (call, _) = self.begin(now, None);
        if self.status.state == ClientState::Closed {
            self.cx.publish_failed(call, CommandError::Closed, options.key);
        } else if let Err(rule) = RoomName::parse(room) {
            self.cx.publish_failed(call, CommandError::bad_room(rule), options.key);
        } else {
            let (outbox, cx) = (&mut self.outbox, &mut self.cx);
            outbox.publish(call, room.into(), kind.into(), payload, options, cx);
        }
        call
    }

    /// Reads the log.
    pub fn history(
        &mut self,
        room: &str,
        mut options: HistoryOptions,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        const LIMIT: u64 = 50;
        options.limit.get_or_insert(LIMIT);
        let payload = codec::history_payload(&options);
        self.request(Owner::History, "$history", &payload, Some(room), timeout_ms, now)
    }

    /// Asks who is in a room, a page at a time by client id.
    pub fn list_members(
        &mut self,
        room: &str,
        options: &MembersOptions,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let payload = codec::members_payload(options);
        self.request(Owner::Members, "$members", &payload, Some(room), timeout_ms, now)
    }

    /// Sets my presence state in a room; it is set again after a reconnect.
    pub fn set_state(
        &mut self,
        room: &str,
        state: Json,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        if state.text().len() > STATE_SIZE_MAX {
            let error = CommandError::too_large(STATE_SIZE_MAX as u64);
            let (call, _) = self.begin(now, None);
            self.cx.done(call, Err(error));
            return call;
        }
        let text = state.text().to_owned();
        let joined = self.rooms.get_mut(room).is_some_and(|membership| {
            membership.present(state.clone());
            membership.status.state == RoomState::Joined
        });
        if joined {
            return self.request(Owner::Empty, "$state", &text, Some(room), timeout_ms, now);
        }
        let (call, _) = self.begin(now, None);
        if let Some(room) = self.checked(call, room) {
            membership(&mut self.rooms, &room).present(state);
            self.cx.done(call, Ok(Outcome::Done));
        }
        call
    }

    /// Whether this is `$user/<me>`, and what is handled there is to be told by
    /// [`handled`](Self::handled).
    pub fn acknowledges(&self, room: &str) -> bool {
        let user = self.session.as_ref().map(|session| &*session.user);
        self.cx.options.auto_ack && room.strip_prefix("$user/").is_some_and(|id| Some(id) == user)
    }

    /// In a room that [`acknowledges`](Self::acknowledges): the application has handled everything
    /// up to here. That is said to the server, now or after the next join, by one `$ack` at a time.
    pub fn handled(&mut self, room: &str, position: &Position, now: Now) {
        self.cx.now = now;
        if self.acknowledges(room)
            && let Some(membership) = self.rooms.get_mut(room)
        {
            membership.handled(position, &mut self.cx);
        }
    }

    /// In `$user/<me>`: everything up to here was handled. Who calls [`handled`](Self::handled) need
    /// not.
    pub fn ack(
        &mut self,
        room: &str,
        position: &Position,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let payload = codec::ack_payload(position);
        self.request(Owner::Empty, "$ack", &payload, Some(room), timeout_ms, now)
    }

    /// Measures the way to the server and back.
    pub fn ping(&mut self, timeout_ms: Option<u64>, now: Now) -> CallId {
        let owner = |call| Owner::Ping(call, now.mono_ms);
        self.request(owner, "$ping", "null", None, timeout_ms, now)
    }

    /// Nobody waits for this call any more. A publication that was not sent will not be; what was
    /// sent, or joined, stays so.
    pub fn cancel(&mut self, call: CallId, now: Now) {
        self.cx.now = now;
        if self.outbox.cancel(call, &mut self.cx) {
            return;
        }
        if self.rooms.values_mut().any(|membership| membership.cancel(call)) {
            return;
        }
        if let Some(id) = self.cx.commands.of_call(call)
            && self.cx.commands.is_revocable(id)
        {
            self.cx.commands.take(id);
        }
    }

    fn begin(&mut self, now: Now, timeout_ms: Option<u64>) -> (CallId, u64) {
        self.cx.now = now;
        self.last_call += 1;
        (CallId(self.last_call), timeout_ms.unwrap_or(self.cx.options.timeout_ms))
    }

    /// The room by a name that follows the rules; else the call is over.
    fn checked(&mut self, call: CallId, room: &str) -> Option<Arc<str>> {
        match RoomName::parse(room) {
            Ok(_) => Some(room.into()),
            Err(rule) => {
                self.cx.done(call, Err(CommandError::bad_room(rule)));
                None
            }
        }
    }

    fn request(
        &mut self,
        owner: impl FnOnce(CallId) -> Owner,
        kind: &str,
        payload: &str,
        room: Option<&str>,
        timeout_ms: Option<u64>,
        now: Now,
    ) -> CallId {
        let (call, timeout_ms) = self.begin(now, timeout_ms);
        if let Some(room) = room
            && self.checked(call, room).is_none()
        {
            return call;
        }
        if self.status.state == ClientState::Closed {
            self.cx.done(call, Err(CommandError::Closed));
        } else if self.cx.commands.others() >= COMMANDS_MAX {
            self.cx.done(call, Err(CommandError::QueueFull));
        } else if let Some(limit) = self.message_bytes()
            && message_size(kind, payload, room) > limit
        {
            // The server would close the connection over it, and with a code that stops for good.
            self.cx.done(call, Err(CommandError::too_large(limit)));
        } else {
            let deadline_ms = now.mono_ms.saturating_add(timeout_ms);
            self.cx.issue(owner(call), deadline_ms, |id| {
                codec::encode(kind, payload, Metadata { room, id: Some(id), ..Metadata::default() })
            });
        }
        call
    }
}

/// The longest that the message can be, in bytes, whatever its id.
fn message_size(kind: &str, payload: &str, room: Option<&str>) -> u64 {
    let metadata = Metadata { room, id: Some(OFFSET_MAX), ..Metadata::default() };
    codec::encode(kind, payload, metadata).len() as u64
}
