//! A store on a disk: slow, failing, full, and cut off in the middle of what it writes.
//!
//! The disk keeps a log of transactions as SQLite's write-ahead log does: each has a checksum, so that
//! after a crash it is whole or absent, and with it all that come after. The store on it is as the
//! contract in `crates/store` wants one: one writer, which commits what waits as one transaction,
//! tells of it after the `fsync`, and makes sure of its log after one that failed.

use crate::plan::Sabotage;
use crate::rng::Rng;
use bytes::Bytes;
use clarion_engine::{Now, WorkerId};
use clarion_protocol::{Epoch, Offset, Publication, RoomName};
use clarion_store::{Completion, MemoryStore, Range, Request, Revocation, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// The most that one transaction has.
const BATCH: usize = 16;
/// The most that waits; what comes beyond is refused.
const QUEUE: usize = 40;
/// What one sector holds, bytes.
const SECTOR: usize = 512;
/// Transactions in the log before it is copied.
const LOG: usize = 6;

/// A group of requests that are done together.
#[derive(Clone, Debug)]
struct Transaction {
    now_ms: u64,
    requests: Vec<Request>,
}

/// What became of a sector that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sector {
    /// The kernel has it.
    Cached,
    /// The disk has it.
    Synced,
    /// A failed `fsync` gave it up: the kernel has it, and believes that the disk has, too.
    Lost,
}

/// A transaction in the log: the sectors of it that were written, of as many as it has.
#[derive(Debug)]
struct Written {
    transaction: Transaction,
    sectors: Vec<Sector>,
    size: usize,
}

/// The files.
#[derive(Debug, Default)]
struct Disk {
    /// What was copied out of the log, and synced.
    base: Vec<Transaction>,
    log: VecDeque<Written>,
}

impl Disk {
    /// Writes the first so many sectors of a transaction behind the others.
    fn write(&mut self, transaction: Transaction, sectors: usize) {
        let size = transaction.sectors();
        let sectors = vec![Sector::Cached; sectors.min(size)];
        self.log.push_back(Written { transaction, sectors, size });
    }

    fn each(&mut self, mut change: impl FnMut(&mut Sector)) {
        self.log.iter_mut().flat_map(|written| &mut written.sectors).for_each(&mut change);
    }

    fn sync(&mut self) {
        self.each(|sector| {
            if *sector == Sector::Cached {
                *sector = Sector::Synced;
            }
        });
    }

    /// Some of it reaches the disk; the rest is not tried again.
    fn fail_sync(&mut self, rng: &mut Rng) {
        self.each(|sector| {
            if *sector == Sector::Cached && rng.chance(50) {
                *sector = Sector::Lost;
            }
        });
        self.sync();
    }

    /// The kernel forgets what it had: what is on the disk is what there is. Sectors under way get
    /// there or do not, in any order.
    fn evict(&mut self, rng: &mut Rng) {
        self.each(|sector| {
            if *sector == Sector::Cached {
                *sector = if rng.chance(50) { Sector::Synced } else { Sector::Lost };
            }
        });
        for written in &mut self.log {
            // A sector that is not there makes the checksum wrong.
            written.sectors.retain(|sector| *sector != Sector::Lost);
        }
    }

    /// Reads the log as it is after a crash: up to the first transaction that is not whole.
    fn recover(&mut self, sabotage: Option<Sabotage>) {
        let whole = self.log.iter().take_while(|it| it.sectors.len() == it.size).count();
        let torn = self.log.drain(whole..).next();
        if let Some(torn) = torn
            && sabotage == Some(Sabotage::TornTaken)
        {
            self.log.push_back(torn.cut());
        }
        match (sabotage, self.log.back_mut()) {
            (Some(Sabotage::TailDropped), Some(_)) => {
                self.log.pop_back();
            }
            (Some(Sabotage::KeysApart), Some(last)) => {
                for request in &mut last.transaction.requests {
                    if let Request::Append { key, .. } = request {
                        *key = None;
                    }
                }
            }
            _ => {}
        }
        let log = self.log.iter_mut().map(|written| &mut written.transaction);
        for transaction in self.base.iter_mut().chain(log) {
            transaction.requests.retain(|request| match request {
                Request::Ack { .. } => sabotage != Some(Sabotage::AcksForgotten),
                Request::Revoke { .. } => sabotage != Some(Sabotage::RevocationsForgotten),
                _ => true,
            });
        }
    }

