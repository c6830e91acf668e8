//! The reference store: logs in memory, gone with the process.
//!
//! It answers at once. It is also what a real store is compared with, so it does the simplest
//! thing that keeps the contract.

use crate::request::weight;
use crate::shrink::Shrink;
use crate::sizes::{Counted, KEY_BYTES, LOG_BYTES, PUBLICATION_BYTES, Sizes};
use crate::{
    Appended, Completion, Groups, Key, LogLimits, Page, Range, Request, Revocation, Revocations,
    Standing, Store, StoreError,
};
use clarion_protocol::{Epoch, Offset, Publication, RoomName};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// Logs kept in memory.
///
/// Each log is bounded by its [`LogLimits`]; keys by the window and by 100,000 a log. A log
/// stays until [`MemoryStore::sweep`] finds everything in it too old. All of them together are bounded
/// if [`MemoryStore::with_bytes`] says so.
#[derive(Debug)]
pub struct MemoryStore {
    logs: HashMap<RoomName, Log, FixedState>,
    sizes: Sizes,
    bytes_max: usize,
    squeezed: u64,
    /// Since and until when, by subject; bounded by who may revoke, and [`MemoryStore::sweep`] forgets.
    revoked: BTreeMap<Box<str>, (u64, u64)>,
    /// Groups and users; bounded by who may put them in.
    members: BTreeSet<(Box<str>, Box<str>)>,
}

/// Idempotency keys remembered for one log; over it the oldest is forgotten early.
const KEYS_MAX: usize = 100_000;

#[derive(Debug)]
struct Log {
    epoch: Epoch,
    /// Offset of the newest publication ever appended.
    head: Offset,
    /// The newest publications; the last one has offset `head`.
    kept: VecDeque<Arc<Publication>>,
    bytes: usize,
    limits: LogLimits,
    keys: HashMap<Key, Used, FixedState>,
    keys_by_age: VecDeque<(u64, Key)>,
    /// What the keys take, bytes; about.
    keys_bytes: usize,
    counted: Counted,
    acked: Offset,
}

#[derive(Clone, Copy, Debug)]
struct Used {
    offset: Offset,
    time_ms: u64,
    /// When its window ends; a key used again after that has an older entry in `keys_by_age`.
    until_ms: u64,
}

