//! What shards send each other, and what the services beside them answer.
//!
//! Mail is the only way in which anything crosses from one worker to another. It is plain data.
//! Order is kept per (from, to) pair, and much of the engine rests on that: a member that joined
//! at offset n is told so before publication n + 1 is delivered to its worker.

use crate::counters::Counters;
use crate::effects::{AuthOutcome, Verdict};
use crate::id::{ApiId, ConnId, ConnRef, WorkerId};
use crate::revoked::{Span, Subject};
use bytes::Bytes;
use clarion_protocol::{
    ClientId, CommandId, Epoch, Join, LeftReason, Offset, Pattern, Position, Publication, Refusal,
    RoomName, Sender,
};
use clarion_store::{Completion, Page};
use std::net::SocketAddr;
use std::sync::Arc;

/// One item in a mailbox.
#[derive(Debug)]
pub enum Mail {
    /// To a room's home: do this to the room.
    Command(Box<RoomCommand>),
    /// To a room's home: the connection is gone; its session stays for its grace, or ends.
    Detach {
        /// The room.
        room: RoomName,
        /// The member.
        client: ClientId,
        /// The connection that went. A newer one of the same session is not touched.
        conn: ConnRef,
        /// The client ended the session (close 1000): no grace.
        ended: bool,
    },
    /// To a room's home: read the log for members on `worker` that stand at `after`.
    Fetch {
        /// The room.
        room: RoomName,
        /// Where the answer goes.
        worker: WorkerId,
        /// Which log the readers are in.
        epoch: Epoch,
        /// Their position.
        after: Offset,
    },

    /// To a session's home: this connection now speaks for the session.
    Bind {
        /// The session.
        client: ClientId,
        /// Its connection.
        conn: ConnRef,
    },
    /// To a session's home: this connection no longer does.
    Unbind {
        /// The session.
        client: ClientId,
        /// The connection that went.
        conn: ConnRef,
    },

    /// To a connection: it speaks for its session from now on.
    Bound {
        /// The connection.
        conn: ConnId,
        /// Grows with every binding of the session; a home believes the highest.
        binding: u64,
    },
    /// To a connection: a newer one took over its session.
    Evict {
        /// The connection.
        conn: ConnId,
    },
    /// To a connection: its user has as many as a user may have.
    Crowd {
        /// The connection.
        conn: ConnId,
    },
    /// To a connection: a whole frame for it alone.
    Unicast {
        /// The connection.
        conn: ConnId,
        /// The frame.
        frame: Bytes,
    },
    /// To a connection: who is in the room, as [`Mail::Roster`] asked.
    Members {
        /// The connection.
        conn: ConnId,
        /// The room.
        room: RoomName,
        /// The message.
        frame: Bytes,
    },
    /// To a connection: it is a member of the room no more.
    Removed {
        /// The connection.
        conn: ConnId,
        /// The room.
        room: RoomName,
        /// Why.
        reason: LeftReason,
    },
    /// To a connection's worker: the room's log could not be read for a join of the server's; ask again
    /// if the connection is still there.
    Rejoin(Box<RoomCommand>),
    /// To every worker, from the group's home: a user is in a group from now on, or no more.
    Grouped {
        /// The group's room.
        room: RoomName,
        /// Who.
        user: Box<str>,
        /// Whether it is in.
        member: bool,
    },
    /// To a connection: what came of its command.
    Outcome {
        /// The connection.
        conn: ConnId,
        /// The room, for the reply's metadata and the member table.
        room: RoomName,
        /// The command's id, if it asked for a reply.
        id: Option<CommandId>,
        /// The key, to name a failed command without id.
        key: Option<Box<str>>,
        /// The command's type, for the same purpose; only without id.
        command: Option<Box<str>>,
        /// What the connection gets back with it.
        place: Place,
        /// How it ended.
        outcome: Outcome,
    },

