//! The seam between a shard and whatever drives it: the real worker, or the simulator.
//!
//! A shard never blocks, reads a clock or touches a socket. What it wants done it says through
//! [`Effects`]; what came of it returns through the `on_*` methods of [`Shard`](crate::Shard).

use crate::id::{ApiId, ConnId, WorkerId};
use crate::mail::{ApiAnswer, Mail};
use bytes::Bytes;
use clarion_protocol::command::Credential;
use clarion_protocol::{Pattern, RoomName, Sender};
use clarion_store::Request;
use std::sync::Arc;

/// What a shard can ask of its driver.
///
/// Every method returns at once. The driver owns the socket and the bytes queued for it.
pub trait Effects {
    /// What was just queued are publications of which the first was read at `at_us`; they are
    /// written when this turn ends.
    ///
    /// Called once for a batch and worker, not for each member. For drivers that measure.
    fn delivering(&mut self, _at_us: u64) {}

    /// Queues `chunk` for the connection; it is written at the end of the turn, with everything
    /// else queued for it, in as few writes as possible.
    ///
    /// The queue itself is unbounded; the shard keeps the bound by asking [`Self::queued`] first.
    fn send(&mut self, conn: ConnId, chunk: Bytes);

    /// Like [`Self::send`] of `head` and `body` in one, but lent for the call: a driver that has
    /// nothing queued for the connection may write at once, and copies what is left.
    ///
    /// For what is so large that copying it costs more than a write of its own.
    fn lend(&mut self, conn: ConnId, head: &[u8], body: &[u8]);

    /// Bytes queued and not yet taken by the kernel, what TLS holds included.
    fn queued(&self, conn: ConnId) -> usize;

    /// Asks for one `on_sent` as soon as `queued(conn) <= below`, at the end of this turn at the
    /// earliest. A second call before it came replaces the mark.
    fn want_sent(&mut self, conn: ConnId, below: usize);

    /// Ends the connection: the driver delivers no more bytes of it, and answers with exactly one
    /// `on_close` (later, not from within this call). With `after_flush` what is queued is written
    /// first, bounded by the driver's linger time.
    fn close(&mut self, conn: ConnId, after_flush: bool);

    /// Stops or resumes reading; effective after the slice that is being handled.
    fn pause_read(&mut self, conn: ConnId, paused: bool);

    /// Puts `mail` into the mailbox of `to`. Never blocks and keeps order per (from, to) pair.
    /// Mail to the shard's own worker is handled before the turn ends.
    fn post(&mut self, to: WorkerId, mail: Mail);

    /// Bytes of mail posted to `to` from here that it has not yet taken, this turn's included.
    fn mail_queued(&self, to: WorkerId) -> usize;

    /// Asks for one `on_mail_room(to)` as soon as `to` has taken enough that half of
    /// `mailbox_bytes` is free again.
    fn want_mail_room(&mut self, to: WorkerId);

    /// Hands a request to the store: to the one that survives the process if the log is `durable`, else
    /// to the one in memory. The answer comes as [`Mail::Stored`] to this worker, in any
    /// later moment of this turn or of a later one; answers for one room come in the order of
    /// the requests.
    fn submit(&mut self, durable: bool, request: Request);

    /// May this be done? `None`: the answer comes later as [`Mail::Decided`] with
    /// `question.token`.
    fn decide(&mut self, question: &Question) -> Option<Verdict>;

    /// Who is this? `None`: the answer comes later as [`Mail::Authenticated`] for `conn`.
    fn authenticate(&mut self, conn: ConnId, credentials: &Credentials) -> Option<AuthOutcome>;

    /// Answers a request of the HTTP API, exactly once.
    fn answer(&mut self, api: ApiId, answer: ApiAnswer);

    /// Fills `out` from the operating system's (or the simulator's seeded) source of randomness.
    fn entropy(&mut self, out: &mut [u8]);
}

/// What a client wants to do to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `$join`, also from `$hello.rooms`.
    Join,
    /// A publication.
    Publish,
    /// `$history`.
    History,
    /// `$members`; a join with `members: true` needs it, too.
    Members,
    /// `$state`.
    State,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Join, Self::Publish, Self::History, Self::Members, Self::State];
}

/// A set of actions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

impl Actions {
    /// All five.
    pub const ALL: Self = Self(0b1_1111);

    /// Whether `action` is one of them.
    #[must_use]
    pub fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }

    /// As one byte, a bit for each.
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// From [`Self::bits`]; `None` if a bit means nothing.
    pub(crate) fn from_bits(bits: u8) -> Option<Self> {
        (bits & !Self::ALL.0 == 0).then_some(Self(bits))
    }
}

