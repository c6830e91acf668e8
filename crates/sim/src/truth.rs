//! The store of a run: late, failing and forgetful as the plan says, and the truth about what was
//! ever appended.

use crate::disk::{self, DiskStore, Kept};
use crate::plan::Sabotage;
use crate::rng::Rng;
use clarion_engine::{Mail, Now, WorkerId};
use clarion_protocol::{Epoch, Offset, RoomName};
use clarion_store::{Appended, Completion, Key, MemoryStore, Request, Revocation, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// One publication that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The payload as it was published: unique in a run.
    pub(crate) payload: String,
    /// Its key, if it had one.
    pub(crate) key: Option<Key>,
}

/// Who asks what, and what was known of its key when it was asked.
type Waiting = (WorkerId, Request, Option<Appended>);

/// A store as lax as the contract allows: a key is looked up when the request comes, and noted when
/// it is applied, so that only an engine that never has a key in flight twice is safe with it; and
/// what reads overtakes what writes, and the other way round.
#[derive(Debug)]
pub(crate) struct TruthStore {
    log: MemoryStore,
    /// Requests not yet applied, in order: those that write and those that read, by room.
    waiting: BTreeMap<(RoomName, bool), VecDeque<Waiting>>,
    keys: HashMap<(RoomName, Key), Appended>,
    /// Everything ever applied.
    pub(crate) applied: HashMap<(RoomName, Epoch, Offset), Applied>,
    /// The place of the newest in each room.
    pub(crate) heads: BTreeMap<RoomName, (Epoch, Offset)>,
    /// Rooms that the API made sessions join.
    pub(crate) drafted: BTreeSet<String>,
    /// The last number of each sender in each room.
    last: HashMap<(RoomName, u64), u64>,
    late: bool,
    faults: bool,
    /// It also loses logs, as a memory store does when it is restarted.
    loses: bool,
    /// Where what outlives the process is kept, if it may end.
    disk: Option<DiskStore>,
    sabotage: Option<Sabotage>,
    /// Epochs of logs that went with the process.
    gone: HashMap<RoomName, Epoch>,
}

impl TruthStore {
    /// An empty one.
    #[must_use]
    pub(crate) fn new(late: bool, faults: bool, loses: bool) -> Self {
        Self {
            log: MemoryStore::new(1),
            waiting: BTreeMap::new(),
            keys: HashMap::new(),
            applied: HashMap::new(),
            heads: BTreeMap::new(),
            drafted: BTreeSet::new(),
            last: HashMap::new(),
            late,
            faults,
            loses,
            disk: None,
            sabotage: None,
            gone: HashMap::new(),
        }
    }

    /// The same with a disk for what outlives the process.
    pub(crate) fn with_disk(self, sabotage: Option<Sabotage>) -> Self {
        Self { disk: Some(DiskStore::new(self.faults, sabotage)), sabotage, ..self }
    }

    /// From now on it is prompt and never fails.
    pub(crate) fn behave(&mut self) {
        (self.late, self.faults) = (false, false);
        self.disk.iter_mut().for_each(DiskStore::behave);
    }

    /// Takes a request of a worker.
    pub(crate) fn submit(&mut self, worker: WorkerId, durable: bool, mut request: Request) {
        if durable && let Some(disk) = &mut self.disk {
            return disk.submit(worker, request);
        }
        let room = room_of(&request);
        if self.sabotage == Some(Sabotage::EpochKept)
            && let Some(gone) = self.gone.get(&room)
            && let Request::Append { fresh, .. } | Request::Open { fresh, .. } = &mut request
        {
            fresh.clone_from(gone);
        }
        let lane = (room.clone(), request.writes());
        let known = match &request {
            Request::Append { key: Some(key), .. } => {
                self.keys.get(&(room.clone(), key.clone())).cloned()
            }
            _ => None,
        };
        self.waiting.entry(lane).or_default().push_back((worker, request, known));
    }

