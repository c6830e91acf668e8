//! Publications on their way to the server.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use clarion_protocol::{ErrorName, OFFSET_MAX};

use super::codec::{self, Json, Limits, Metadata};
use super::commands::Owner;
use super::cx::Cx;
use super::errors::{CommandError, PublishError, Refused};
use super::options::PublishOptions;
use super::output::{CallId, Outcome, Output};
use super::pace::Pace;

struct Entry {
    call: CallId,
    room: Arc<str>,
    kind: String,
    payload: Json,
    key: Option<String>,
    own_key: bool,
    size: usize,
    expires_at_ms: u64,
    /// The caller's own limit.
    deadline_ms: Option<u64>,
}

/// Most publications that wait for the server's answer at a time, ephemeral ones and those that were
/// cancelled among them. Further ones wait in the queue; ephemeral ones are refused.
const IN_FLIGHT_MAX: usize = 1024;
/// Most rooms that are remembered to keep no log. When there are more, all are forgotten, which
/// costs one refused publication each.
const KEYLESS_MAX: usize = 1024;

/// Publications on their way to the server.
///
/// Without a connection, and while the socket or the server takes no more, they wait: in order and
/// within `OutboxLimits`. One more is refused with `queue_full`, one too old fails with `timeout`.
/// What was sent when a connection broke has an unknown outcome: with a key it goes back to its place
/// in the queue and the server drops the repetition; without one it fails with `connection_lost`,
/// because it could be doubled.
#[derive(Default)]
pub(super) struct Outbox {
    /// Rooms known to keep no log, where a key is an error.
    keyless: BTreeSet<Arc<str>>,
    queue: VecDeque<Entry>,
    queued_bytes: usize,
    in_flight: BTreeMap<CallId, Entry>,
    /// What a broken connection gave back, in the order in which it had been sent.
    returned: Vec<Entry>,
    /// While there is a connection.
    pace: Option<Pace>,
    congested: bool,
    /// 0 is no limit.
    message_bytes: u64,
    pump_at_ms: Option<u64>,
}

