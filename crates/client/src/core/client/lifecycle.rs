//! From one connection to the next: trying, waiting, stopping.

use clarion_protocol::close::{self, Policy};

use super::Core;
use crate::core::codec;
use crate::core::codes::close_reason;
use crate::core::commands::ConnId;
use crate::core::connection::{Connection, End};
use crate::core::credentials::{TokenError, TokenReason};
use crate::core::errors::{ClientError, CommandError};
use crate::core::options::Options;
use crate::core::output::{ClientEvent, FetchId, Output};
use crate::core::status::{ClientState, StateEvent, Status};

/// A connection that lasted this long was a success: the next failure starts from the beginning.
const STABLE_MS: u64 = 5_000;
/// Come back within this when the server moved us without saying when.
const SLOT_MS: f64 = 5_000.0;
/// What a server takes before it has said what it takes.
const MESSAGE_BYTES: u64 = 65_536;

/// What the client does when its timer runs out.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    /// Tries to connect; the reason is that of the status.
    Try(String),
    /// Moves, in the slot that the server gave.
    Move,
    /// Gives up waiting for a token.
    GiveUpToken,
}

/// What a fetched token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Connect,
    /// For the connection with this id.
    Refresh(ConnId),
}

/// When and where to come back, as `$reconnect` said.
pub(super) struct Slot {
    pub(super) at_ms: u64,
    pub(super) url: Option<String>,
}

impl Core {
    pub(super) fn try_connect(&mut self, reason: String) {
        self.timer = None;
        self.fetch = None;
        let code = self.status.code;
        self.transition(Status::new(ClientState::Connecting, reason).code(code).retrying());
        match self.credentials.prepare(self.cx.now) {
            None => self.open(),
            Some(reason) => {
                // The fetch has the same time as the connection: it must not hang the client.
                let wait_ms = self.cx.options.connect_timeout_ms;
                let at_ms = self.cx.now.mono_ms.saturating_add(wait_ms);
                self.timer = Some((at_ms, Plan::GiveUpToken));
                self.start_fetch(reason, Purpose::Connect);
            }
        }
    }

    pub(super) fn start_fetch(&mut self, reason: TokenReason, purpose: Purpose) {
        self.last_fetch += 1;
        let fetch = FetchId(self.last_fetch);
        self.fetch = Some((fetch, purpose));
        self.cx.out.push_back(Output::FetchToken { fetch, reason });
    }

    pub(super) fn open(&mut self) {
        self.timer = None;
        let url = self.slot.take().and_then(|slot| slot.url);
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.connection = Some(Connection::new(conn, &self.cx.options, self.cx.now.mono_ms));
        self.cx.out.push_back(Output::Open { conn, url });
    }

    /// The longest message that the server takes, in bytes; `None` if it said that it has no limit.
    pub(super) fn message_bytes(&self) -> Option<u64> {
        let session = self.session.as_ref();
        let bytes = session.map_or(MESSAGE_BYTES, |session| session.limits.message_bytes);
        Some(bytes).filter(|bytes| *bytes > 0)
    }

    /// The wanted rooms are those of this moment; what does not fit is joined after the welcome.
    pub(super) fn hello(&mut self) -> String {
        let budget = self.message_bytes().unwrap_or(MESSAGE_BYTES) / 4 * 3;
        let mut rooms = Vec::new();
        let mut used = 0;
        for (name, membership) in &mut self.rooms {
            if used >= budget {
                break;
            }
            if let Some(entry) = membership.hello(&mut self.cx) {
                used += (name.len() + entry.len() + 4) as u64;
                rooms.push((&**name, entry));
            }
        }
        let token = self.credentials.token();
        let ticket = self.credentials.ticket(self.cx.now);
        codec::hello_payload(token, ticket, &rooms, &self.cx.options.sdk)
    }