    /// Nothing waits.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty)
            && self.disk.as_ref().is_none_or(DiskStore::is_idle)
    }

    /// Applies some of what waits.
    ///
    /// # Errors
    /// What was violated by what was asked.
    pub(crate) fn work(
        &mut self,
        now: Now,
        rng: &mut Rng,
    ) -> Result<Vec<(WorkerId, Mail)>, String> {
        let mut mail = Vec::new();
        if let Some(disk) = &mut self.disk {
            let done = disk.work(now, rng).into_iter();
            mail.extend(done.map(|(worker, completion)| (worker, Mail::Stored(completion))));
        }
        let mut lanes: Vec<(RoomName, bool)> = self.waiting.keys().cloned().collect();
        if rng.chance(50) {
            lanes.reverse();
        }
        for lane in lanes {
            let room = &lane.0;
            if self.faults && self.loses && rng.below(400) == 0 {
                self.log.lose(room);
                self.keys.retain(|(of, _), _| of != room);
            }
            while !self.late || rng.chance(40) {
                let queue = self.waiting.get_mut(&lane).expect("a lane of the list");
                let Some((worker, request, known)) = queue.pop_front() else { break };
                let completion = self.apply(request, known, now.wall_ms, rng)?;
                mail.push((worker, Mail::Stored(completion)));
            }
        }
        Ok(mail)
    }

    fn apply(
        &mut self,
        request: Request,
        known: Option<Appended>,
        now_ms: u64,
        rng: &mut Rng,
    ) -> Result<Completion, String> {
        let fails = self.faults && rng.chance(3);
        match request {
            Request::Append { token, room, publication, key, limits, fresh } => {
                if let Some(known) = known {
                    let result = Ok(Appended { duplicate: true, ..known });
                    return Ok(Completion::Appended { token, result });
                }
                if fails && rng.chance(60) {
                    return Ok(Completion::Appended {
                        token,
                        result: Err(StoreError::Unavailable),
                    });
                }
                let payload = String::from_utf8_lossy(&publication.payload).into_owned();
                if self.disk.is_none() {
                    // Otherwise some are published once more, on other connections.
                    self.check_order(&room, &payload)?;
                }
                let request = Request::Append {
                    token,
                    room: room.clone(),
                    publication,
                    key: None,
                    limits,
                    fresh,
                };
                let Completion::Appended { result, .. } = self.log.handle(request, now_ms) else {
                    unreachable!("an append is answered by an append");
                };
                let appended = result.expect("memory does not fail");
                let place = (room.clone(), appended.epoch.clone(), appended.offset);
                self.heads.insert(room.clone(), (appended.epoch.clone(), appended.offset));
                let applied = Applied { payload, key: key.clone() };
                if let Some(before) = self.applied.insert(place, applied)
                    && self.disk.is_none()
                {
                    return Err(format!("a place was given twice: {before:?}"));
                }
                if let Some(key) = key
                    && let Some(before) = self.keys.insert((room, key), appended.clone())
                {
                    return Err(format!("promise 4: a key was applied twice, first at {before:?}"));
                }
                let result = if fails { Err(StoreError::Unknown) } else { Ok(appended) };
                Ok(Completion::Appended { token, result })
            }
            Request::Read { token, .. } if fails => {
                Ok(Completion::Read { token, result: Err(StoreError::Unavailable) })
            }
            Request::Open { token, .. } if fails => {
                Ok(Completion::Opened { token, result: Err(StoreError::Unavailable) })
            }
            Request::Revoke { .. } if fails => Ok(request.refuse(StoreError::Unavailable)),
            request => Ok(self.log.handle(request, now_ms)),
        }
    }

    /// What was appended at a place. Where there is a disk nobody is asked but the clients' journal.
    pub(crate) fn at(&self, place: &(RoomName, Epoch, Offset)) -> Option<Option<&Applied>> {
        self.disk.is_none().then(|| self.applied.get(place))
    }

    /// The process ends, or with it the power.
    pub(crate) fn kill(&mut self, power: bool, rng: &mut Rng) {
        self.waiting.clear();
        self.keys.clear();
        for (room, (epoch, _)) in std::mem::take(&mut self.heads) {
            self.gone.insert(room, epoch);
        }
        self.log = MemoryStore::new(1);
        self.disk.iter_mut().for_each(|disk| disk.kill(power, rng));
    }

    /// Who is in which group by what outlived the process.
    pub(crate) fn groups(&mut self) -> Vec<(Box<str>, Box<str>)> {
        self.disk.as_mut().map(DiskStore::groups).unwrap_or_default()
    }

    /// What is revoked by what outlived the process.
    pub(crate) fn revocations(&mut self) -> Vec<Revocation> {
        self.disk.as_mut().map(DiskStore::revocations).unwrap_or_default()
    }

    /// What a log has.
    pub(crate) fn read(&mut self, room: &RoomName, durable: bool) -> Option<Kept> {
        match &mut self.disk {
            Some(disk) if durable => disk.read(room),
            _ => disk::read(&mut self.log, room),
        }
    }

    /// What happened to the disk.
    pub(crate) fn seen(&self) -> impl Iterator<Item = String> {
        self.disk.iter().flat_map(|disk| disk.seen.iter().map(|it| (*it).to_owned()))
    }

    /// Promise 5: what one connection sent to one room is applied in the order it was sent.
    fn check_order(&mut self, room: &RoomName, payload: &str) -> Result<(), String> {
        let Some((sender, number)) = sender_and_number(payload) else { return Ok(()) };
        let last = self.last.entry((room.clone(), sender)).or_default();
        if number <= *last {
            return Err(format!("promise 5: {number} of sender {sender} applied after {last}"));
        }
        *last = number;
        Ok(())
    }
}

/// What requests are ordered by.
fn room_of(request: &Request) -> RoomName {
    let group = match request {
        Request::Group { group, .. } => RoomName::group(group).ok(),
        // In order among themselves.
        Request::Revoke { .. } => RoomName::parse("$all").ok(),
        _ => None,
    };
    let room = request.room().cloned().or(group);
    room.expect("a shard asks about rooms, groups and revocations only")
}

/// What [`payload`] wrote: which connection published it, and its how manyth it was.
#[must_use]
pub(crate) fn sender_and_number(payload: &str) -> Option<(u64, u64)> {
    let (sender, rest) = payload.strip_prefix("[")?.split_once(',')?;
    let number = rest.split([',', ']']).next()?;
    Some((sender.parse().ok()?, number.parse().ok()?))
}

/// A payload that says who published it; `pad` makes it longer.
#[must_use]
pub(crate) fn payload(sender: u64, number: u64, pad: usize) -> String {
    format!("[{sender},{number},\"{}\"]", "x".repeat(pad))
}
