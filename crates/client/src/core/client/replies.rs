//! How a command that was answered, or will not be, ends.

use std::time::Duration;

use super::Core;
use super::lifecycle::Purpose;
use crate::core::codec;
use crate::core::commands::Owner;
use crate::core::credentials::TokenReason;
use crate::core::errors::{ClientError, CommandError};
use crate::core::membership::RoomState;
use crate::core::output::Outcome;

impl Core {
    pub(super) fn settled(&mut self, id: u64, owner: Owner, result: Result<&str, CommandError>) {
        let cx = &mut self.cx;
        let outcome = |outcome: Result<Outcome, serde_json::Error>| {
            outcome.map_err(|_| CommandError::Malformed)
        };
        match owner {
            Owner::History(call) => {
                let result =
                    result.and_then(|it| outcome(codec::history(it).map(Outcome::History)));
                cx.done(call, result);
            }
            Owner::Members(call) => {
                let result =
                    result.and_then(|it| outcome(codec::members(it).map(Outcome::Members)));
                cx.done(call, result);
            }
            Owner::Empty(call) => cx.done(call, result.map(|_| Outcome::Done)),
            Owner::Ping(call, sent_at_ms) => {
                let wait_ms = cx.now.mono_ms.saturating_sub(sent_at_ms);
                cx.done(call, result.map(|_| Outcome::Pong(Duration::from_millis(wait_ms))));
            }
            Owner::Publish(call) => self.outbox.answered(call, result, cx),
            Owner::Ephemeral(call) => self.outbox.answered_ephemeral(call, result, cx),
            Owner::Join(room) => {
                let Some(membership) = self.rooms.get_mut(&room) else { return };
                membership.answered(id, result, cx);
                if membership.status.state == RoomState::Joined
                    && let Some(logged) = membership.logged
                {
                    self.outbox.learn(&room, logged);
                }
            }
            Owner::Leave(room, call) => {
                if let Some(membership) = self.rooms.get_mut(&room) {
                    membership.left(id, call, result, cx);
                }
            }
            Owner::Ack(room, said) => {
                if let Some(membership) = self.rooms.get_mut(&room) {
                    membership.acked(id, &said, result.map(|_| ()), cx);
                }
            }
            Owner::Refresh => self.refreshed(result),
            Owner::Nobody => {}
        }
    }

    pub(super) fn start_refresh(&mut self) {
        let Some(conn) = self.connection.as_ref().map(|connection| connection.id) else { return };
        if self.credentials.can_refresh() {
            self.start_fetch(TokenReason::Refresh, Purpose::Refresh(conn));
        }
    }

    pub(super) fn refreshed(&mut self, result: Result<&str, CommandError>) {
        let expires = result
            .and_then(|payload| codec::expires_at_ms(payload).map_err(|_| CommandError::Malformed));
        match expires {
            Ok(expires_at_ms) => {
                self.refresh.succeeded();
                self.credentials.expires_at(expires_at_ms);
            }
            // The next connection shows the new token.
            Err(CommandError::ConnectionLost | CommandError::Closed) => {}
            Err(error) => {
                if error.is_temporary() {
                    let now_ms = self.cx.now.mono_ms;
                    self.refresh.failed(now_ms, &self.cx.options, &mut self.cx.random);
                }
                self.cx.report(ClientError::Refresh(error));
            }
        }
    }
}
