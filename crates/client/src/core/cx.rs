//! What the parts of the core share.

use std::collections::VecDeque;

use super::backoff::Backoff;
use super::codec::{self, Metadata};
use super::commands::{Commands, Owner};
use super::errors::{ClientError, CommandError};
use super::key::KeyMaker;
use super::options::Options;
use super::output::{CallId, ClientEvent, Outcome, Output};
use super::random::Random;
use super::time::Now;

/// What the parts of the core share.
pub(super) struct Cx {
    pub(super) now: Now,
    pub(super) options: Options,
    pub(super) out: VecDeque<Output>,
    pub(super) commands: Commands,
    pub(super) random: Random,
    pub(super) keys: KeyMaker,
    pub(super) connected: bool,
}

impl Cx {
    pub(super) fn done(&mut self, call: CallId, result: Result<Outcome, CommandError>) {
        self.out.push_back(Output::Done { call, result });
    }

    pub(super) fn issue(
        &mut self,
        owner: Owner,
        deadline_ms: u64,
        build: impl FnOnce(u64) -> String,
    ) -> u64 {
        self.commands.issue(owner, deadline_ms, build, &mut self.out)
    }

    /// Issues a command about a room, with the usual time to be answered in.
    pub(super) fn command(&mut self, owner: Owner, kind: &str, payload: &str, room: &str) -> u64 {
        let deadline_ms = self.now.mono_ms.saturating_add(self.options.timeout_ms);
        self.issue(owner, deadline_ms, |id| {
            let metadata = Metadata { room: Some(room), id: Some(id), ..Metadata::default() };
            codec::encode(kind, payload, metadata)
        })
    }

    /// How long to wait before what failed by `error` is tried again, in milliseconds.
    pub(super) fn backoff_ms(&mut self, backoff: &mut Backoff, error: &CommandError) -> u64 {
        let Options { backoff_base_ms, backoff_cap_ms, .. } = self.options;
        let floor_ms = error.retry_after().map_or(0, |wait| wait.as_millis() as u64);
        let jitter_ms = backoff.next_ms(&mut self.random, backoff_base_ms, backoff_cap_ms);
        floor_ms.saturating_add(jitter_ms)
    }

    pub(super) fn report(&mut self, error: ClientError) {
        self.out.push_back(Output::Client(ClientEvent::Error(error)));
    }
}
