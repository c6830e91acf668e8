//! A room at its home: its order, its members, and what is under way to its log.
//!
//! This module is the room's state and the questions one can ask of it. What happens to it, command
//! by command, is in `room.rs`; how members are told of each other in `presence.rs`.

use crate::appends::Appends;
use crate::config::RoomSettings;
use crate::id::{ConnRef, WorkerId};
use crate::mail::{JoinBy, Origin, Place, Present, RoomCommand, What};
use crate::presence::Changes;
use clarion_protocol::{
    ClientId, CommandId, Epoch, Join, Offset, Position, Publication, RoomKind, RoomName, Sender,
};
use clarion_store::{Key, Shrink};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// A room, where it is ordered.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) generation: u32,
    pub(crate) name: RoomName,
    pub(crate) settings: RoomSettings,
    pub(crate) log: Log,
    pub(crate) members: BTreeMap<ClientId, Member>,
    /// How many sessions each user has here.
    users: HashMap<Box<str>, u32, FixedState>,
    /// One for each worker that has members now.
    pub(crate) workers: Vec<Subscriber>,
    pub(crate) appends: Appends,
    /// The epoch was given to an append that may have made the log with it. It is not given to another:
    /// if the log came and went in between, two publications would get one place.
    pub(crate) offered: bool,
    /// A member was told where the log stands.
    pub(crate) told: bool,
    /// Acknowledgements at the store, oldest first; bounded likewise.
    pub(crate) acks: VecDeque<Asker>,
    /// Up to where the user acknowledged a `$user/` room, as far as completions have come.
    pub(crate) acked: Offset,
    /// Reads at the store, oldest first; bounded likewise.
    pub(crate) reads: VecDeque<PendingRead>,
    /// Who has something at the store, and what of theirs waits behind it.
    pub(crate) busy: HashMap<ConnRef, Busy, FixedState>,
    /// What this turn appended and is not yet posted.
    pub(crate) batch: Batch,
    /// Presence changes not yet told; only while there are any.
    pub(crate) changes: Option<Box<Changes>>,
    /// The last presence told was numbers only, because the room was too large for more.
    pub(crate) counts_only: bool,
    /// An idle timer is set.
    pub(crate) idle_armed: bool,
    pub(crate) dirty: bool,
    /// The store is being asked where the log stands after an append whose outcome is unknown.
    pub(crate) checking: bool,
    /// The commands that waited for the log to open are being run: more follow.
    pub(crate) starting: bool,
}

/// What a home knows of its log.
#[derive(Debug)]
pub(crate) enum Log {
    /// There is none.
    None,
    /// The store was asked where it stands; commands wait.
    Opening(Vec<RoomCommand>),
    /// Where it stands, as far as completions have come.
    Open { epoch: Epoch, head: Offset },
}

/// One session in the room.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) sender: Arc<Sender>,
    pub(crate) state: Option<Arc<str>>,
    /// Which binding of the session spoke last.
    pub(crate) binding: u64,
    /// Its connection; `None` in its grace.
    pub(crate) conn: Option<ConnRef>,
    pub(crate) wants: Wants,
}

/// What a member's connection is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    /// It asked to be told of presence.
    pub(crate) watch: bool,
    /// It takes frames that were compressed once for many.
    pub(crate) shared: bool,
}

impl Member {
    /// About what it takes on the wire, bytes.
    fn weight(&self) -> usize {
        /// Punctuation, names and the client id.
        const ENTRY: usize = 80;
        let info = self.sender.info.as_ref().map_or(0, |info| info.len());
        let user = self.sender.user.as_ref().map_or(0, |user| user.len());
        ENTRY + user + info + self.state.as_ref().map_or(0, |state| state.len())
    }

    pub(crate) fn present(&self) -> Present {
        Present { sender: Arc::clone(&self.sender), state: self.state.clone() }
    }
}

/// A worker with members.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) worker: WorkerId,
    pub(crate) members: u32,
    pub(crate) watchers: u32,
    /// Members that take frames that were compressed once for many.
    pub(crate) takers: u32,
    /// Its mailbox was over the bound; it gets nothing until there is room, and then a `Skip`.
    pub(crate) skipped: bool,
}

/// An append that the store has not answered.
#[derive(Debug)]
pub(crate) struct PendingAppend {
    pub(crate) publication: Arc<Publication>,
    pub(crate) at_us: u64,
    pub(crate) key: Option<Key>,
    pub(crate) asker: Asker,
    /// Later publications with the same key, which get the same result; bounded by what
    /// connections may have under way.
    pub(crate) followers: Vec<Asker>,
    /// It makes the log under the epoch that members were told, if there is none.
    pub(crate) offers: bool,
}

