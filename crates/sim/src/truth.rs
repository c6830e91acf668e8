//! The store of a run: late, failing and forgetful as the plan says, and the truth about what was
//! ever appended.

use crate::rng::Rng;
use clarion_engine::{Mail, WorkerId};
use clarion_protocol::{Epoch, Offset, RoomName};
use clarion_store::{Appended, Completion, Key, MemoryStore, Request, StoreError};
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
        }
    }

    /// From now on it is prompt and never fails.
    pub(crate) fn behave(&mut self) {
        (self.late, self.faults) = (false, false);
    }

    /// Takes a request of a worker.
    pub(crate) fn submit(&mut self, worker: WorkerId, request: Request) {
        let room = room_of(&request);
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
    }

    /// Applies some of what waits.
    ///
    /// # Errors
    /// What was violated by what was asked.
    pub(crate) fn work(
        &mut self,
        now_ms: u64,
        rng: &mut Rng,
    ) -> Result<Vec<(WorkerId, Mail)>, String> {
        let mut mail = Vec::new();
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
                let completion = self.apply(request, known, now_ms, rng)?;
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
                self.check_order(&room, &payload)?;
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
                if let Some(before) = self.applied.insert(place, applied) {
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
            request => Ok(self.log.handle(request, now_ms)),
        }
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
        _ => None,
    };
    let room = request.room().cloned().or(group);
    room.expect("a shard asks about rooms and groups only")
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
