//! Which worker is the home of a room or a session.

use crate::config::GUEST_PREFIX;
use crate::id::WorkerId;
use clarion_protocol::{ClientId, RoomKind, RoomName};
use foldhash::fast::FixedState;
use std::hash::BuildHasher;

/// Maps names to workers; the same on every worker of a process.
///
/// Seeded, because clients choose the names of rooms.
#[derive(Clone, Debug)]
pub struct Router {
    workers: u16,
    hasher: FixedState,
}

impl Router {
    /// The router of a process with so many workers.
    #[must_use]
    pub fn new(workers: u16, seed: u64) -> Self {
        Self { workers: workers.max(1), hasher: FixedState::with_seed(seed) }
    }

    /// The hasher for this process's tables of client-chosen names.
    pub(crate) fn hasher(&self) -> FixedState {
        self.hasher.clone()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.workers).map(WorkerId)
    }

    pub(crate) fn session_home(&self, client: ClientId) -> WorkerId {
        self.pick(self.hasher.hash_one(client))
    }

    /// The home of a room; for an address of one session, that session's home.
    #[must_use]
    pub fn room_home(&self, room: &RoomName) -> WorkerId {
        match addressed_session(room) {
            Some(client) => self.session_home(client),
            None => self.pick(self.hasher.hash_one(room.as_str())),
        }
    }

    fn pick(&self, hash: u64) -> WorkerId {
        // The high bits: tables use the low ones.
        WorkerId(((hash >> 32) % u64::from(self.workers)) as u16)
    }
}

/// The one session that a room name addresses, if it is such a name: `$client/<id>`, or the
/// `$user/` of a guest, whose user id is the prefix and the client id, and who has no log.
pub(crate) fn addressed_session(room: &RoomName) -> Option<ClientId> {
    match room.kind() {
        RoomKind::Client(id) => ClientId::parse(id).ok(),
        RoomKind::User(user) => ClientId::parse(user.strip_prefix(GUEST_PREFIX)?).ok(),
        RoomKind::Plain | RoomKind::Group(_) | RoomKind::All => None,
    }
}