/// Whom to tell what came of a command.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) origin: Origin,
    pub(crate) id: Option<CommandId>,
    pub(crate) key: Option<Box<str>>,
    pub(crate) command: Option<Box<str>>,
    pub(crate) place: Place,
}

/// A read that the store has not answered.
#[derive(Debug)]
pub(crate) enum PendingRead {
    /// For a command: `$history`, or a `$join` that wants a replay.
    Command(Box<RoomCommand>),
    /// For members on a worker that stand at an offset.
    Fetch(WorkerId, Offset),
}

/// A connection with something at the store.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    pub(crate) appends: u32,
    pub(crate) reads: u32,
    /// Its commands that must wait for those, in order; bounded by `limits.commands`.
    pub(crate) parked: VecDeque<RoomCommand>,
}

/// Publications appended and not yet posted: whole frames, back to back.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    pub(crate) frames: Vec<u8>,
    /// When the first of them was read from its publisher.
    pub(crate) at_us: u64,
}

impl Home {
    /// A room with nobody in it, which knows nothing of its log yet.
    pub(crate) fn new(
        name: RoomName,
        generation: u32,
        settings: RoomSettings,
        hasher: &FixedState,
    ) -> Self {
        Self {
            generation,
            name,
            log: if settings.log.is_some() { Log::Opening(Vec::new()) } else { Log::None },
            settings,
            members: BTreeMap::new(),
            users: HashMap::with_hasher(hasher.clone()),
            workers: Vec::new(),
            appends: Appends::new(hasher),
            offered: false,
            told: false,
            acks: VecDeque::new(),
            acked: 0,
            reads: VecDeque::new(),
            busy: HashMap::with_hasher(hasher.clone()),
            batch: Batch::default(),
            changes: None,
            counts_only: false,
            idle_armed: false,
            dirty: false,
            checking: false,
            starting: false,
        }
    }

    /// Sessions in the room, those in their grace included.
    pub(crate) fn count(&self) -> u64 {
        self.members.len() as u64
    }

    /// Where the log stands, if there is one and that is known.
    pub(crate) fn position(&self) -> Option<Position> {
        match &self.log {
            Log::Open { epoch, head } => Some(Position::new(epoch.clone(), *head)),
            Log::None | Log::Opening(_) => None,
        }
    }

    /// The epoch under which the log will be made, as far as is known: there is none yet.
    pub(crate) fn unmade(&self) -> Option<Epoch> {
        match &self.log {
            Log::Open { epoch, head: 0 } => Some(epoch.clone()),
            Log::Open { .. } | Log::None | Log::Opening(_) => None,
        }
    }

    /// The epoch of a log that is not there yet is known here only, and a member was told: it may come
    /// back with it.
    pub(crate) fn keeps_epoch(&self) -> bool {
        self.told && self.unmade().is_some()
    }

    /// The epoch that an append may make the log with.
    pub(crate) fn offerable(&self) -> Option<Epoch> {
        self.unmade().filter(|_| !self.offered)
    }

    /// How a device joins its user's room. Without a position it begins behind what the user
    /// acknowledged. With one that is not recovered it is given what is kept all the same, or the next
    /// `$ack` would be about what nobody was given. Promise 7.
    pub(crate) fn inbox_join(&self, command: &RoomCommand) -> Option<Join> {
        let What::Join { join: Join { after, last: None, .. }, by: JoinBy::Server } = &command.what
        else {
            return None;
        };
        let RoomKind::User(_) = self.name.kind() else { return None };
        let Position { epoch, offset: head } = self.position()?;
        let (after, last) = match after {
            None => (Some(Position::new(epoch, self.acked)), u32::MAX),
            Some(after) if after.epoch == epoch && after.offset <= head => {
                (Some(after.clone()), u32::MAX)
            }
            Some(_) => (None, u32::try_from(head - self.acked).unwrap_or(u32::MAX)),
        };
        Some(Join { after, last: Some(last), members: false })
    }

    /// Members with a connection, a session left out.
    pub(crate) fn connected_but(&self, client: ClientId) -> usize {
        let own = self.members.get(&client).is_some_and(|member| member.conn.is_some());
        let all: u32 = self.workers.iter().map(|subscriber| subscriber.members).sum();
        all as usize - usize::from(own)
    }

    /// Different users in the room.
    pub(crate) fn users(&self) -> u64 {
        self.users.len() as u64
    }

    /// Everybody, ascending by client.
    pub(crate) fn roster(&self) -> Vec<Present> {
        self.members.values().map(Member::present).collect()
    }

