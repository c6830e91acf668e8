//! A handle on a room, and what can be asked there.

use std::fmt;
use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use clarion_protocol::{ErrorName, Position};
use serde::Serialize;

use crate::builder::ms;
use crate::call::{Call, error_of};
use crate::client::EVENTS;
use crate::core::codec::{Ack, HistoryPage, Json, MembersPage};
use crate::core::{
    CommandError, HistoryOptions, JoinOptions, MembersOptions, MembersSnapshot, Outcome,
    PublishError, PublishOptions, RoomEvent, RoomState, Status,
};
use crate::events::Events;
use crate::shared::{Answer, Handle};

/// A handle on one room, good for the life of its client: it survives reconnects.
///
/// Publishing and history need permission, not membership, so they work before
/// [`join`](Self::join), too.
#[derive(Clone)]
pub struct Room {
    handle: Arc<Handle>,
    name: Arc<str>,
}

impl Room {
    pub(crate) fn new(handle: Arc<Handle>, name: Arc<str>) -> Self {
        Self { handle, name }
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the client stands in the room, and why.
    pub fn status(&self) -> Status<RoomState> {
        let status = self.handle.shared.look(|core| core.room_status(&self.name).cloned());
        status.unwrap_or_else(|| Status::new(RoomState::Left, "new"))
    }

    /// The last publication seen; to join from there later, keep it before [`leave`](Self::leave).
    pub fn position(&self) -> Option<Position> {
        self.handle.shared.look(|core| core.position(&self.name).cloned())
    }

    /// Whether the room keeps a log; unknown before the first join.
    pub fn is_logged(&self) -> Option<bool> {
        self.handle.shared.look(|core| core.is_logged(&self.name))
    }

    /// Who is here, if joined with `members`.
    pub fn members(&self) -> MembersSnapshot {
        self.handle.shared.look(|core| core.members(&self.name))
    }

    /// What happens in the room from now on, at most 1,024 events at a time.
    ///
    /// For a room that the server made this client join, called after
    /// [`ClientEvent::Room`](crate::ClientEvent::Room) said so, it begins with the join.
    pub fn events(&self) -> Events<RoomEvent> {
        self.events_with(EVENTS)
    }

    /// As [`events`](Self::events), with another bound.
    pub fn events_with(&self, capacity: usize) -> Events<RoomEvent> {
        Events::new(self.handle.shared.room_events(&self.name, capacity))
    }

    /// Joins, and stays joined over reconnects until [`leave`](Self::leave).
    pub fn join(&self) -> Join<'_> {
        Join { room: self, options: JoinOptions::default(), timeout_ms: None }
    }

    /// Leaves, and forgets the position.
    ///
    /// # Errors
    /// The server did not answer in time; the room is left here whatever it says.
    pub fn leave(&self) -> Call<Result<(), CommandError>> {
        Call::new(&self.handle, |core, now| core.leave(&self.name, None, now), done)
    }

    /// Publishes a payload as JSON.
    pub fn publish(
        &self,
        kind: impl Into<String>,
        payload: &(impl Serialize + ?Sized),
    ) -> Publish<'_> {
        Publish {
            room: self,
            kind: kind.into(),
            payload: Json::new(payload).map_err(|error| error.to_string()),
            options: PublishOptions::default(),
        }
    }

    /// Reads the log; its end, unless told where.
    pub fn history(&self) -> History<'_> {
        History { room: self, options: HistoryOptions::default(), timeout_ms: None }
    }

    /// Asks who is here, a page at a time by client id; works without having joined.
    pub fn list_members(&self) -> ListMembers<'_> {
        ListMembers { room: self, options: MembersOptions::default(), timeout_ms: None }
    }

    /// Sets my presence state here, any JSON up to 1 KiB; it is set again after a reconnect.
    ///
    /// # Errors
    /// The server refused it, or did not answer in time.
    pub fn set_state(&self, state: &(impl Serialize + ?Sized)) -> Call<Result<(), CommandError>> {
        match Json::new(state) {
            Ok(state) => {
                let room = &self.name;
                Call::new(&self.handle, |core, now| core.set_state(room, state, None, now), done)
            }
            Err(error) => Call::failed(Answer::Done(Err(unwritable(&error.to_string()))), done),
        }
    }

    /// In `$user/<me>`: everything up to here was handled. That is said by itself, unless something
    /// was not handled or [`Builder::auto_ack`](crate::Builder::auto_ack) is false.
    ///
    /// # Errors
    /// The server refused it, or did not answer in time.
    pub fn ack(&self, position: &Position) -> Call<Result<(), CommandError>> {
        self.handle.shared.acknowledged(&self.name, position);
        Call::new(&self.handle, |core, now| core.ack(&self.name, position, None, now), done)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("name", &self.name).finish_non_exhaustive()
    }
}