    /// To a worker with members: the next publications of a room, encoded.
    Delivery {
        /// The room.
        room: RoomName,
        /// Which log.
        epoch: Epoch,
        /// The first offset in `frames`.
        first: Offset,
        /// The last one.
        last: Offset,
        /// The publications.
        frames: Frames,
        /// When the first of them was read from its publisher.
        at_us: u64,
    },
    /// To a worker with members: a message without offset.
    Unlogged {
        /// The room.
        room: RoomName,
        /// Who asked not to hear its own.
        except: Option<ConnId>,
        /// The message.
        frame: Frames,
        /// When it was read from its publisher.
        at_us: u64,
    },
    /// To a worker with members: what lies between its position and this one was not delivered;
    /// whoever was live must read it from the log.
    Skip {
        /// The room.
        room: RoomName,
        /// The position live delivery goes on from; `None` in a room without log, where what was
        /// skipped is lost.
        position: Option<Position>,
    },
    /// To a worker with readers: what its [`Mail::Fetch`] asked for.
    Page {
        /// The room.
        room: RoomName,
        /// The position it was asked for.
        after: Offset,
        /// The publications; `None` when the log could not be read.
        page: Option<Page>,
    },
    /// To a room's home: a member that asked for presence missed some; send it everything.
    Roster {
        /// The room.
        room: RoomName,
        /// The member's connection.
        conn: ConnRef,
    },
    /// To a worker with members that asked for them: presence changed.
    Presence {
        /// The room.
        room: RoomName,
        /// The message.
        frame: Frames,
    },

    /// From the store.
    Stored(Completion),
    /// A verdict that came late.
    Decided {
        /// The question's.
        token: u64,
        /// The connection that asked.
        conn: ConnId,
        /// The answer.
        verdict: Verdict,
    },
    /// An authentication that came late.
    Authenticated {
        /// The connection that asked.
        conn: ConnId,
        /// The answer.
        outcome: AuthOutcome,
    },
    /// From the HTTP API, to any worker.
    Api {
        /// Where the answer goes.
        api: ApiId,
        /// What is asked.
        request: ApiRequest,
    },
}

impl Mail {
    /// What the item counts for in a mailbox's bound, bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        const BASE: usize = 128;
        BASE + match self {
            Self::Command(command) => match &command.what {
                What::Publish { publication, .. } => publication.payload.len(),
                What::State { value } => value.len(),
                _ => 0,
            },
            Self::Delivery { frames, .. }
            | Self::Unlogged { frame: frames, .. }
            | Self::Presence { frame: frames, .. } => frames.size(),
            Self::Unicast { frame, .. } | Self::Members { frame, .. } => frame.len(),
            Self::Page { page: Some(page), .. } => {
                page.publications.iter().map(|(_, p)| BASE + p.payload.len()).sum()
            }
            _ => 0,
        }
    }
}

/// Messages that were encoded once for many: whole WebSocket frames, back to back.
#[derive(Clone, Debug)]
pub struct Frames {
    /// As they are.
    pub plain: Bytes,
    /// Compressed, for the connections that take what was compressed for many. `None` where none
    /// was known of.
    pub shared: Option<Bytes>,
}

impl Frames {
    fn size(&self) -> usize {
        self.plain.len() + self.shared.as_ref().map_or(0, Bytes::len)
    }
}

/// Something to be done at a room's home.
#[derive(Clone, Debug)]
pub struct RoomCommand {
    /// Who asks.
    pub origin: Origin,
    /// The room.
    pub room: RoomName,
    /// The reply's id, if one is wanted.
    pub id: Option<CommandId>,
    /// What to do.
    pub what: What,
}

/// Who asks for a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A client's connection.
    Connection {
        /// Where.
        conn: ConnRef,
        /// The session's binding that sent it.
        binding: u64,
        /// The session's identity.
        sender: Arc<Sender>,
        /// It takes frames that were compressed once for many.
        takes_shared: bool,
    },
    /// The HTTP API.
    Api(ApiId),
}