    /// Copies the log into the base, syncs that, and empties the log.
    fn checkpoint(&mut self) {
        self.base.extend(self.log.drain(..).map(|written| written.transaction));
    }

    fn transactions(&self) -> impl Iterator<Item = &Transaction> {
        self.base.iter().chain(self.log.iter().map(|written| &written.transaction))
    }
}

impl Transaction {
    fn sectors(&self) -> usize {
        let size = |request: &Request| match request {
            Request::Append { publication, .. } => 200 + publication.payload.len(),
            _ => 60,
        };
        1 + self.requests.iter().map(size).sum::<usize>() / SECTOR
    }
}

impl Written {
    /// What a reader makes of it that does not look at checksums: the last publication is torn.
    fn cut(mut self) -> Self {
        let requests = &mut self.transaction.requests;
        let last = requests.iter_mut().rev().find_map(|request| match request {
            Request::Append { publication, .. } => Some(publication),
            _ => None,
        });
        if let Some(publication) = last {
            let torn = Publication { payload: Bytes::from_static(b"0"), ..(**publication).clone() };
            *publication = Arc::new(torn);
        }
        self.sectors = vec![Sector::Cached; self.size];
        self
    }
}

/// A transaction under way.
#[derive(Debug)]
struct Commit {
    asked: Vec<(WorkerId, Request)>,
    transaction: Transaction,
    written_us: u64,
    synced_us: u64,
    is_written: bool,
}

/// A commit failed, and nobody knows what became of it.
#[derive(Debug)]
struct Doubt {
    /// Nothing is written before this moment, and then not before the log was copied.
    until_us: u64,
    /// The files are read anew, and what is found in the log counts. Until then nothing is read: what
    /// anybody has seen may not be gone later, nor come.
    revives: bool,
}

/// The store.
#[derive(Debug)]
pub(crate) struct DiskStore {
    /// What was committed: what readers see.
    tables: MemoryStore,
    /// The logs that ever were.
    made: BTreeSet<RoomName>,
    disk: Disk,
    /// Requests in the order they came, with whether there was room for them.
    writes: VecDeque<(WorkerId, Request, bool)>,
    reads: VecDeque<(WorkerId, Request)>,
    commit: Option<Commit>,
    doubt: Option<Doubt>,
    full_until_us: u64,
    trouble: bool,
    sabotage: Option<Sabotage>,
    /// What happened.
    pub(crate) seen: Vec<&'static str>,
}

impl DiskStore {
    pub(crate) fn new(trouble: bool, sabotage: Option<Sabotage>) -> Self {
        Self {
            tables: MemoryStore::new(1),
            made: BTreeSet::new(),
            disk: Disk::default(),
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            commit: None,
            doubt: None,
            full_until_us: 0,
            trouble,
            sabotage,
            seen: Vec::new(),
        }
    }

    /// From now on it is prompt and never fails.
    pub(crate) fn behave(&mut self) {
        self.trouble = false;
        self.full_until_us = 0;
    }