fn done(answer: Answer) -> Result<(), CommandError> {
    match answer {
        Answer::Done(Ok(_)) => Ok(()),
        other => Err(error_of(other)),
    }
}

fn unwritable(why: &str) -> CommandError {
    let rule = format!("the payload cannot be written as JSON: {why}");
    CommandError::invalid(ErrorName::BadRequest, &rule, "payload", None)
}

/// How to join: await it, or [`send`](Self::send) it.
#[must_use = "nothing is joined until this is awaited or sent"]
pub struct Join<'a> {
    room: &'a Room,
    options: JoinOptions,
    timeout_ms: Option<u64>,
}

impl Join<'_> {
    /// Replay everything after this.
    pub fn after(mut self, position: Position) -> Self {
        self.options.after = Some(position);
        self
    }

    /// Replay the newest so many, if there is no `after` or it is no longer in the log.
    pub fn last(mut self, count: u64) -> Self {
        self.options.last = Some(count);
        self
    }

    /// Hear who is here and who comes and goes.
    pub fn members(mut self) -> Self {
        self.options.members = true;
        self
    }

    /// How long to wait. It fails the call and nothing else: the room is joined as soon as that is
    /// possible. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(ms(timeout));
        self
    }

    /// Joins.
    ///
    /// # Errors
    /// The server refused it for good, something later made it meaningless, or it did not answer in
    /// time.
    pub fn send(self) -> Call<Result<(), CommandError>> {
        let Self { room, options, timeout_ms } = self;
        let act =
            |core: &mut crate::core::Core, now| core.join(&room.name, options, timeout_ms, now);
        Call::new(&room.handle, act, done)
    }
}

impl IntoFuture for Join<'_> {
    type Output = Result<(), CommandError>;
    type IntoFuture = Call<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send()
    }
}

/// How to publish: await it, or [`send`](Self::send) it.
#[must_use = "nothing is published until this is awaited or sent"]
pub struct Publish<'a> {
    room: &'a Room,
    kind: String,
    payload: Result<Json, String>,
    options: PublishOptions,
}

impl Publish<'_> {
    /// Idempotency key, 1 to 64 bytes: publications with the same key are one. Without it one is
    /// made, where the room keeps a log.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.options.key = Some(key.into());
        self
    }

    /// Deliver to who is there now; never logged, queued or repeated.
    pub fn ephemeral(mut self) -> Self {
        self.options.ephemeral = true;
        self
    }

    /// As [`ephemeral`](Self::ephemeral), and it does not come back to this client.
    pub fn ephemeral_to_others(mut self) -> Self {
        self.options.ephemeral = true;
        self.options.echo = false;
        self
    }

    /// How long to wait, whatever happens. Without it: 5 s for the server's answer, after up to
    /// 60 s of waiting for a connection.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout_ms = Some(ms(timeout));
        self
    }

    /// Publishes. Ready when the server has accepted it to the room's durability, or will not.
    ///
    /// # Errors
    /// It was refused, too much is waiting already, or there was no connection or no answer in
    /// time. With the error comes the key: published again with it, it is never doubled.
    pub fn send(self) -> Call<Result<Ack, PublishError>> {
        let Self { room, kind, payload, options } = self;
        match payload {
            Ok(payload) => {
                let act = |core: &mut crate::core::Core, now| {
                    core.publish(&room.name, kind, payload, options, now)
                };
                Call::new(&room.handle, act, published)
            }
            Err(why) => {
                let error = PublishError::new(unwritable(&why), options.key);
                Call::failed(Answer::Unpublished(error), published)
            }
        }
    }
}