    /// At most `limit` members above `after`, ascending, and whether there are more. Stops before
    /// one that would make the page larger than `bytes`, but never before the first.
    pub(crate) fn page(
        &self,
        after: Option<ClientId>,
        limit: usize,
        bytes: usize,
    ) -> (Vec<Present>, bool) {
        let above = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut members = self.members.range((above, Bound::Unbounded)).map(|(_, m)| m).peekable();
        let (mut page, mut left) = (Vec::new(), bytes);
        while let Some(member) = members.peek() {
            let weight = member.weight();
            if page.len() == limit || (weight > left && !page.is_empty()) {
                return (page, true);
            }
            left = left.saturating_sub(weight);
            page.push(member.present());
            members.next();
        }
        (page, false)
    }

    /// The member, made if it is new: without connection, and so not yet anybody's to deliver to.
    pub(crate) fn member(&mut self, client: ClientId, sender: &Arc<Sender>) -> &mut Member {
        let users = &mut self.users;
        self.members.entry(client).or_insert_with(|| {
            let user = sender.user.as_deref().unwrap_or_default();
            *users.entry(user.into()).or_default() += 1;
            let wants = Wants::default();
            Member { sender: Arc::clone(sender), state: None, binding: 0, conn: None, wants }
        })
    }

    pub(crate) fn watched(&self) -> bool {
        self.workers.iter().any(|subscriber| subscriber.watchers > 0)
    }

    /// Whether somebody takes frames that were compressed once for many.
    pub(crate) fn has_takers(&self) -> bool {
        self.workers.iter().any(|subscriber| subscriber.takers > 0)
    }

    pub(crate) fn subscriber(&mut self, worker: WorkerId) -> Option<&mut Subscriber> {
        self.workers.iter_mut().find(|subscriber| subscriber.worker == worker)
    }

    /// Gives the member a connection, or none, and keeps the workers' counts right.
    ///
    /// Says whether the worker's first member came, so that deliveries to it begin now.
    pub(crate) fn seat(&mut self, client: ClientId, conn: Option<ConnRef>, wants: Wants) {
        let Some(member) = self.members.get_mut(&client) else { return };
        let before = std::mem::replace(&mut member.conn, conn);
        let wanted = std::mem::replace(&mut member.wants, wants);
        if let Some(before) = before {
            self.count_out(before.worker, wanted);
        }
        if let Some(conn) = conn {
            self.count_in(conn.worker, wants);
        }
    }

    fn count_in(&mut self, worker: WorkerId, wants: Wants) {
        if self.subscriber(worker).is_none() {
            let (members, watchers, takers, skipped) = (0, 0, 0, false);
            self.workers.push(Subscriber { worker, members, watchers, takers, skipped });
        }
        let subscriber = self.subscriber(worker).expect("pushed if it was not there");
        subscriber.members += 1;
        subscriber.watchers += u32::from(wants.watch);
        subscriber.takers += u32::from(wants.shared);
    }

    fn count_out(&mut self, worker: WorkerId, wants: Wants) {
        let Some(subscriber) = self.subscriber(worker) else { return };
        subscriber.members -= 1;
        subscriber.watchers -= u32::from(wants.watch);
        subscriber.takers -= u32::from(wants.shared);
        if subscriber.members == 0 {
            self.workers.retain(|subscriber| subscriber.worker != worker);
        }
    }

    /// Takes a member out for good.
    pub(crate) fn remove(&mut self, client: ClientId) -> Option<Member> {
        self.seat(client, None, Wants::default());
        let member = self.members.remove(&client)?;
        let user = member.sender.user.as_deref().unwrap_or_default();
        if let Some(sessions) = self.users.get_mut(user) {
            *sessions -= 1;
            if *sessions == 0 {
                self.users.remove(user);
            }
        }
        Some(member)
    }

    /// Gives back what members and requests left that are gone.
    pub(crate) fn shrink(&mut self) {
        self.users.shrink();
        self.appends.shrink();
        self.acks.shrink();
        self.reads.shrink();
        self.busy.shrink();
    }

    /// Nobody is here and nothing is under way: the log alone is worth keeping, and the store does.
    pub(crate) fn is_idle(&self) -> bool {
        self.members.is_empty()
            && self.appends.is_empty()
            && self.reads.is_empty()
            && self.acks.is_empty()
            && self.busy.is_empty()
            && self.batch.frames.is_empty()
            && self.changes.is_none()
            && !self.starting
            && !self.checking
            && !matches!(self.log, Log::Opening(_))
    }
}
