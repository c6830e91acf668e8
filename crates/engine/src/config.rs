//! What an operator can set that the engine obeys. Reading files is the server's business.

use crate::effects::Action;
use clarion_protocol::{ErrorName, Pattern, Publication, Refusal, RoomKind, RoomName};
use clarion_store::LogLimits;
use clarion_websocket as websocket;
use std::sync::Arc;

/// Everything the engine needs to know, the same for all workers and fixed for a run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Workers in this process, 1 to 1,024.
    pub workers: u16,
    /// Bounds on what one client can make us hold.
    pub limits: Limits,
    /// Heartbeat.
    pub heartbeat: Heartbeat,
    /// Sessions.
    pub session: Session,
    /// Presence.
    pub presence: Presence,
    /// Compression, for connections that agreed to it.
    pub deflate: Deflate,
    /// Settings by room; the first match wins, and a memory log of the default size if none does.
    pub rooms: Vec<RoomRule>,
    /// Whether groups of the HTTP API are kept by the store that survives the process, as far as their
    /// users are no guests. Who was in them before is said by `Shard::restore_group`.
    pub groups_durable: bool,
    /// Key of the tickets' authentication code; the same on every worker and node.
    pub ticket_key: [u8; 32],
    /// Seed of everything hashed, the homes' included; the same on every worker of this process.
    pub hash_seed: u64,
}

/// Bounds. Each says what happens at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One message of a client, bytes; over it the connection closes with 1009. Default 65,536.
    pub message_bytes: usize,
    /// Frames of one message; over it 1009. Default 1,024.
    pub fragments: u32,
    /// One publication as delivered, bytes; over it 413 for its publisher. Default 131,072.
    pub delivery_bytes: usize,
    /// Bytes queued for one connection; over it members fall back to the log. Default 1 MiB.
    pub outbox_bytes: usize,
    /// How long a connection may stay over it; then 4108. Default 30 s, in milliseconds.
    pub slow_grace_ms: u64,
    /// Bytes of mail from one worker to another; over it rooms fall back to the log and the
    /// connections that command are not read. Default 16 MiB.
    pub mailbox_bytes: usize,
    /// Rooms of one connection; over it 429. Default 100.
    pub rooms: usize,
    /// Commands of one connection under way; at it the connection is not read. Default 128.
    pub commands: u32,
    /// Publications a second of one connection, with bursts of as many; over it 429. 0: no limit.
    /// Default 50.
    pub publish_per_s: u32,
    /// Commands a second of one connection that are no publications, malformed messages included,
    /// with bursts of as many; over it 429. 0: no limit. Default 100.
    pub commands_per_s: u32,
    /// Bytes a second of one connection, of all kinds and inflated, with bursts of as many; over it the
    /// connection is not read until it is under it again, so that nothing is refused or lost. 0: no
    /// limit. Default 4 MiB, which is more than `publish_per_s` messages of `message_bytes`.
    pub bytes_per_s: u32,
    /// Messages of one connection that are refused through its own fault, a minute, with bursts of as
    /// many; over it the connection closes with 4129 if that one came too often, else with 4004. 0: no
    /// limit. Default 1,000.
    pub violations_per_min: u32,
    /// Connections of one user that is no guest; over it the newest closes with 4129. 0: no limit.
    /// Default 1,000.
    pub connections_per_user: usize,
    /// Members of one room, absent ones in their grace included; over it 429 for whoever joins.
    /// Default 1,000,000.
    pub members: usize,
    /// Members of the rooms of one worker that are in their grace since their connection went; over it
    /// a member is gone at once. Default 50,000.
    pub graces: usize,
    /// Publications in one page of `$history`; more are not given. Default 100.
    pub page: u32,
    /// What the logs in memory of all workers take together, bytes; over it the largest are trimmed.
    /// Default 1 GiB.
    pub log_bytes: usize,
    /// Rooms with this worker as their home; over it 503 for whoever wants a new one.
    /// Default 100,000.
    pub homes: usize,
    /// Users in the groups of the HTTP API whose home is one worker, each once for every group;
    /// over it 503 for the API. Default 1,000,000.
    pub group_users: usize,
    /// Revocations that are not over; over it 503 for the API. Every worker has all of them, some 100
    /// bytes each. Default 100,000.
    pub revocations: usize,
    /// From the accepted socket to the `$welcome`; over it 4001. Default 10 s, in milliseconds.
    pub handshake_ms: u64,
    /// How long the peer may take to answer a close frame. Default 5 s, in milliseconds.
    pub close_ms: u64,
    /// A message on `/echo`, bytes. Default 16 MiB.
    pub echo_message_bytes: usize,
    /// Frames of one message on `/echo`. Default 100,000.
    pub echo_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 65_536,
            fragments: 1_024,
            delivery_bytes: 131_072,
            outbox_bytes: 1 << 20,
            slow_grace_ms: 30_000,
            mailbox_bytes: 16 << 20,
            rooms: 100,
            commands: 128,
            publish_per_s: 50,
            commands_per_s: 100,
            bytes_per_s: 4 << 20,
            violations_per_min: 1_000,
            connections_per_user: 1_000,
            members: 1_000_000,
            graces: 50_000,
            page: 100,
            log_bytes: 1 << 30,
            homes: 100_000,
            group_users: 1_000_000,
            revocations: 100_000,
            handshake_ms: 10_000,
            close_ms: 5_000,
            echo_message_bytes: 16 << 20,
            echo_fragments: 100_000,
        }
    }
}