fn published(answer: Answer) -> Result<Ack, PublishError> {
    match answer {
        Answer::Done(Ok(Outcome::Published(ack))) => Ok(ack),
        Answer::Unpublished(error) => Err(error),
        other => Err(PublishError::new(error_of(other), None)),
    }
}

impl IntoFuture for Publish<'_> {
    type Output = Result<Ack, PublishError>;
    type IntoFuture = Call<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send()
    }
}

/// Which part of the log to read: await it, or [`send`](Self::send) it.
#[must_use = "nothing is read until this is awaited or sent"]
pub struct History<'a> {
    room: &'a Room,
    options: HistoryOptions,
    timeout_ms: Option<u64>,
}

impl History<'_> {
    /// The first publications above this position.
    pub fn after(mut self, position: Position) -> Self {
        self.options.after = Some(position);
        self
    }

    /// The last publications below this position.
    pub fn before(mut self, position: Position) -> Self {
        self.options.before = Some(position);
        self
    }

    /// At most this many; the server may send fewer. Default 50.
    pub fn limit(mut self, limit: u64) -> Self {
        self.options.limit = Some(limit);
        self
    }

    /// How long to wait. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(ms(timeout));
        self
    }

    /// Reads.
    ///
    /// # Errors
    /// The room keeps no log, or another one than that of the position (`epoch_changed`), or the
    /// server did not answer in time.
    pub fn send(self) -> Call<Result<HistoryPage, CommandError>> {
        let Self { room, options, timeout_ms } = self;
        let act =
            |core: &mut crate::core::Core, now| core.history(&room.name, options, timeout_ms, now);
        Call::new(&room.handle, act, |answer| match answer {
            Answer::Done(Ok(Outcome::History(page))) => Ok(page),
            other => Err(error_of(other)),
        })
    }
}

impl IntoFuture for History<'_> {
    type Output = Result<HistoryPage, CommandError>;
    type IntoFuture = Call<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send()
    }
}

/// Which page of the members to read: await it, or [`send`](Self::send) it.
#[must_use = "nothing is read until this is awaited or sent"]
pub struct ListMembers<'a> {
    room: &'a Room,
    options: MembersOptions,
    timeout_ms: Option<u64>,
}

impl ListMembers<'_> {
    /// The last `client` of the page before.
    pub fn after(mut self, client: impl Into<String>) -> Self {
        self.options.after = Some(client.into());
        self
    }

    /// At most this many; the server may send fewer.
    pub fn limit(mut self, limit: u64) -> Self {
        self.options.limit = Some(limit);
        self
    }

    /// How long to wait. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = Some(ms(timeout));
        self
    }

    /// Reads.
    ///
    /// # Errors
    /// The server refused it, or did not answer in time.
    pub fn send(self) -> Call<Result<MembersPage, CommandError>> {
        let Self { room, options, timeout_ms } = self;
        let act = |core: &mut crate::core::Core, now| {
            core.list_members(&room.name, &options, timeout_ms, now)
        };
        Call::new(&room.handle, act, |answer| match answer {
            Answer::Done(Ok(Outcome::Members(page))) => Ok(page),
            other => Err(error_of(other)),
        })
    }
}

impl IntoFuture for ListMembers<'_> {
    type Output = Result<MembersPage, CommandError>;
    type IntoFuture = Call<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.send()
    }
}
