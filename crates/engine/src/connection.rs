//! One connection as its shard sees it: plain data.

use crate::config::Limits;
use crate::effects::{Credentials, Grants, TokenLimits, Verdict};
use crate::id::ConnId;
use crate::mail::What;
use clarion_protocol::{CommandId, ErrorName, Join, RoomName, Sender, close};
use clarion_websocket as websocket;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// What the front knows of a connection when it hands it over.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its name, given by the driver.
    pub conn: ConnId,
    /// What it asked for.
    pub endpoint: Endpoint,
    /// What was agreed on for compression, if it was.
    pub deflate: Option<websocket::deflate::Agreed>,
    /// It offered `clarion.v1.json`, so it will say `$hello`.
    pub hello: bool,
    /// Its address, as far as proxies can be believed.
    pub peer: SocketAddr,
    /// What the handshake brought to say who it is.
    pub credentials: Option<Credentials>,
}

/// What a connection asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The protocol of `spec/protocol.md`.
    Session,
    /// A bare echo, for conformance tools.
    Echo,
}

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// On `/echo`; has no session.
    Echo,
    /// Waits for `$hello`.
    Hello,
    /// Waits for whoever verifies its credentials.
    Authenticating,
    /// Waits for its session's home.
    Binding,
    /// Has a session.
    Open,
    /// A close frame was sent; waits for the answer, until `deadline_us`.
    Closing,
    /// The driver was told to close it; only `on_close` is left to come.
    Closed,
}

/// Why a connection is not read.
pub(crate) mod pause {
    /// Its outbox is over the bound.
    pub(crate) const OUTBOX: u8 = 1;
    /// It has `limits.commands` under way.
    pub(crate) const COMMANDS: u8 = 2;
    /// Mail to a worker that it commands is over the bound.
    pub(crate) const MAILBOX: u8 = 4;
    /// It sent more bytes than it may in this time.
    pub(crate) const RATE: u8 = 8;

    /// The limit that a connection met that is paused for this.
    pub(crate) fn limit(why: u8) -> &'static str {
        match why {
            OUTBOX => "outbox_bytes",
            COMMANDS => "commands",
            RATE => "bytes_per_s",
            _ => "mailbox_bytes",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) generation: u32,
    pub(crate) phase: Phase,
    /// The client offered `clarion.v1.json`.
    pub(crate) hello: bool,
    pub(crate) guest: bool,
    pub(crate) resumed: bool,
    /// It brought another token, so that joins that were allowed before may not be any more.
    pub(crate) refreshed: bool,
    /// It was told that its token is about to expire.
    pub(crate) refresh_told: bool,
    /// The client closed with 1000: the session ends with the connection.
    pub(crate) ended: bool,
    /// `websocket` is on loan to `on_bytes`; a close must wait for it to return.
    pub(crate) reading: bool,
    /// A message to `$all` was not sent to it; it is owed a `$gap`.
    pub(crate) lost_all: bool,
    /// Some of `pause`; empty while it is read.
    pub(crate) paused: u8,
    pub(crate) websocket: websocket::Connection,
    pub(crate) sender: Option<Arc<Sender>>,
    /// What its token grants; `None` for nothing.
    pub(crate) grants: Option<Arc<Grants>>,
    /// Which binding of its session this connection is.
    pub(crate) binding: u64,
    /// When the token behind the session ends, Unix milliseconds; 0 for never.
    pub(crate) expires_at_ms: u64,
    pub(crate) rooms: Vec<Membership>,
    /// Commands whose outcome is not yet there, parked ones included.
    pub(crate) under_way: u32,
    /// Outcomes to come, those of what the server wants included.
    pub(crate) expecting: u32,
    /// Of the commands, joins: they count as rooms.
    pub(crate) joining: u32,
    /// What waits for a verdict or for the session; rare, so elsewhere.
    pub(crate) waiting: Option<Box<Waiting>>,
    pub(crate) last_input_us: u64,
    /// When the ping that is not answered yet was sent; 0 for none.
    pub(crate) ping_us: u64,
    /// Last measured round trip; 0 for none.
    pub(crate) rtt_us: u32,
    /// When its outbox went over the bound; 0 while it is not.
    pub(crate) slow_us: u64,
    /// When its handshake or closing handshake is to be over.
    pub(crate) deadline_us: u64,
    /// Due time of its timer that counts; later ones are ignored when they fire.
    pub(crate) armed_us: u64,
    pub(crate) publish: Bucket,
    pub(crate) commands: Bucket,
    pub(crate) bytes: Bucket,
    pub(crate) close_code: u16,
    pub(crate) peer: Peer,
    pub(crate) connected_at_ms: u64,
    pub(crate) sdk: Option<Box<str>>,
    /// What went wrong with its messages; rare, so elsewhere.
    pub(crate) failures: Option<Box<Failures>>,
}