    pub(crate) fn submit(&mut self, worker: WorkerId, request: Request) {
        if request.writes() {
            let fits = self.writes.len() < QUEUE;
            self.writes.push_back((worker, request, fits));
        } else {
            self.reads.push_back((worker, request));
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.writes.is_empty()
            && self.reads.is_empty()
            && self.commit.is_none()
            && self.doubt.is_none()
    }

    /// Goes on with what is under way, as far as time allows.
    pub(crate) fn work(&mut self, now: Now, rng: &mut Rng) -> Vec<(WorkerId, Completion)> {
        let mut done = Vec::new();
        while !self.trouble || rng.chance(60) {
            let Some((worker, request)) = self.reads.pop_front() else { break };
            let blind = self.doubt.as_ref().is_some_and(|doubt| doubt.revives);
            let completion = match blind || self.trouble && rng.chance(2) {
                true => request.refuse(StoreError::Unavailable),
                false => self.handle(request, now.wall_ms),
            };
            done.push((worker, completion));
        }
        if let Some(doubt) = self.doubt.take() {
            self.reopen(doubt, now, rng);
        } else if let Some(commit) = self.commit.take() {
            self.go_on(commit, now, rng, &mut done);
        } else if !self.writes.is_empty() {
            self.begin(now, rng, &mut done);
        }
        done
    }

    fn begin(&mut self, now: Now, rng: &mut Rng, done: &mut Vec<(WorkerId, Completion)>) {
        let mut asked = Vec::new();
        while asked.len() < BATCH
            && let Some((worker, request, fits)) = self.writes.pop_front()
        {
            if fits {
                asked.push((worker, request));
            } else if asked.is_empty() {
                self.seen.push("a request too many for the disk");
                done.push((worker, request.refuse(StoreError::Unavailable)));
            } else {
                // Answers come in order.
                self.writes.push_front((worker, request, fits));
                break;
            }
        }
        if asked.is_empty() {
            return;
        }
        let mut lasts = |usual_us: usize| match self.trouble {
            true if rng.chance(4) => {
                self.seen.push("a disk that stalls");
                rng.below(3_000_000) as u64
            }
            true => rng.below(usual_us) as u64,
            false => 0,
        };
        let requests = asked.iter().map(|(_, request)| request.clone()).collect();
        let transaction = Transaction { now_ms: now.wall_ms, requests };
        let written_us = now.mono_us + lasts(3_000) + transaction.sectors() as u64 * 100;
        let synced_us = written_us + lasts(20_000);
        self.commit = Some(Commit { asked, transaction, written_us, synced_us, is_written: false });
    }

    fn go_on(
        &mut self,
        mut commit: Commit,
        now: Now,
        rng: &mut Rng,
        done: &mut Vec<(WorkerId, Completion)>,
    ) {
        if !commit.is_written && commit.written_us <= now.mono_us {
            if self.trouble && rng.chance(3) {
                self.full_until_us = now.mono_us + rng.below(500_000) as u64;
            }
            if now.mono_us < self.full_until_us {
                self.seen.push("a disk that is full");
                return refuse(&commit.asked, StoreError::Unavailable, done);
            }
            let sectors = commit.transaction.sectors();
            self.disk.write(commit.transaction.clone(), sectors);
            commit.is_written = true;
            if self.sabotage == Some(Sabotage::AckBeforeSync) {
                self.apply(&mut commit, done);
            }
        }
        if !commit.is_written || now.mono_us < commit.synced_us {
            self.commit = Some(commit);
        } else if self.trouble && rng.chance(5) {
            self.seen.push("an fsync that fails");
            self.disk.fail_sync(rng);
            refuse(&commit.asked, StoreError::Unknown, done);
            if self.sabotage == Some(Sabotage::NoCheckpoint) {
                self.apply(&mut commit, &mut Vec::new());
            } else {
                let until_us = now.mono_us + rng.below(60_000) as u64;
                self.doubt = Some(Doubt { until_us, revives: rng.chance(50) });
            }
        } else {
            self.disk.sync();
            self.apply(&mut commit, done);
            if self.disk.log.len() > LOG {
                self.disk.checkpoint();
            }
        }
    }

    fn apply(&mut self, commit: &mut Commit, done: &mut Vec<(WorkerId, Completion)>) {
        for (worker, request) in commit.asked.drain(..) {
            done.push((worker, self.handle(request, commit.transaction.now_ms)));
        }
    }

    /// Opens the files again after a commit that failed, and makes sure of what is in them.
    fn reopen(&mut self, doubt: Doubt, now: Now, rng: &mut Rng) {
        if now.mono_us < doubt.until_us {
            self.doubt = Some(doubt);
            return;
        }
        if self.trouble && rng.chance(30) {
            let until_us = now.mono_us + rng.below(60_000) as u64;
            self.doubt = Some(Doubt { until_us, ..doubt });
            return;
        }
        let had = self.disk.log.len();
        if !doubt.revives {
            self.disk.log.pop_back();
        } else if rng.chance(50) {
            self.disk.evict(rng);
        }
        self.disk.recover(None);
        let kept = self.disk.log.len() == had;
        self.seen.push(if kept { "kept after a doubt" } else { "gone after a doubt" });
        self.disk.checkpoint();
        self.read_tables();
    }

    /// The process ends, or with it the power. What it wrote is what the next one finds.
    pub(crate) fn kill(&mut self, power: bool, rng: &mut Rng) {
        self.writes.clear();
        self.reads.clear();
        self.doubt = None;
        if let Some(commit) = self.commit.take()
            && !commit.is_written
        {
            let sectors = rng.below(commit.transaction.sectors() + 1);
            self.disk.write(commit.transaction, sectors);
        }
        let had = self.disk.log.len();
        let at_risk = |written: &Written| written.sectors.contains(&Sector::Cached);
        let under_way = self.disk.log.back().is_some_and(at_risk);
        if power {
            self.disk.evict(rng);
        }
        self.disk.recover(self.sabotage);
        if under_way {
            let kept = self.disk.log.len() == had;
            self.seen.push(if kept { "a torn end that was whole" } else { "a torn end" });
        }
        if self.sabotage != Some(Sabotage::NoCheckpoint) {
            self.disk.checkpoint();
        }
        self.read_tables();
    }

    fn read_tables(&mut self) {
        self.tables = MemoryStore::new(1);
        let transactions: Vec<_> = self.disk.transactions().cloned().collect();
        for Transaction { now_ms, requests } in transactions {
            for mut request in requests {
                if let Request::Append { fresh, .. } = &mut request
                    && self.sabotage == Some(Sabotage::NewEpoch)
                {
                    let other = format!("{:.24}+{}", fresh.as_str(), self.disk.base.len());
                    *fresh = Epoch::new(&other).expect("short enough");
                }
                self.handle(request, now_ms);
            }
        }
    }

    /// Does a request. Logs that never were have one epoch, which stays the same when the process ends.
    fn handle(&mut self, mut request: Request, now_ms: u64) -> Completion {
        match &mut request {
            Request::Open { room, fresh, .. } if !self.made.contains(room) => {
                *fresh = Epoch::new("absent").expect("short enough");
            }
            Request::Append { room, .. } => {
                self.made.insert(room.clone());
            }
            _ => {}
        }
        self.tables.handle(request, now_ms)
    }

    /// Who is in which group.
    pub(crate) fn groups(&mut self) -> Vec<(Box<str>, Box<str>)> {
        let request = Request::Groups { token: 0, after: None, limit: u32::MAX };
        match self.tables.handle(request, 0) {
            Completion::Groups { result: Ok(groups), .. } => groups.members,
            other => unreachable!("memory does not fail: {other:?}"),
        }
    }

    /// What is revoked.
    pub(crate) fn revocations(&mut self) -> Vec<Revocation> {
        let request = Request::Revocations { token: 0, after: None, limit: u32::MAX };
        match self.tables.handle(request, 0) {
            Completion::Revocations { result: Ok(page), .. } => page.revocations,
            other => unreachable!("memory does not fail: {other:?}"),
        }
    }

    /// What a log has in the end.
    pub(crate) fn read(&mut self, room: &RoomName) -> Option<Kept> {
        read(&mut self.tables, room)
    }
}

/// What a log has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) epoch: String,
    pub(crate) head: Offset,
    pub(crate) first: Offset,
    pub(crate) payloads: BTreeMap<Offset, String>,
}

/// Reads a log, if there is one.
pub(crate) fn read(tables: &mut MemoryStore, room: &RoomName) -> Option<Kept> {
    let request = Request::Read {
        token: 0,
        room: room.clone(),
        range: Range::After(0),
        limit: u32::MAX,
        bytes: usize::MAX,
        age_ms: u64::MAX,
        fresh: None,
    };
    let Completion::Read { result, .. } = tables.handle(request, 0) else { return None };
    let page = result.ok()?;
    let text = |publication: &Publication| String::from_utf8_lossy(&publication.payload).into();
    Some(Kept {
        epoch: page.standing.epoch.as_str().into(),
        head: page.standing.head,
        first: page.standing.first,
        payloads: page.publications.iter().map(|(offset, it)| (*offset, text(it))).collect(),
    })
}

fn refuse(
    asked: &[(WorkerId, Request)],
    error: StoreError,
    done: &mut Vec<(WorkerId, Completion)>,
) {
    done.extend(asked.iter().map(|(worker, request)| (*worker, request.refuse(error))));
}