    pub(super) fn lost(&mut self, end: End) {
        let End { code, reason, retry_after_ms, refused } = end;
        let now_ms = self.cx.now.mono_ms;
        let was_connected = self.status.state == ClientState::Connected;
        self.detach();
        if was_connected && now_ms.saturating_sub(self.connected_at_ms) >= STABLE_MS {
            self.backoff.reset();
        }
        if code == close::TOKEN_EXPIRED {
            self.credentials.refuse();
        }
        let mut policy = close::policy(code);
        if code == close::UNAUTHENTICATED && self.credentials.refuse() {
            policy = Policy::Backoff;
        }
        let wait_ms = match (policy, &self.slot) {
            (Policy::Stop, _) => {
                if let Some(refused) = refused {
                    self.cx.report(ClientError::Refused(refused));
                }
                self.stop(code, reason);
                return;
            }
            (_, Some(slot)) => retry_after_ms.max(slot.at_ms.saturating_sub(now_ms)),
            (Policy::Slot, None) => {
                retry_after_ms.saturating_add((self.cx.random.fraction() * SLOT_MS) as u64)
            }
            (Policy::Backoff, None) => retry_after_ms.saturating_add(self.next_backoff_ms()),
        };
        self.may_hurry = self.slot.is_none() && policy == Policy::Backoff && retry_after_ms == 0;
        self.wait(code, reason, wait_ms);
    }

    pub(super) fn next_backoff_ms(&mut self) -> u64 {
        let Options { backoff_base_ms, backoff_cap_ms, .. } = self.cx.options;
        self.backoff.next_ms(&mut self.cx.random, backoff_base_ms, backoff_cap_ms)
    }

    pub(super) fn wait(&mut self, code: u16, reason: String, wait_ms: u64) {
        let at_ms = self.cx.now.mono_ms.saturating_add(wait_ms);
        self.timer = Some((at_ms, Plan::Try(reason.clone())));
        let status = Status::new(ClientState::Connecting, reason).code(code);
        self.transition(status.retry_in_ms(wait_ms));
    }

    pub(super) fn token_failed(&mut self, error: &TokenError) {
        self.cx.report(ClientError::Token(error.to_string()));
        match error {
            TokenError::Refused(_) => {
                self.stop(close::UNAUTHENTICATED, close_reason(close::UNAUTHENTICATED));
            }
            TokenError::Failed(_) => {
                self.may_hurry = true;
                let wait_ms = self.next_backoff_ms();
                self.wait(0, "token_failed".to_owned(), wait_ms);
            }
        }
    }

    pub(super) fn stop(&mut self, code: u16, reason: String) {
        // What waits for an answer or a connection will not get one.
        self.outbox.suspend();
        for (id, owner) in self.cx.commands.take_all() {
            self.settled(id, owner, Err(CommandError::Closed));
        }
        self.outbox.fail_all(&mut self.cx);
        self.connection = None;
        self.detach();
        self.timer = None;
        self.fetch = None;
        self.slot = None;
        self.credentials.forget_session();
        self.transition(Status::new(ClientState::Closed, reason).code(code));
    }

    /// Closes the socket; nothing more is heard of it.
    pub(super) fn end_connection(&mut self, code: u16, reason: &'static str) {
        if let Some(connection) = self.connection.take() {
            self.cx.out.push_back(Output::Close { conn: connection.id, code, reason });
        }
    }

    /// Lets go of the connection, in the order in which commands, queue and rooms depend on it.
    pub(super) fn detach(&mut self) {
        self.cx.connected = false;
        self.refresh.stop();
        self.timer = None;
        self.outbox.suspend();
        for (id, owner) in self.cx.commands.detach() {
            self.settled(id, owner, Err(CommandError::ConnectionLost));
        }
        self.outbox.detach(&mut self.cx);
    }

    pub(super) fn transition(&mut self, next: Status<ClientState>) {
        let previous = std::mem::replace(&mut self.status, next.clone()).state;
        if next.retry_in.is_some() || next.state == ClientState::Closed {
            for membership in self.rooms.values_mut() {
                membership.dropped(&next, &mut self.cx);
            }
        }
        let event = StateEvent { previous, status: next };
        self.cx.out.push_back(Output::Client(ClientEvent::State(event)));
    }
}