impl FromIterator<Action> for Actions {
    fn from_iter<I: IntoIterator<Item = Action>>(actions: I) -> Self {
        Self(actions.into_iter().fold(0, |bits, action| bits | 1 << action as u8))
    }
}

/// A permission asked for one command.
#[derive(Clone, Debug)]
pub struct Question {
    /// Names the parked command when the verdict comes later.
    pub token: u64,
    /// The connection the command came from.
    pub conn: ConnId,
    /// Whom the session speaks for.
    pub sender: Arc<Sender>,
    /// Whether the session is a guest's.
    pub guest: bool,
    /// What the session's token grants; `None` for nothing in particular.
    pub grants: Option<Arc<Grants>>,
    /// Whether the session's connection is in the room; looked up for `$` rooms only.
    pub member: bool,
    /// What is to be done.
    pub action: Action,
    /// It is a join with `members: true`, so that [`Action::Members`] is needed, too.
    pub members: bool,
    /// To which room.
    pub room: RoomName,
}

/// The answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// 403 `forbidden`; the same command will not do better later.
    Deny,
    /// The decision could not be made: 503 `unavailable`, temporary.
    Unavailable,
}

/// What a client brought to say who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A token, from `$hello`, the `Authorization` header, the query or a cookie.
    Token(Credential),
    /// Nothing: a guest, where guests are allowed.
    None,
}

/// What a token grants beside who it names; a session's ticket repeats it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Groups that the session is in, each one segment of at most 96 bytes; at most `limits.rooms`,
    /// or the token is refused.
    pub groups: Vec<Box<str>>,
    /// What the session may do where. `None`: the rooms' settings decide alone. `Some`: it may do
    /// what is listed and no more; at most [`Self::ROOMS_MAX`], or the token is refused.
    pub rooms: Option<Vec<RoomGrant>>,
    /// Limits that hold for the session instead of the settings'.
    pub limits: TokenLimits,
    /// The token's `jti`, at most 128 bytes: what it can be revoked by.
    pub token_id: Option<Box<str>>,
}

/// What a token lets its session do in the rooms of one pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomGrant {
    /// Which rooms.
    pub pattern: Pattern,
    /// What.
    pub actions: Actions,
}

/// Limits of one session; each `None` is what the settings say. They may be less or more than that,
/// since whoever signs tokens is trusted like whoever writes the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenLimits {
    /// `limits.publish_per_s`; 0: no limit.
    pub publish_per_s: Option<u32>,
    /// `limits.commands_per_s`; 0: no limit.
    pub commands_per_s: Option<u32>,
    /// `limits.rooms`.
    pub rooms: Option<u32>,
}

impl Grants {
    /// Most patterns of one token: each is looked at for every command of its session.
    pub const ROOMS_MAX: usize = 100;

    /// Most bytes of what [`Self::size`] counts, or the token is refused: a ticket repeats it, and the
    /// client sends that each time it comes back.
    pub const BYTES_MAX: usize = 8_192;
    /// Longest `jti`, bytes.
    pub const TOKEN_ID_MAX: usize = 128;

    /// What a connection keeps of it: nothing if it grants nothing.
    pub(crate) fn kept(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    /// Bytes that all names and patterns take, with two more for each.
    pub(crate) fn size(&self) -> usize {
        let groups = self.groups.iter().map(|group| group.len() + 2);
        let rooms = self.rooms.iter().flatten().map(|grant| grant.pattern.as_str().len() + 2);
        groups.chain(rooms).sum()
    }

    /// The rooms of the groups.
    pub(crate) fn group_rooms(&self) -> impl Iterator<Item = RoomName> {
        self.groups.iter().filter_map(|group| RoomName::group(group).ok())
    }
}

/// The answer to [`Effects::authenticate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthOutcome {
    /// The token is good.
    User {
        /// One segment of at most 96 bytes.
        user: Box<str>,
        /// Raw JSON shown to others as `info`, if any.
        info: Option<Box<str>>,
        /// What the token grants.
        grants: Grants,
        /// When the token was issued, Unix milliseconds; 0 if it does not say. A revocation of its
        /// user voids all that are not newer.
        issued_at_ms: u64,
        /// When the token ends, Unix milliseconds.
        expires_at_ms: Option<u64>,
    },
    /// No token, and guests are allowed.
    Guest,
    /// 401 and close 4001, with a sentence for the client.
    Denied(&'static str),
    /// The verifier cannot answer: close 4100, temporary.
    Unavailable,
}