/// What is to be done to a room.
#[derive(Clone, Debug)]
pub enum What {
    /// `$join`, from wherever it comes.
    Join {
        /// The command's payload.
        join: Join,
        /// Whose wish it is.
        by: JoinBy,
    },
    /// `$leave`.
    Leave,
    /// A publication.
    Publish {
        /// The publication, without its place.
        publication: Arc<Publication>,
        /// Asked to be delivered without being logged.
        ephemeral: bool,
        /// Whether the publisher's own connection gets it, too.
        echo: bool,
        /// For idempotency: the API key's name when there is no user.
        principal: Box<str>,
        /// When it was read, on the monotonic clock, microseconds.
        at_us: u64,
    },
    /// `$history`.
    History {
        /// Only above this.
        after: Option<Position>,
        /// Only below this.
        before: Option<Position>,
        /// At most so many.
        limit: u32,
    },
    /// `$members`.
    Members {
        /// At most so many.
        limit: Option<u32>,
        /// Only after this client.
        after: Option<ClientId>,
    },
    /// `$state`.
    State {
        /// Raw JSON, at most 1 KiB.
        value: Box<str>,
    },
    /// `$ack`.
    Ack {
        /// How far.
        position: Position,
    },
    /// Make members leave.
    Remove {
        /// Whom.
        target: Target,
        /// What they are told.
        reason: LeftReason,
    },
    /// Put a user into the group whose room this is, or take it out.
    Group {
        /// Whom.
        user: Box<str>,
        /// Whether it is in from now on.
        member: bool,
    },
    /// Who is in the group whose room this is.
    GroupUsers {
        /// Only above this user.
        after: Option<Box<str>>,
        /// At most so many.
        limit: usize,
    },
}

/// What a command under way takes up of its connection's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing: the server's own doing.
    None,
    /// One of `limits.commands`.
    Command,
    /// That, and one of `limits.rooms`.
    Room,
}

/// Whose wish a join is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinBy {
    /// The client's, by `$join`.
    Command,
    /// The client's, by `$hello.rooms`: answered with `$joined`.
    Hello,
    /// The server's, for the session's own room, a group or the API: answered with `$joined`, and
    /// not counted in `limits.rooms`.
    Server,
}

impl JoinBy {
    /// What comes of it if the connection is in the room already.
    pub(crate) fn already(self) -> Outcome {
        match self {
            // What the server wanted is so already; the client never asked.
            Self::Server => Outcome::Count(0),
            Self::Command | Self::Hello => Outcome::Refused(Refusal::already_joined()),
        }
    }
}

/// Sessions, by one of their two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One session.
    Client(ClientId),
    /// All sessions of a user.
    User(Box<str>),
}

impl Target {
    /// Whether a session is meant.
    #[must_use]
    pub fn is(&self, sender: &Sender) -> bool {
        match self {
            Self::Client(client) => sender.client == Some(*client),
            Self::User(user) => sender.user.as_ref() == Some(user),
        }
    }
}

impl What {
    /// What its connection has given for it.
    pub(crate) fn place(&self) -> Place {
        match self {
            Self::Join { by: JoinBy::Server, .. } | Self::Remove { .. } => Place::None,
            Self::Join { by: JoinBy::Command | JoinBy::Hello, .. } => Place::Room,
            _ => Place::Command,
        }
    }