/// When the server pings and when it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Silence before a Ping, milliseconds. Default 25 s.
    pub interval_ms: u64,
    /// Silence after it before 4201, milliseconds. Default 10 s.
    pub timeout_ms: u64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval_ms: 25_000, timeout_ms: 10_000 }
    }
}

/// How long a session outlives its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Life of a ticket, and of the presence of a session that lost its connection,
    /// milliseconds. Default 60 s.
    pub ttl_ms: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self { ttl_ms: 60_000 }
    }
}

/// How presence is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Changes of one room are merged for so long, milliseconds. Default 250.
    pub interval_ms: u64,
    /// In a room with more members only numbers are told. Default 500.
    pub detail_max: usize,
}

impl Default for Presence {
    fn default() -> Self {
        Self { interval_ms: 250, detail_max: 500 }
    }
}

/// What is compressed for connections that agreed to it. What is agreed to is the front's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The shortest message that is compressed, bytes. Default 256.
    pub threshold_bytes: usize,
    /// For what is compressed once for a whole room, and with context takeover: from 1, the fastest,
    /// to 9, the smallest. Default 3.
    pub level: u8,
    /// The same for what is compressed for one connection alone. Default 1: nobody shares its price.
    pub unicast_level: u8,
    /// What a member is sent of its rooms that cannot take what was compressed once for all.
    pub unshared: Unshared,
}

/// What a room's messages are for members whose connection agreed to compression, but to a window
/// of less than 15 bits for the server, or to context takeover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unshared {
    /// Sent plain, which costs bytes.
    #[default]
    Plain,
    /// Compressed for each such member by itself, which costs the time for it.
    Own,
}

impl Default for Deflate {
    fn default() -> Self {
        let websocket::deflate::Settings { threshold_bytes, level } = Default::default();
        Self { threshold_bytes, level, unicast_level: 1, unshared: Unshared::default() }
    }
}

impl Deflate {
    /// How messages are compressed once for many.
    pub(crate) fn shared(&self) -> websocket::deflate::Settings {
        let Self { threshold_bytes, level, .. } = *self;
        websocket::deflate::Settings { threshold_bytes, level }
    }

    /// How messages are compressed for one connection. Whoever agreed to context takeover pays
    /// memory for small messages, so time does not matter more to it.
    pub(crate) fn unicast(
        &self,
        agreed: websocket::deflate::Agreed,
    ) -> websocket::deflate::Settings {
        let takeover = agreed.takeover(websocket::Role::Server);
        let level = if takeover { self.level } else { self.unicast_level };
        websocket::deflate::Settings { threshold_bytes: self.threshold_bytes, level }
    }
}

/// Settings for the rooms that a pattern matches.
#[derive(Clone, Debug)]
pub struct RoomRule {
    /// Which rooms.
    pub pattern: Pattern,
    /// Their settings.
    pub settings: RoomSettings,
}