/// The failures of a connection's messages.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// When each kind of failure without id was last told, and how many were not since; at most
    /// one entry for each name there is.
    told: BTreeMap<ErrorName, (u64, u32)>,
    /// How many more that are its own fault it may have.
    violations: Bucket,
}

/// An address in 18 bytes instead of 32: there is one for every idle connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// IPv4 as mapped into IPv6.
    ip: [u8; 16],
    port: u16,
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { ip: ip.octets(), port: addr.port() }
    }
}

impl From<Peer> for SocketAddr {
    fn from(peer: Peer) -> Self {
        Self::new(Ipv6Addr::from(peer.ip).to_canonical(), peer.port)
    }
}

/// A failure without id is told once in this time and name, microseconds.
const TELL_US: u64 = 1_000_000;
const MINUTE_US: u64 = 60_000_000;

impl Connection {
    /// Whether a failure without id is told now, and with how many that were not.
    pub(crate) fn may_tell(&mut self, name: ErrorName, now_us: u64) -> Option<u32> {
        match self.failures.get_or_insert_default().told.entry(name) {
            Entry::Vacant(entry) => {
                entry.insert((now_us, 0));
                Some(0)
            }
            Entry::Occupied(entry) => {
                let (told_us, suppressed) = entry.into_mut();
                if now_us < *told_us + TELL_US {
                    *suppressed = suppressed.saturating_add(1);
                    return None;
                }
                *told_us = now_us;
                Some(std::mem::take(suppressed))
            }
        }
    }

    /// Counts a failure, and says with which code the connection closes that has too many.
    ///
    /// What depends on others or on the moment is nobody's fault: that a room is left already, or that
    /// the store is away.
    pub(crate) fn violate(&mut self, name: ErrorName, per_min: u32, now_us: u64) -> Option<u16> {
        let code = match name {
            ErrorName::RateLimited => close::RATE_LIMITED,
            ErrorName::BadRequest
            | ErrorName::BadRoom
            | ErrorName::BadEnvelope
            | ErrorName::KeyNeedsLog
            | ErrorName::Unauthenticated
            | ErrorName::Forbidden
            | ErrorName::UnknownType
            | ErrorName::AlreadyWelcomed
            | ErrorName::TooLarge
            | ErrorName::Schema => close::ABUSE,
            ErrorName::NotJoined
            | ErrorName::NoHistory
            | ErrorName::AlreadyJoined
            | ErrorName::EpochChanged
            | ErrorName::Unavailable => return None,
        };
        let violations = &mut self.failures.get_or_insert_default().violations;
        violations.take_in(MINUTE_US, per_min, now_us).is_err().then_some(code)
    }

    pub(crate) fn membership(&mut self, local: u32) -> Option<&mut Membership> {
        self.rooms.iter_mut().find(|membership| membership.local == local)
    }

    /// Publications a second, other commands a second, and rooms that it may have.
    pub(crate) fn limits(&self, limits: &Limits) -> (u32, u32, usize) {
        let Some(grants) = &self.grants else {
            return (limits.publish_per_s, limits.commands_per_s, limits.rooms);
        };
        let TokenLimits { publish_per_s, commands_per_s, rooms } = grants.limits;
        (
            publish_per_s.unwrap_or(limits.publish_per_s),
            commands_per_s.unwrap_or(limits.commands_per_s),
            rooms.map_or(limits.rooms, |rooms| rooms as usize),
        )
    }

    pub(crate) fn waiting(&mut self) -> &mut Waiting {
        self.waiting.get_or_insert_default()
    }
}

/// One room that a connection is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    /// The room's slot on this worker.
    pub(crate) local: u32,
    pub(crate) seat: Seat,
    /// The server joined it: it does not count in `limits.rooms`.
    pub(crate) server: bool,
    /// It asked to be told of presence.
    pub(crate) watch: bool,
    /// Something without offset was not sent to it; it is owed a `$gap`.
    pub(crate) lost: bool,
    /// Presence was not sent to it; it is owed a fresh `$members`.
    pub(crate) stale: bool,
}

/// Where a member stands in its room's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// Gets every delivery; index in the table of live members.
    Live(u32),
    /// Reads the log; index in the table of those behind.
    Behind(u32),
}