    /// The command's type; empty for a join that no command of its own asked for.
    #[must_use]
    pub fn command(&self) -> &str {
        match self {
            Self::Join { by: JoinBy::Command, .. } => "$join",
            Self::Join { by: JoinBy::Hello | JoinBy::Server, .. } => "",
            Self::Leave => "$leave",
            Self::Publish { publication, .. } => &publication.kind,
            Self::History { .. } => "$history",
            Self::Members { .. } => "$members",
            Self::State { .. } => "$state",
            Self::Ack { .. } => "$ack",
            Self::Remove { .. } => "$left",
            Self::Group { .. } | Self::GroupUsers { .. } => "group",
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It failed.
    Refused(Refusal),
    /// `$join` worked.
    Joined(Box<JoinOutcome>),
    /// `$leave` worked.
    Left,
    /// A publication was accepted.
    Published {
        /// Its place, if it was logged.
        position: Option<Position>,
        /// Its time, Unix milliseconds.
        time_ms: u64,
        /// It had been accepted before.
        duplicate: bool,
        /// Sessions in the room, as far as is known.
        members: u64,
    },
    /// `$history` worked.
    History {
        /// The page, ascending.
        page: Page,
    },
    /// `$members` worked.
    Members {
        /// This page.
        members: Vec<Present>,
        /// Sessions in all.
        count: u64,
        /// Users in all.
        users: u64,
        /// There are more.
        more: bool,
    },
    /// `$state` worked.
    Stated,
    /// So many were meant by [`What::Remove`] or [`What::Group`].
    Count(u64),
    /// To [`What::GroupUsers`], ascending.
    Users(Vec<Box<str>>),
}

/// What a member needs to know to start.
#[derive(Clone, Debug)]
pub struct JoinOutcome {
    /// The member.
    pub client: ClientId,
    /// Where the room stood, if it has a log.
    pub position: Option<Position>,
    /// The first offset that will be sent.
    pub from: Offset,
    /// Whether everything after the position asked for follows; `false` if none was asked for.
    pub recovered: bool,
    /// Who was there, if asked for.
    pub members: Option<Snapshot>,
    /// It wants to hear of changes.
    pub watch: bool,
    /// Whose wish it was.
    pub by: JoinBy,
    /// The beginning of what is to be replayed, if anything is.
    pub page: Option<Page>,
}

/// One session in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Who.
    pub sender: Arc<Sender>,
    /// What it set by `$state`, raw JSON.
    pub state: Option<Arc<str>>,
}

/// Who is in a room.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Everybody, ascending by client; `None` when there are more than `presence.detail_max`.
    pub all: Option<Vec<Present>>,
    /// Sessions.
    pub count: u64,
    /// Users.
    pub users: u64,
}

/// What the HTTP API asks of a worker.
#[derive(Clone, Debug)]
pub enum ApiRequest {
    /// Publish; any worker passes it to the room's home.
    Publish {
        /// The room.
        room: RoomName,
        /// The publication; the worker sets nothing in it.
        publication: Arc<Publication>,
        /// Not to be logged.
        ephemeral: bool,
        /// The API key's name, for idempotency.
        principal: Box<str>,
    },
    /// This worker's counters and gauges.
    Stats,
    /// This worker's connections, ascending by client id.
    Clients {
        /// Only above this id.
        after: Option<ClientId>,
        /// At most so many.
        limit: usize,
        /// Only members of this room.
        room: Option<RoomName>,
        /// Only this user's.
        user: Option<Box<str>>,
    },
    /// A page of a room's log; any worker passes it on.
    History {
        /// The room.
        room: RoomName,
        /// Only above this.
        after: Option<Position>,
        /// Only below this; not beside `after`.
        before: Option<Position>,
        /// At most so many; `limits.page` holds, too.
        limit: u32,
    },
    /// A page of a room's members; any worker passes it on.
    Members {
        /// The room.
        room: RoomName,
        /// At most so many; `limits.page` holds, too.
        limit: Option<u32>,
        /// Only above this.
        after: Option<ClientId>,
    },
    /// The rooms whose home this worker is, ascending by name: those that somebody is in, or that
    /// were used within the last half minute.
    Rooms {
        /// Only above this name.
        after: Option<RoomName>,
        /// At most so many.
        limit: usize,
        /// Only those that match.
        pattern: Option<Pattern>,
    },
    /// Close this worker's connections of these sessions with 4006.
    Disconnect {
        /// Which.
        target: Target,
    },
    /// Revoke on this worker: its connections of the subject are closed with 4001. Answered with how
    /// many.
    Revoke {
        /// Whose right to be here ends.
        subject: Subject,
        /// Since when, and until when.
        span: Span,
        /// Whether this is the worker that has the store keep it; the answer waits for that.
        keep: bool,
    },
    /// What is revoked now, ascending.
    Revocations {
        /// Only behind this one.
        after: Option<Subject>,
        /// At most so many.
        limit: usize,
    },
    /// Make sessions leave a room that they joined; any worker passes it on. Answered with how many
    /// left.
    Kick {
        /// The room; not one with `$`, since those are the server's to join and leave.
        room: RoomName,
        /// Whom.
        target: Target,
    },
    /// Make this worker's connections of these sessions join a room. Answered with how many are
    /// asked to; one that is in the room already stays as it is.
    Join {
        /// The room; not one with `$`.
        room: RoomName,
        /// Whom.
        target: Target,
    },
    /// Put a user into a group or take it out; any worker passes it on. Answered with 1 if that
    /// changed anything, else 0.
    ///
    /// Groups are kept in the memory of this process.
    Group {
        /// One segment of at most 96 bytes.
        group: Box<str>,
        /// One segment of at most 96 bytes; a guest's id is good as long as the guest is here.
        user: Box<str>,
        /// Whether it is in from now on.
        member: bool,
    },
    /// Who was put into a group by [`ApiRequest::Group`], ascending; any worker passes it on. Those
    /// whom a token puts there are the token's to know.
    GroupUsers {
        /// One segment of at most 96 bytes.
        group: Box<str>,
        /// Only above this user.
        after: Option<Box<str>>,
        /// At most so many.
        limit: usize,
    },
}