impl MemoryStore {
    /// An empty store. `seed` keeps a client from choosing room names that collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let logs = HashMap::with_hasher(FixedState::with_seed(seed));
        Self {
            logs,
            sizes: Sizes::default(),
            bytes_max: usize::MAX,
            squeezed: 0,
            revoked: BTreeMap::new(),
            members: BTreeSet::new(),
        }
    }

    /// The same, with a bound on what all logs take together, about: keys and what it costs to keep
    /// them included. Over it the largest log loses its oldest publications, then keys before their time,
    /// and at last the log: it begins again with a new epoch.
    #[must_use]
    pub fn with_bytes(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// What all logs take, bytes; about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sizes.all()
    }

    /// How many appends made the largest log give something, since the start.
    #[must_use]
    pub fn squeezed(&self) -> u64 {
        self.squeezed
    }

    /// Does what is asked and says what came of it. `now_ms` is wall time.
    pub fn handle(&mut self, request: Request, now_ms: u64) -> Completion {
        match request {
            Request::Open { token, room, fresh } => {
                let standing =
                    self.logs.get(&room).map_or_else(|| Standing::absent(fresh), Log::standing);
                Completion::Opened { token, result: Ok(standing) }
            }
            Request::Append { token, room, publication, key, limits, fresh } => {
                let log = self.logs.entry(room.clone()).or_insert_with(|| Log::new(fresh));
                log.limits = limits;
                let appended = log.append(publication, key, now_ms);
                let bytes = log.held();
                self.sizes.note(&room, &mut log.counted, bytes, true, now_ms);
                if self.sizes.all() > self.bytes_max {
                    self.squeeze(&room, now_ms);
                }
                Completion::Appended { token, result: Ok(appended) }
            }
            Request::Read { token, room, range, limit, bytes, age_ms, fresh } => {
                let result = match (self.logs.get(&room), fresh) {
                    (Some(log), _) => {
                        let old = log.too_old(age_ms, now_ms);
                        Ok(log.read(range, limit as usize, bytes, old))
                    }
                    (None, Some(fresh)) => {
                        let standing = Standing::absent(fresh);
                        Ok(Page { standing, publications: Vec::new(), more: false })
                    }
                    (None, None) => Err(StoreError::Unavailable),
                };
                Completion::Read { token, result }
            }
            Request::Ack { token, room, epoch, offset } => {
                let acked = self.logs.get_mut(&room).map_or(0, |log| log.ack(&epoch, offset));
                Completion::Acked { token, result: Ok(acked) }
            }
            Request::Revoke { token, subject, at_ms, until_ms } => {
                let known = self.revoked.entry(subject).or_default();
                // One that is over is as good as gone.
                let (at, until) = if known.1 > now_ms { *known } else { (0, 0) };
                *known = (at_ms.max(at), until_ms.max(until));
                Completion::Revoked { token, result: Ok(()) }
            }
            Request::Group { token, group, user, member } => {
                let place = (group, user);
                let changed =
                    if member { self.members.insert(place) } else { self.members.remove(&place) };
                Completion::Grouped { token, result: Ok(changed) }
            }
            Request::Groups { token, after, limit } => {
                let above = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut rest = self.members.range((above, Bound::Unbounded)).cloned();
                let members = rest.by_ref().take(limit as usize).collect();
                let more = rest.next().is_some();
                Completion::Groups { token, result: Ok(Groups { members, more }) }
            }
            Request::Revocations { token, after, limit } => {
                let result = Ok(self.revocations(after.as_deref(), limit as usize, now_ms));
                Completion::Revocations { token, result }
            }
        }
    }

    /// Forgets logs in which everything is too old, and gives back what a burst left. Call it now and then.
    ///
    /// A log that is forgotten starts again with a new epoch. `in_use` keeps those whose room is
    /// open, since the engine knows their epoch.
    pub fn sweep(&mut self, now_ms: u64, in_use: impl Fn(&RoomName) -> bool) {
        let sizes = &mut self.sizes;
        self.logs.retain(|room, log| {
            log.trim_age(now_ms);
            log.forget_keys(now_ms);
            let kept = !log.kept.is_empty() || !log.keys.is_empty() || in_use(room);
            log.kept.shrink();
            log.keys.shrink();
            log.keys_by_age.shrink();
            let bytes = log.held();
            if kept {
                sizes.note(room, &mut log.counted, bytes, false, now_ms);
            } else {
                sizes.forget(room, log.counted);
            }
            kept
        });
        self.logs.shrink();
        self.revoked.retain(|_, (_, until_ms)| *until_ms > now_ms);
    }

    /// Throws a log away as a crash would.
    pub fn lose(&mut self, room: &RoomName) {
        if let Some(log) = self.logs.remove(room) {
            self.sizes.forget(room, log.counted);
        }
    }

    /// Has the largest logs give until all are within the bound; `last` keeps its newest publication,
    /// which was just appended.
    fn squeeze(&mut self, last: &RoomName, now_ms: u64) {
        self.squeezed += 1;
        while self.sizes.all() > self.bytes_max
            && let Some(room) = self.sizes.largest().cloned()
        {
            let Some(log) = self.logs.get_mut(&room) else { return };
            let least = usize::from(room == *last);
            if !log.give(self.sizes.all() - self.bytes_max, least) {
                if least > 0 {
                    return;
                }
                self.lose(&room);
                continue;
            }
            let bytes = log.held();
            self.sizes.note(&room, &mut log.counted, bytes, false, now_ms);
        }
    }

    /// Names of all logs, in no order.
    pub fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.logs.keys()
    }

    fn revocations(&self, after: Option<&str>, limit: usize, now_ms: u64) -> Revocations {
        let above = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.revoked.range::<str, _>((above, Bound::Unbounded));
        let mut current = range.filter(|(_, (_, until_ms))| *until_ms > now_ms);
        let page = current.by_ref().take(limit).map(|(subject, (at_ms, until_ms))| Revocation {
            subject: subject.clone(),
            at_ms: *at_ms,
            until_ms: *until_ms,
        });
        let revocations = page.collect();
        Revocations { revocations, more: current.next().is_some() }
    }
}

impl Store for MemoryStore {
    fn apply(&mut self, batch: Vec<Request>, now_ms: u64) -> Vec<Completion> {
        batch.into_iter().map(|request| self.handle(request, now_ms)).collect()
    }
}

fn key_bytes(key: &Key) -> usize {
    KEY_BYTES + 2 * (key.principal.len() + key.key.len())
}

impl Log {
    fn new(epoch: Epoch) -> Self {
        Self {
            epoch,
            head: 0,
            kept: VecDeque::new(),
            bytes: 0,
            limits: LogLimits::default(),
            keys: HashMap::with_hasher(FixedState::default()),
            keys_by_age: VecDeque::new(),
            keys_bytes: 0,
            counted: Counted::default(),
            acked: 0,
        }
    }