/// Settings of one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSettings {
    /// The log and its bounds; `None`: the room has no log.
    pub log: Option<LogLimits>,
    /// Whether the log survives the process; of no meaning without one.
    pub durable: bool,
    /// Whether members are told of each other.
    pub presence: bool,
    /// Which sessions may do what; the HTTP API always may.
    pub permissions: Permissions,
    /// The largest payload, bytes of JSON; over it 413 for whoever publishes. `None`: only
    /// `limits.delivery_bytes` holds.
    pub payload_bytes: Option<usize>,
    /// The types that may be published; another is 422 for whoever publishes. `None`: all.
    pub types: Option<Arc<[Box<str>]>>,
}

impl Default for RoomSettings {
    /// A plain room that no rule matches.
    fn default() -> Self {
        Self {
            log: Some(LogLimits::default()),
            durable: false,
            presence: true,
            permissions: Permissions::default(),
            payload_bytes: None,
            types: None,
        }
    }
}

impl RoomSettings {
    /// Why a publication is not taken, from whoever it comes.
    ///
    /// Its type is 422 and not 403: it is about what is said and not about who says it.
    pub(crate) fn refuse(&self, publication: &Publication) -> Option<Refusal> {
        if let Some(types) = &self.types
            && !types.contains(&publication.kind)
        {
            let rule = "this type is none of those that the room takes";
            return Some(Refusal::new(ErrorName::Schema, rule).with_field("type"));
        }
        let limit = self.payload_bytes.filter(|limit| publication.payload.len() > *limit)?;
        Some(Refusal::too_large("payload", limit as u64))
    }
}

/// Which sessions may do something to a room; [`crate::permission`] has the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Whoever was let in, guests included.
    #[default]
    Everyone,
    /// Sessions with a token.
    Users,
    /// Sessions with a token that lists it.
    Granted,
    /// None.
    Nobody,
}

/// Who may do what to a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `$join`; in plain rooms only.
    pub join: Access,
    /// Publications.
    pub publish: Access,
    /// `$history`; in plain rooms only.
    pub history: Access,
    /// `$members`; in plain rooms only.
    pub members: Access,
    /// `$state`; in plain rooms only.
    pub state: Access,
}

impl Permissions {
    /// What `join` is, `history`, `members` and `state` are, too.
    #[must_use]
    pub fn new(join: Access, publish: Access) -> Self {
        Self { join, publish, history: join, members: join, state: join }
    }

    /// Who may do this.
    #[must_use]
    pub fn of(&self, action: Action) -> Access {
        match action {
            Action::Join => self.join,
            Action::Publish => self.publish,
            Action::History => self.history,
            Action::Members => self.members,
            Action::State => self.state,
        }
    }
}

impl Config {
    /// The settings of a room.
    ///
    /// `$all` and `$client/` never have a log: nobody joins them, so nobody has a position. A
    /// guest's `$user/` has none either (promise 7): [`GUEST_PREFIX`] marks those.
    #[must_use]
    pub fn room(&self, room: &RoomName) -> RoomSettings {
        let plain = matches!(room.kind(), RoomKind::Plain);
        let settings = self.rule(room).map_or_else(
            || RoomSettings {
                presence: plain,
                permissions: self.permissions(room),
                ..RoomSettings::default()
            },
            |rule| rule.settings.clone(),
        );
        let unlogged = match room.kind() {
            RoomKind::All | RoomKind::Client(_) => true,
            RoomKind::User(user) => user.starts_with(GUEST_PREFIX),
            RoomKind::Group(_) | RoomKind::Plain => false,
        };
        if unlogged { RoomSettings { log: None, presence: false, ..settings } } else { settings }
    }

    /// Who may do what to a room.
    #[must_use]
    pub fn permissions(&self, room: &RoomName) -> Permissions {
        self.rule(room).map_or_else(
            || {
                let plain = matches!(room.kind(), RoomKind::Plain);
                let publish = if plain { Access::Everyone } else { Access::Granted };
                Permissions { publish, ..Permissions::default() }
            },
            |rule| rule.settings.permissions,
        )
    }

    /// The first rule that matches.
    fn rule(&self, room: &RoomName) -> Option<&RoomRule> {
        self.rooms.iter().find(|rule| rule.pattern.matches(room.as_str()))
    }
}

/// How the ids of guests begin; a token whose user begins so is refused.
pub const GUEST_PREFIX: &str = "guest:";