/// What a worker answers the HTTP API.
#[derive(Clone, Debug)]
pub enum ApiAnswer {
    /// To [`ApiRequest::Publish`].
    Published {
        /// Its place, if it was logged.
        position: Option<Position>,
        /// Its time, Unix milliseconds.
        time_ms: u64,
        /// It had been accepted before.
        duplicate: bool,
        /// Sessions it went to, as far as is known.
        members: u64,
    },
    /// To any of them.
    Refused(Refusal),
    /// To [`ApiRequest::Stats`].
    Stats(Box<Counters>),
    /// To [`ApiRequest::Clients`].
    Clients(Vec<ClientRow>),
    /// To [`ApiRequest::History`].
    History {
        /// The page, ascending.
        page: Page,
    },
    /// To [`ApiRequest::Members`].
    Members {
        /// The page, ascending by client.
        members: Vec<Present>,
        /// Sessions in all.
        count: u64,
        /// Users in all.
        users: u64,
        /// There are more.
        more: bool,
    },
    /// To [`ApiRequest::Rooms`].
    Rooms(Vec<RoomRow>),
    /// To [`ApiRequest::Disconnect`], [`ApiRequest::Revoke`], [`ApiRequest::Kick`],
    /// [`ApiRequest::Join`] and [`ApiRequest::Group`].
    Count(u64),
    /// To [`ApiRequest::GroupUsers`].
    Users(Vec<Box<str>>),
    /// To [`ApiRequest::Revocations`].
    Revocations(Vec<RevocationRow>),
}

/// One revocation, for `GET /v1/revocations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationRow {
    /// Whose.
    pub subject: Subject,
    /// Since when, and until when.
    pub span: Span,
}

/// One room, for `GET /v1/rooms`.
#[derive(Clone, Debug)]
pub struct RoomRow {
    /// Its name.
    pub room: RoomName,
    /// Sessions in it, those in their grace included.
    pub members: u64,
    /// Different users.
    pub users: u64,
    /// The log's head; `None` in a room without log.
    pub position: Option<Position>,
}

/// One connection, for `GET /clients`.
#[derive(Clone, Debug)]
pub struct ClientRow {
    /// The session's public id.
    pub client: ClientId,
    /// Whom it speaks for.
    pub user: Box<str>,
    /// Where it comes from.
    pub address: SocketAddr,
    /// Since when, Unix milliseconds.
    pub connected_at_ms: u64,
    /// The rooms it is in, at most 100 of them.
    pub rooms: Vec<RoomName>,
    /// The last measured round trip, microseconds.
    pub rtt_us: Option<u32>,
    /// Bytes queued for it.
    pub outbox_bytes: usize,
    /// Publications it is behind, summed over its rooms.
    pub lag: u64,
    /// What it said it runs.
    pub sdk: Option<Box<str>>,
}
