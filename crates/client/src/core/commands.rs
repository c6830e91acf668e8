//! Commands that wait for their reply.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use clarion_protocol::Position;

use super::output::{CallId, Output};

/// One connection, of all that a client has in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Who waits for the answer to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    History(CallId),
    Members(CallId),
    /// An answer without content: `$state`, `$ack`.
    Empty(CallId),
    /// With the moment of its sending in milliseconds.
    Ping(CallId, u64),
    Publish(CallId),
    Ephemeral(CallId),
    Join(Arc<str>),
    /// With whoever asked, unless it was the SDK itself.
    Leave(Arc<str>, Option<CallId>),
    /// The room, for what was handled up to this position.
    Ack(Arc<str>, Position),
    Refresh,
    /// Nobody: presence state that is set again.
    Nobody,
}

impl Owner {
    fn is_publication(&self) -> bool {
        matches!(self, Self::Publish(_) | Self::Ephemeral(_))
    }

    pub(super) fn call(&self) -> Option<CallId> {
        match self {
            Self::History(call)
            | Self::Members(call)
            | Self::Empty(call)
            | Self::Ping(call, _)
            | Self::Publish(call)
            | Self::Ephemeral(call) => Some(*call),
            Self::Leave(_, call) => *call,
            Self::Join(_) | Self::Ack(..) | Self::Refresh | Self::Nobody => None,
        }
    }
}

struct Pending {
    /// Empty once it was sent.
    text: String,
    sent: bool,
    deadline_ms: u64,
    owner: Owner,
}

/// Commands by id.
///
/// Ids are never used twice in the life of a client, so a reply that comes after its command timed
/// out finds nothing here and is dropped. Every command settles: by reply, error, timeout or the end
/// of the connection. How many there may be at a time is for those who issue them to say: the outbox
/// for publications, [`COMMANDS_MAX`] for everything else that an application asks.
#[derive(Default)]
pub(super) struct Commands {
    pending: BTreeMap<u64, Pending>,
    /// How many of those are publications.
    publications: usize,
    deadlines: BTreeSet<(u64, u64)>,
    conn: Option<ConnId>,
    last_id: u64,
}

/// Most commands that wait at a time, publications not counted.
pub(super) const COMMANDS_MAX: usize = 1024;

impl Commands {
    /// Sends now, or as soon as there is a connection before the deadline, and returns the id.
    pub(super) fn issue(
        &mut self,
        owner: Owner,
        deadline_ms: u64,
        build: impl FnOnce(u64) -> String,
        out: &mut VecDeque<Output>,
    ) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let mut pending = Pending { text: build(id), sent: false, deadline_ms, owner };
        if let Some(conn) = self.conn {
            pending.transmit(conn, out);
        }
        self.publications += usize::from(pending.owner.is_publication());
        self.pending.insert(id, pending);
        self.deadlines.insert((deadline_ms, id));
        id
    }

    /// Publications that wait for their reply, also if nobody waits for that any more.
    pub(super) fn publications(&self) -> usize {
        self.publications
    }

    /// Commands that wait for their reply, without publications.
    pub(super) fn others(&self) -> usize {
        self.pending.len() - self.publications
    }

    /// Ends the waiting for a reply; `None` when nobody waits for this id any more.
    pub(super) fn take(&mut self, id: u64) -> Option<Owner> {
        let pending = self.pending.remove(&id)?;
        self.deadlines.remove(&(pending.deadline_ms, id));
        self.publications -= usize::from(pending.owner.is_publication());
        Some(pending.owner)
    }

    /// Takes one whose time is over.
    pub(super) fn take_late(&mut self, now_ms: u64) -> Option<(u64, Owner)> {
        let (deadline_ms, id) = *self.deadlines.first()?;
        if deadline_ms > now_ms {
            return None;
        }
        self.take(id).map(|owner| (id, owner))
    }

    /// The command of a call, if it waits.
    pub(super) fn of_call(&self, call: CallId) -> Option<u64> {
        let found = self.pending.iter().find(|(_, pending)| pending.owner.call() == Some(call));
        found.map(|(id, _)| *id)
    }

    /// Whether it was not sent, and need not be: a room is left whoever waits for that.
    pub(super) fn is_revocable(&self, id: u64) -> bool {
        let revocable = |it: &Pending| !it.sent && !matches!(it.owner, Owner::Leave(..));
        self.pending.get(&id).is_some_and(revocable)
    }

    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// There is a connection: sends what waited for one, and gives back what is longer than its
    /// server takes.
    pub(super) fn attach(
        &mut self,
        conn: ConnId,
        message_bytes: u64,
        out: &mut VecDeque<Output>,
    ) -> Vec<(u64, Owner)> {
        self.conn = Some(conn);
        let mut too_large = Vec::new();
        for (id, pending) in &mut self.pending {
            if message_bytes > 0 && pending.text.len() as u64 > message_bytes {
                too_large.push(*id);
            } else {
                pending.transmit(conn, out);
            }
        }
        too_large.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    /// The connection is gone: gives back what was sent on it, in that order, and keeps the rest.
    pub(super) fn detach(&mut self) -> Vec<(u64, Owner)> {
        self.conn = None;
        let sent = self.pending.iter().filter(|(_, pending)| pending.sent);
        let ids: Vec<u64> = sent.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| Some((id, self.take(id)?))).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<(u64, Owner)> {
        self.deadlines.clear();
        self.publications = 0;
        std::mem::take(&mut self.pending).into_iter().map(|(id, it)| (id, it.owner)).collect()
    }
}

impl Pending {
    fn transmit(&mut self, conn: ConnId, out: &mut VecDeque<Output>) {
        if !self.sent {
            self.sent = true;
            out.push_back(Output::Send { conn, text: std::mem::take(&mut self.text) });
        }
    }
}