/// What a connection waits for.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// What `$hello` asked for, until the session is there.
    pub(crate) hello: Option<Hello>,
    /// What the handshake brought, until it is used.
    pub(crate) credentials: Option<Credentials>,
    /// Messages read before the session was there, in order; at most `limits.commands`, and
    /// what the last slice held.
    pub(crate) early: VecDeque<Box<str>>,
    /// Commands that wait for a verdict, or behind one that does; at most `limits.commands`, and
    /// what the last slice held.
    pub(crate) parked: VecDeque<Parked>,
    /// The `$refresh` whose token is being verified.
    pub(crate) refresh: Option<Option<CommandId>>,
    /// Rooms that it is in, of which it is asked whether it still may be, by question; at most as
    /// many as it is in.
    pub(crate) doubts: Vec<(u64, RoomName)>,
    /// When the token was issued, until the session is there; Unix milliseconds.
    pub(crate) issued_at_ms: u64,
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.hello.is_none()
            && self.credentials.is_none()
            && self.early.is_empty()
            && self.parked.is_empty()
            && self.refresh.is_none()
            && self.doubts.is_empty()
    }
}

/// What is kept of a `$hello`.
#[derive(Debug, Default)]
pub(crate) struct Hello {
    pub(crate) id: Option<CommandId>,
    pub(crate) rooms: Vec<(RoomName, Join)>,
}

/// A command that waits for its verdict.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) token: u64,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) room: RoomName,
    pub(crate) id: Option<CommandId>,
    pub(crate) what: What,
}

/// A token bucket: `rate` a second, with bursts of as many.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    /// When the bucket would be full again, microseconds.
    full_at_us: u64,
}

impl Bucket {
    /// Takes one, or says after how many milliseconds there will be one.
    pub(crate) fn take(&mut self, rate: u32, now_us: u64) -> Result<(), u64> {
        self.take_in(1_000_000, rate, now_us)
    }

    /// The same, where `rate` is for a time of another length.
    fn take_in(&mut self, time_us: u64, rate: u32, now_us: u64) -> Result<(), u64> {
        if rate == 0 {
            return Ok(());
        }
        let cost_us = time_us / u64::from(rate);
        let full_at_us = self.full_at_us.max(now_us) + cost_us;
        let over_us = full_at_us.saturating_sub(now_us + time_us);
        if over_us > 0 {
            return Err(over_us.div_ceil(1_000));
        }
        self.full_at_us = full_at_us;
        Ok(())
    }

    /// Takes what was used already, be there so much or not; 0: no limit.
    ///
    /// Says when the bucket will be out of debt, on the monotonic clock, if it is in debt.
    pub(crate) fn charge(&mut self, used: usize, rate: u32, now_us: u64) -> Option<u64> {
        if rate == 0 {
            return None;
        }
        let cost_us = (used as u64).saturating_mul(1_000_000) / u64::from(rate);
        self.full_at_us = self.full_at_us.max(now_us).saturating_add(cost_us);
        self.debt_ends_us(now_us)
    }

    /// When the bucket will be out of debt, if it is in debt.
    pub(crate) fn debt_ends_us(&self, now_us: u64) -> Option<u64> {
        let ends_us = self.full_at_us.saturating_sub(1_000_000);
        (ends_us > now_us).then_some(ends_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection costs what it costs; this says when that grows.
    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<Connection>() <= 256, "{} bytes", size_of::<Connection>());
        assert!(size_of::<Membership>() <= 16, "{} bytes", size_of::<Membership>());
    }

    #[test]
    fn a_bucket_gives_its_rate_and_says_when_there_is_more() {
        let mut bucket = Bucket::default();
        let mut now_us = 5_000_000;
        for _ in 0..10 {
            bucket.take(10, now_us).unwrap();
        }
        assert_eq!(bucket.take(10, now_us), Err(100));
        now_us += 100_000;
        bucket.take(10, now_us).unwrap();
        assert!(bucket.take(10, now_us).is_err());
        assert!((0..1000).all(|_| bucket.take(0, now_us).is_ok()));
    }

    #[test]
    fn a_bucket_in_debt_says_when_it_is_not() {
        let mut bucket = Bucket::default();
        let now_us = 5_000_000;
        assert_eq!(bucket.charge(1_000, 1_000, now_us), None);
        assert_eq!(bucket.charge(500, 1_000, now_us), Some(now_us + 500_000));
        assert_eq!(bucket.debt_ends_us(now_us + 499_999), Some(now_us + 500_000));
        assert_eq!(bucket.debt_ends_us(now_us + 500_000), None);
        assert_eq!(bucket.charge(usize::MAX, 0, now_us), None);
    }
}