impl Outbox {
    /// How many wait for a connection.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.pump_at_ms
    }

    pub(super) fn on_tick(&mut self, cx: &mut Cx) {
        if self.pump_at_ms.is_some_and(|at_ms| at_ms <= cx.now.mono_ms) {
            self.pump(cx);
        }
    }

    /// The room said, by its join reply, whether it keeps a log.
    pub(super) fn learn(&mut self, room: &Arc<str>, logged: bool) {
        if logged {
            self.keyless.remove(room);
        } else {
            if self.keyless.len() >= KEYLESS_MAX {
                self.keyless.clear();
            }
            self.keyless.insert(room.clone());
        }
    }

    pub(super) fn publish(
        &mut self,
        call: CallId,
        room: Arc<str>,
        kind: String,
        payload: Json,
        options: PublishOptions,
        cx: &mut Cx,
    ) {
        let own_key = options.key.is_none();
        let key = match options.key {
            None if !options.ephemeral && !self.keyless.contains(&room) => {
                Some(cx.keys.next(&mut cx.random))
            }
            given => given,
        };
        let metadata = Metadata {
            room: Some(&room),
            // The longest id is counted, so that what fits here fits on the wire.
            id: Some(OFFSET_MAX),
            key: key.as_deref(),
            ephemeral: options.ephemeral,
            echo: (options.ephemeral && !options.echo).then_some(false),
        };
        let size = codec::encode(&kind, payload.text(), metadata).len();
        if let Err(error) = self.check(&kind, size) {
            cx.publish_failed(call, error, key);
            return;
        }
        let now_ms = cx.now.mono_ms;
        let deadline_ms = options.timeout_ms.map(|timeout_ms| now_ms.saturating_add(timeout_ms));
        if options.ephemeral {
            if let Err(error) = self.take_turn(cx) {
                cx.publish_failed(call, error, key);
                return;
            }
            let deadline_ms = deadline_ms.unwrap_or(now_ms.saturating_add(cx.options.timeout_ms));
            cx.issue(Owner::Ephemeral(call), deadline_ms, |id| {
                codec::encode(&kind, payload.text(), Metadata { id: Some(id), ..metadata })
            });
            return;
        }
        let expires_at_ms = now_ms.saturating_add(cx.options.outbox.age_ms);
        let expires_at_ms = deadline_ms.map_or(expires_at_ms, |ms| ms.min(expires_at_ms));
        let entry =
            Entry { call, room, kind, payload, key, own_key, size, expires_at_ms, deadline_ms };
        if self.queue.is_empty() && self.take_turn(cx).is_ok() {
            self.transmit(entry, cx);
        } else if self.fits(&entry, cx) {
            self.push(entry);
            self.pump(cx);
        } else {
            cx.publish_failed(call, CommandError::QueueFull, entry.key);
        }
    }

    pub(super) fn attach(&mut self, limits: &Limits, cx: &mut Cx) {
        self.message_bytes = limits.message_bytes;
        self.pace = Some(Pace::new(limits.publish_per_s, cx.now.mono_ms));
        self.congested = false;
        // What was published before the server had said what it takes, or to one that took more.
        let limit = limits.message_bytes;
        if limit > 0 {
            self.fail_if(|entry| entry.size as u64 > limit, &CommandError::too_large(limit), cx);
        }
        self.pump(cx);
    }

    /// Sends nothing from now on. To be called before what is on the way is given back.
    pub(super) fn suspend(&mut self) {
        self.pace = None;
    }

    /// To be called after what was on the way was given back.
    pub(super) fn detach(&mut self, cx: &mut Cx) {
        let newer = std::mem::take(&mut self.queue);
        self.queued_bytes = 0;
        for entry in std::mem::take(&mut self.returned).into_iter().chain(newer) {
            if self.fits(&entry, cx) {
                self.push(entry);
            } else {
                cx.publish_failed(entry.call, CommandError::QueueFull, entry.key);
            }
        }
        self.pump(cx);
    }

    /// The socket takes no more, or does again.
    pub(super) fn set_congested(&mut self, congested: bool, cx: &mut Cx) {
        if std::mem::replace(&mut self.congested, congested) && !congested {
            self.pump(cx);
        }
    }

    pub(super) fn fail_all(&mut self, cx: &mut Cx) {
        self.pump_at_ms = None;
        self.queued_bytes = 0;
        let entries = std::mem::take(&mut self.returned).into_iter();
        for entry in entries.chain(std::mem::take(&mut self.queue)) {
            cx.publish_failed(entry.call, CommandError::Closed, entry.key);
        }
    }

    /// Nobody waits for it any more: what was not sent will not be. Returns whether it was here.
    pub(super) fn cancel(&mut self, call: CallId, cx: &mut Cx) -> bool {
        if self.in_flight.remove(&call).is_some() {
            return true;
        }
        let Some(index) = self.queue.iter().position(|entry| entry.call == call) else {
            return false;
        };
        if let Some(entry) = self.queue.remove(index) {
            self.queued_bytes -= entry.size;
        }
        self.pump(cx);
        true
    }

    /// The server answered, or will not.
    pub(super) fn answered(
        &mut self,
        call: CallId,
        result: Result<&str, CommandError>,
        cx: &mut Cx,
    ) {
        if let Some(entry) = self.in_flight.remove(&call) {
            self.settle(entry, result, cx);
        }
        if self.pace.is_some() {
            self.pump(cx);
        }
    }

    /// As [`answered`](Self::answered), of an ephemeral one.
    pub(super) fn answered_ephemeral(
        &mut self,
        call: CallId,
        result: Result<&str, CommandError>,
        cx: &mut Cx,
    ) {
        let ack = result
            .and_then(|payload| codec::ack(payload, None).map_err(|_| CommandError::Malformed));
        match ack {
            Ok(ack) => cx.done(call, Ok(Outcome::Published(ack))),
            Err(error) => cx.publish_failed(call, error, None),
        }
        if self.pace.is_some() {
            self.pump(cx);
        }
    }

    fn settle(&mut self, mut entry: Entry, result: Result<&str, CommandError>, cx: &mut Cx) {
        let call = entry.call;
        match result {
            Ok(payload) => match codec::ack(payload, entry.key.clone()) {
                Ok(ack) => cx.done(call, Ok(Outcome::Published(ack))),
                Err(_) => cx.publish_failed(call, CommandError::Malformed, entry.key),
            },
            Err(CommandError::ConnectionLost) if entry.key.is_some() => self.returned.push(entry),
            Err(CommandError::Refused(refused))
                if refused.name == ErrorName::KeyNeedsLog.as_str()
                    && entry.own_key
                    && entry.key.is_some() =>
            {
                self.learn(&entry.room, false);
                entry.key = None;
                self.transmit(entry, cx);
            }
            Err(error) => cx.publish_failed(call, error, entry.key),
        }
    }

    fn check(&self, kind: &str, size: usize) -> Result<(), CommandError> {
        if !codec::is_publication_type(kind) {
            let rule = "a publication's type has 1 to 64 bytes and no leading $";
            return Err(CommandError::invalid(ErrorName::BadRequest, rule, "type", None));
        }
        // The server would close the connection over it, and with a code that stops for good.
        let limit = self.message_bytes;
        if limit > 0 && size as u64 > limit {
            return Err(CommandError::too_large(limit));
        }
        Ok(())
    }

    /// May one more be sent now?
    fn take_turn(&mut self, cx: &Cx) -> Result<(), CommandError> {
        let Some(pace) = &mut self.pace else { return Err(CommandError::NotConnected) };
        if self.congested || cx.commands.publications() >= IN_FLIGHT_MAX {
            return Err(CommandError::QueueFull);
        }
        match pace.take(cx.now.mono_ms) {
            0 => Ok(()),
            wait_ms => Err(CommandError::Refused(Box::new(Refused {
                code: ErrorName::RateLimited.code(),
                name: ErrorName::RateLimited.as_str().to_owned(),
                message: "more than the server takes in this time".to_owned(),
                temporary: true,
                retry_after_ms: Some(wait_ms),
                ..Refused::default()
            }))),
        }
    }

    fn fits(&self, entry: &Entry, cx: &Cx) -> bool {
        let limits = &cx.options.outbox;
        self.queue.len() < limits.messages && self.queued_bytes + entry.size <= limits.bytes
    }

    fn push(&mut self, entry: Entry) {
        self.queued_bytes += entry.size;
        self.queue.push_back(entry);
    }

    /// Sends what may be sent, drops what is too old, and sets the time of whichever comes next.
    fn pump(&mut self, cx: &mut Cx) {
        self.pump_at_ms = None;
        let now_ms = cx.now.mono_ms;
        self.fail_if(|entry| entry.expires_at_ms <= now_ms, &CommandError::Timeout, cx);
        let mut turn_at_ms = None;
        while !self.queue.is_empty() {
            if let Err(error) = self.take_turn(cx) {
                turn_at_ms = error.retry_after().map(|wait| now_ms + wait.as_millis() as u64);
                break;
            }
            if let Some(entry) = self.queue.pop_front() {
                self.queued_bytes -= entry.size;
                self.transmit(entry, cx);
            }
        }
        let oldest_ms = self.queue.iter().map(|entry| entry.expires_at_ms).min();
        self.pump_at_ms = [oldest_ms, turn_at_ms].into_iter().flatten().min();
    }

    /// Fails those in the queue for which `is_over` holds; the others keep their order.
    fn fail_if(&mut self, is_over: impl Fn(&Entry) -> bool, error: &CommandError, cx: &mut Cx) {
        if !self.queue.iter().any(&is_over) {
            return;
        }
        for entry in std::mem::take(&mut self.queue) {
            if is_over(&entry) {
                self.queued_bytes -= entry.size;
                cx.publish_failed(entry.call, error.clone(), entry.key);
            } else {
                self.queue.push_back(entry);
            }
        }
    }

    fn transmit(&mut self, entry: Entry, cx: &mut Cx) {
        // The caller's own limit replaces the usual one, also when it is longer.
        let usual_ms = cx.now.mono_ms.saturating_add(cx.options.timeout_ms);
        let deadline_ms = entry.deadline_ms.unwrap_or(usual_ms);
        cx.issue(Owner::Publish(entry.call), deadline_ms, |id| {
            let metadata = Metadata {
                room: Some(&entry.room),
                id: Some(id),
                key: entry.key.as_deref(),
                ..Metadata::default()
            };
            codec::encode(&entry.kind, entry.payload.text(), metadata)
        });
        self.in_flight.insert(entry.call, entry);
    }
}

impl Cx {
    pub(super) fn publish_failed(
        &mut self,
        call: CallId,
        error: CommandError,
        key: Option<String>,
    ) {
        self.out.push_back(Output::PublishFailed { call, error: PublishError::new(error, key) });
    }
}