    fn standing(&self) -> Standing {
        let (epoch, first) = (self.epoch.clone(), self.first());
        Standing { epoch, head: self.head, first, acked: self.acked }
    }

    fn first(&self) -> Offset {
        self.head + 1 - self.kept.len() as u64
    }

    fn append(&mut self, publication: Arc<Publication>, key: Option<Key>, now_ms: u64) -> Appended {
        self.forget_keys(now_ms);
        let used = key.as_ref().and_then(|key| self.keys.get(key));
        if let Some(used) = used.filter(|used| used.until_ms >= now_ms) {
            let (offset, time_ms) = (used.offset, used.time_ms);
            return Appended { epoch: self.epoch.clone(), offset, time_ms, duplicate: true };
        }
        self.head += 1;
        let (offset, time_ms) = (self.head, publication.time_ms);
        if let Some(key) = key {
            let until_ms = now_ms.saturating_add(self.limits.key_window_ms);
            self.keys_by_age.push_back((until_ms, key.clone()));
            self.keys_bytes += key_bytes(&key);
            self.keys.insert(key, Used { offset, time_ms, until_ms });
        }
        self.bytes += weight(&publication);
        self.kept.push_back(publication);
        while self.kept.len() > self.limits.size as usize || self.bytes > self.limits.bytes {
            if !self.drop_oldest() {
                break;
            }
        }
        self.trim_age(now_ms);
        Appended { epoch: self.epoch.clone(), offset, time_ms, duplicate: false }
    }

    fn ack(&mut self, epoch: &Epoch, offset: Offset) -> Offset {
        if *epoch == self.epoch {
            self.acked = self.acked.max(offset.min(self.head));
        }
        self.acked
    }

    /// Reads a range as if the `old` oldest were gone.
    fn read(&self, range: Range, limit: usize, bytes: usize, old: usize) -> Page {
        let first = self.first();
        // Indices into `kept`, half open.
        let (start, end) = match range {
            Range::After(after) => {
                let start = (after.max(first - 1) - (first - 1)) as usize;
                (start.max(old).min(self.kept.len()), self.kept.len())
            }
            Range::Before(before) => {
                let end = (before.max(first) - first) as usize;
                (old, end.min(self.kept.len()).max(old))
            }
        };
        let place = |index: usize| (first + index as u64, Arc::clone(&self.kept[index]));
        let mut budget = bytes;
        let mut fits = |publication: &Publication, taken: usize| {
            let weight = weight(publication);
            let fits = taken < limit && (taken == 0 || weight <= budget);
            budget = budget.saturating_sub(weight);
            fits
        };
        let mut publications = Vec::new();
        match range {
            Range::After(_) => {
                for index in start..end {
                    if !fits(&self.kept[index], publications.len()) {
                        break;
                    }
                    publications.push(place(index));
                }
            }
            Range::Before(_) => {
                for index in (start..end).rev() {
                    if !fits(&self.kept[index], publications.len()) {
                        break;
                    }
                    publications.push(place(index));
                }
                publications.reverse();
            }
        }
        let more = publications.len() < end - start;
        let standing = Standing { first: first + old as u64, ..self.standing() };
        Page { standing, publications, more }
    }

    /// How many of the oldest are too old.
    fn too_old(&self, age_ms: u64, now_ms: u64) -> usize {
        let too_old = |kept: &&Arc<Publication>| kept.time_ms.saturating_add(age_ms) < now_ms;
        self.kept.iter().take_while(too_old).count()
    }

    fn trim_age(&mut self, now_ms: u64) {
        for _ in 0..self.too_old(self.limits.age_ms, now_ms) {
            self.drop_oldest();
        }
    }

    /// What the log takes, bytes; about.
    fn held(&self) -> usize {
        LOG_BYTES + self.bytes + self.kept.len() * PUBLICATION_BYTES + self.keys_bytes
    }

    /// Lets go of about so many bytes, and of no more than an eighth of what it has, so that another is
    /// the largest then if there is one: of the oldest publications but `least`, or else of keys. False: it
    /// has neither.
    fn give(&mut self, bytes: usize, least: usize) -> bool {
        let before = self.held();
        let enough = before - bytes.min(before / 8);
        while self.held() > enough && self.kept.len() > least {
            self.drop_oldest();
        }
        while self.held() > enough && self.drop_oldest_key() {}
        self.held() < before
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.kept.pop_front() else { return false };
        self.bytes -= weight(&oldest);
        true
    }

    fn forget_keys(&mut self, now_ms: u64) {
        while let Some((until_ms, _)) = self.keys_by_age.front()
            && (*until_ms < now_ms || self.keys_by_age.len() > KEYS_MAX)
        {
            self.drop_oldest_key();
        }
    }

    fn drop_oldest_key(&mut self) -> bool {
        let Some((until_ms, key)) = self.keys_by_age.pop_front() else { return false };
        self.keys_bytes -= key_bytes(&key);
        if self.keys.get(&key).is_some_and(|used| used.until_ms == until_ms) {
            self.keys.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn publication(text: &str, time_ms: u64) -> Arc<Publication> {
        Arc::new(Publication {
            kind: "note".into(),
            payload: Bytes::copy_from_slice(text.as_bytes()),
            time_ms,
            from: None,
            key: None,
        })
    }

    struct Fixture {
        store: MemoryStore,
        room: RoomName,
        limits: LogLimits,
    }

    impl Fixture {
        fn new(limits: LogLimits) -> Self {
            Self { store: MemoryStore::new(7), room: RoomName::parse("a").unwrap(), limits }
        }

        fn append(&mut self, text: &str, key: Option<&str>, now_ms: u64) -> Appended {
            let request = Request::Append {
                token: 1,
                room: self.room.clone(),
                publication: publication(text, now_ms),
                key: key.map(|key| Key { principal: "u:ada".into(), key: key.into() }),
                limits: self.limits,
                fresh: Epoch::new("e1").unwrap(),
            };
            match self.store.handle(request, now_ms) {
                Completion::Appended { result, .. } => result.unwrap(),
                other => panic!("{other:?}"),
            }
        }

        fn read(&mut self, range: Range, limit: u32, bytes: usize, now_ms: u64) -> Page {
            let (room, age_ms) = (self.room.clone(), self.limits.age_ms);
            let request =
                Request::Read { token: 1, room, range, limit, bytes, age_ms, fresh: None };
            match self.store.handle(request, now_ms) {
                Completion::Read { result, .. } => result.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn offsets(page: &Page) -> Vec<u64> {
        page.publications.iter().map(|(offset, _)| *offset).collect()
    }

    // [1.room.log]
    #[test]
    fn offsets_are_consecutive_from_one() {
        let mut log = Fixture::new(LogLimits::default());
        for n in 1..=5 {
            assert_eq!(log.append("x", None, 0).offset, n);
        }
        assert_eq!(offsets(&log.read(Range::After(2), 10, 1000, 0)), [3, 4, 5]);
    }

    // [5.1.trim]
    #[test]
    fn trimming_by_size_moves_first_and_keeps_the_epoch() {
        let mut log = Fixture::new(LogLimits { size: 3, ..LogLimits::default() });
        for _ in 0..5 {
            log.append("x", None, 0);
        }
        let page = log.read(Range::After(0), 10, 1000, 0);
        assert_eq!((page.standing.first, page.standing.head), (3, 5));
        assert_eq!(offsets(&page), [3, 4, 5]);
        assert_eq!(page.standing.epoch, Epoch::new("e1").unwrap());
    }

    #[test]
    fn pages_end_by_count_and_by_bytes_but_hold_at_least_one() {
        let mut log = Fixture::new(LogLimits::default());
        for _ in 0..5 {
            log.append("0123456789", None, 0);
        }
        let page = log.read(Range::After(0), 2, 1000, 0);
        assert_eq!((offsets(&page), page.more), (vec![1, 2], true));
        let page = log.read(Range::After(0), 10, 30, 0);
        assert_eq!((offsets(&page), page.more), (vec![1, 2], true));
        let page = log.read(Range::After(0), 10, 1, 0);
        assert_eq!(offsets(&page), [1]);
        let page = log.read(Range::Before(5), 2, 1000, 0);
        assert_eq!((offsets(&page), page.more), (vec![3, 4], true));
        let page = log.read(Range::Before(3), 10, 1000, 0);
        assert_eq!((offsets(&page), page.more), (vec![1, 2], false));
        assert!(log.read(Range::Before(1), 10, 1000, 0).publications.is_empty());
        assert!(log.read(Range::After(99), 10, 1000, 0).publications.is_empty());
    }

    // [5.4.key]
    #[test]
    fn a_key_is_one_publication_within_its_window() {
        let mut log = Fixture::new(LogLimits { key_window_ms: 100, ..LogLimits::default() });
        let first = log.append("x", Some("k"), 0);
        let again = log.append("y", Some("k"), 100);
        assert!(!first.duplicate && again.duplicate);
        assert_eq!((first.offset, again.offset, again.time_ms), (1, 1, 0));
        let later = log.append("z", Some("k"), 101);
        assert_eq!((later.offset, later.duplicate), (2, false));
        assert!(log.append("z", Some("k"), 202 - 1).duplicate, "the second use counts anew");
    }

    #[test]
    fn age_trims_on_read_and_sweep_forgets_what_is_empty() {
        let limits = LogLimits { age_ms: 50, key_window_ms: 10, ..LogLimits::default() };
        let mut log = Fixture::new(limits);
        log.append("x", Some("k"), 0);
        assert_eq!(log.read(Range::After(0), 9, 99, 51).standing.first, 2);
        log.store.sweep(60, |_| true);
        assert_eq!(log.store.rooms().count(), 1);
        log.store.sweep(60, |_| false);
        assert_eq!(log.store.rooms().count(), 0);
    }

    // All logs together.

    /// Appends to a room of its own, and says with which epoch.
    fn append_to(store: &mut MemoryStore, room: &str, size: usize, now_ms: u64) -> Epoch {
        let request = Request::Append {
            token: 1,
            room: RoomName::parse(room).unwrap(),
            publication: publication(&"x".repeat(size), now_ms),
            key: None,
            limits: LogLimits { size: 1_000_000, ..LogLimits::default() },
            fresh: Epoch::new(&format!("e{now_ms}")).unwrap(),
        };
        match store.handle(request, now_ms) {
            Completion::Appended { result, .. } => result.unwrap().epoch,
            other => panic!("{other:?}"),
        }
    }

    fn kept(store: &MemoryStore, room: &str) -> Option<usize> {
        store.logs.get(&RoomName::parse(room).unwrap()).map(|log| log.kept.len())
    }

    /// What is counted is what is there.
    fn check(store: &MemoryStore) {
        assert_eq!(store.bytes(), store.logs.values().map(Log::held).sum::<usize>());
        assert!(store.bytes() <= store.bytes_max, "{} of {}", store.bytes(), store.bytes_max);
    }

    #[test]
    fn the_largest_log_gives_and_small_ones_keep_what_they_have() {
        let mut store = MemoryStore::new(7).with_bytes(100_000);
        for n in 0..10 {
            append_to(&mut store, "small", 100, n);
        }
        for n in 10..2_000 {
            append_to(&mut store, "flood", 1_000, n);
            check(&store);
        }
        assert_eq!(kept(&store, "small"), Some(10));
        let flood = kept(&store, "flood").unwrap();
        assert!((50..100).contains(&flood), "{flood}");
        assert!(store.squeezed() > 0);
        // Another that grows gets a share of its own.
        for n in 2_000..4_000 {
            append_to(&mut store, "other", 1_000, n);
            check(&store);
        }
        let (flood, other) = (kept(&store, "flood").unwrap(), kept(&store, "other").unwrap());
        assert!(flood >= 20 && other >= 20, "{flood} {other}");
        assert_eq!(kept(&store, "small"), Some(10));
    }

    // [5.1.trim]
    #[test]
    fn of_many_small_logs_the_one_used_longest_ago_goes_and_begins_again() {
        let mut store = MemoryStore::new(7).with_bytes(20_000);
        let first = append_to(&mut store, "room/0", 10, 0);
        for n in 1..100 {
            append_to(&mut store, &format!("room/{n}"), 10, n * 1_000);
            check(&store);
        }
        assert_eq!(kept(&store, "room/0"), None);
        assert_eq!(kept(&store, "room/99"), Some(1));
        assert!(store.rooms().count() > 20);
        assert_ne!(append_to(&mut store, "room/0", 10, 100_000), first);
    }

    #[test]
    fn keys_count_and_go_before_the_log_does() {
        let mut log = Fixture::new(LogLimits { size: 1, ..LogLimits::default() });
        log.store = MemoryStore::new(7).with_bytes(10_000);
        for n in 0..1_000 {
            log.append("x", Some(&format!("k{n}")), 0);
            check(&log.store);
        }
        assert!(log.append("x", Some("k999"), 0).duplicate);
        assert!(!log.append("x", Some("k1"), 0).duplicate);
    }

    #[test]
    fn what_is_swept_or_lost_is_not_counted() {
        let mut store = MemoryStore::new(7).with_bytes(100_000);
        append_to(&mut store, "a", 1_000, 0);
        append_to(&mut store, "b", 1_000, 0);
        store.lose(&RoomName::parse("a").unwrap());
        check(&store);
        assert!(store.bytes() > 0);
        store.sweep(u64::MAX, |_| false);
        assert_eq!(store.bytes(), 0);
        assert_eq!(store.sizes.largest(), None);
    }
}
