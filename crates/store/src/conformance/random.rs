//! Random requests, put to the subject and to the reference.

use super::Subject;
use super::ask::{epoch, publication, room};
use crate::{Completion, Key, LogLimits, MemoryStore, Range, Request, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;

/// Each log is trimmed by something else. A log keeps its bounds, as it does while a server runs.
const ROOMS: [(&str, LogLimits); 4] = [
    ("a", LogLimits { size: 1_000, age_ms: 1 << 40, bytes: 1 << 30, key_window_ms: 30 }),
    ("a/b", LogLimits { size: 3, age_ms: 1 << 40, bytes: 1 << 30, key_window_ms: 1_000 }),
    ("$user/ada", LogLimits { size: 100, age_ms: 1 << 40, bytes: 90, key_window_ms: 0 }),
    ("old", LogLimits { size: 100, age_ms: 40, bytes: 1_000, key_window_ms: 50 }),
];

#[derive(Clone, Debug)]
enum Step {
    /// One batch of what writes.
    Write(Vec<Write>),
    /// What reads, each in a batch of its own.
    Read(Read),
    /// Milliseconds go by.
    Pass(u64),
    Restart,
}

#[derive(Clone, Debug)]
enum Write {
    Append { room: usize, size: usize, age_ms: u64, key: Option<(u8, u8)> },
    Ack { room: usize, of_it: bool, offset: u64 },
    Revoke { subject: u8, at_ms: u64, for_ms: u64 },
    Group { group: u8, user: u8, member: bool },
}

#[derive(Clone, Debug)]
enum Read {
    Open { room: usize },
    Range { room: usize, range: Range, limit: u32, bytes: usize, fresh: bool },
    Revocations { after: Option<u8>, limit: u32 },
    Groups { after: Option<(u8, u8)>, limit: u32 },
}

/// Whatever is asked, the subject and the reference complete it alike.
///
/// 48 cases, or as many as `PROPTEST_CASES` says.
pub fn behaves_as_memory_does<S: Subject>(make: impl Fn() -> S) {
    let cases = std::option_env!("PROPTEST_CASES").and_then(|cases| cases.parse().ok());
    let config =
        Config { cases: cases.unwrap_or(48), failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..40);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let (mut subject, mut reference) = (make(), MemoryStore::new(1));
            let mut run = Run { token: 0, now_ms: 1_000 };
            for step in steps {
                run.step(&step, &mut subject, &mut reference)?;
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("assertion: {error}"));
}

struct Run {
    token: u64,
    now_ms: u64,
}

/// A store may have an epoch of its own for logs that are not there.
fn comparable(mut completion: Completion) -> Completion {
    if let Completion::Opened { result: Ok(standing), .. } = &mut completion
        && standing.head == 0
    {
        standing.epoch = epoch("absent");
    }
    completion
}

impl Run {
    fn step(
        &mut self,
        step: &Step,
        subject: &mut impl Subject,
        reference: &mut MemoryStore,
    ) -> Result<(), TestCaseError> {
        let batch = match step {
            Step::Write(writes) => {
                let epochs: Vec<_> = ROOMS
                    .map(|(name, _)| {
                        let open =
                            Request::Open { token: 0, room: room(name), fresh: epoch("none") };
                        match reference.handle(open, self.now_ms) {
                            Completion::Opened { result: Ok(standing), .. } => standing.epoch,
                            other => unreachable!("{other:?}"),
                        }
                    })
                    .into();
                writes.iter().map(|write| self.write(write, &epochs)).collect()
            }
            Step::Read(read) => vec![self.read(read)],
            Step::Pass(ms) => {
                self.now_ms += ms;
                return Ok(());
            }
            Step::Restart => {
                subject.restart();
                return Ok(());
            }
        };
        let expected = reference.apply(batch.clone(), self.now_ms).into_iter().map(comparable);
        let found = subject.apply(batch.clone(), self.now_ms).into_iter().map(comparable);
        let (expected, found): (Vec<_>, Vec<_>) = (expected.collect(), found.collect());
        prop_assert_eq!(found, expected, "at {} ms of {:?}", self.now_ms, batch);
        Ok(())
    }

    fn write(&mut self, write: &Write, epochs: &[clarion_protocol::Epoch]) -> Request {
        self.token += 1;
        let token = self.token;
        match write {
            Write::Append { room: to, size, age_ms, key } => {
                let (name, limits) = ROOMS[*to];
                let key = key.map(|(principal, key)| Key {
                    principal: format!("u:{principal}").into(),
                    key: format!("{key}").into(),
                });
                let text = format!("{:<size$}", token);
                let mut publication = publication(&text, self.now_ms - age_ms);
                publication.key = key.as_ref().map(|key| key.key.clone());
                Request::Append {
                    token,
                    room: room(name),
                    publication: Arc::new(publication),
                    key,
                    limits,
                    fresh: epoch(&format!("e{token}")),
                }
            }
            Write::Ack { room: of, of_it, offset } => {
                let epoch = if *of_it { epochs[*of].clone() } else { epoch("another") };
                Request::Ack { token, room: room(ROOMS[*of].0), epoch, offset: *offset }
            }
            Write::Revoke { subject, at_ms, for_ms } => {
                let (at_ms, until_ms) = (*at_ms, self.now_ms + for_ms);
                Request::Revoke { token, subject: subject.to_string().into(), at_ms, until_ms }
            }
            Write::Group { group, user, member } => {
                let (group, user) = (group.to_string().into(), user.to_string().into());
                Request::Group { token, group, user, member: *member }
            }
        }
    }

    fn read(&mut self, read: &Read) -> Request {
        self.token += 1;
        let token = self.token;
        let fresh = epoch(&format!("e{token}"));
        match read {
            Read::Open { room: of } => Request::Open { token, room: room(ROOMS[*of].0), fresh },
            Read::Range { room: of, range, limit, bytes, fresh: may_be_absent } => {
                let (name, limits) = ROOMS[*of];
                Request::Read {
                    token,
                    room: room(name),
                    range: *range,
                    limit: *limit,
                    bytes: *bytes,
                    age_ms: limits.age_ms,
                    fresh: may_be_absent.then_some(fresh),
                }
            }
            Read::Revocations { after, limit } => {
                let after = after.map(|after| after.to_string().into());
                Request::Revocations { token, after, limit: *limit }
            }
            Read::Groups { after, limit } => {
                let text = |number: u8| number.to_string().into();
                let after = after.map(|(group, user)| (text(group), text(user)));
                Request::Groups { token, after, limit: *limit }
            }
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec(write(), 1..12).prop_map(Step::Write),
        5 => read().prop_map(Step::Read),
        2 => (0..60_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    let rooms = 0..ROOMS.len();
    let key = prop::option::of((0..2_u8, 0..3_u8));
    let sizes = prop_oneof![6 => 0..40_usize, 1 => 80..100_usize];
    prop_oneof![
        8 => (rooms.clone(), sizes, 0..50_u64, key)
            .prop_map(|(room, size, age_ms, key)| Write::Append { room, size, age_ms, key }),
        1 => (rooms, any::<bool>(), 0..9_u64)
            .prop_map(|(room, of_it, offset)| Write::Ack { room, of_it, offset }),
        1 => (0..4_u8, 0..9_u64, 0..90_u64)
            .prop_map(|(subject, at_ms, for_ms)| Write::Revoke { subject, at_ms, for_ms }),
        1 => (0..3_u8, 0..3_u8, any::<bool>())
            .prop_map(|(group, user, member)| Write::Group { group, user, member }),
    ]
}

fn read() -> impl Strategy<Value = Read> {
    let rooms = 0..ROOMS.len();
    let range =
        prop_oneof![(0..30_u64).prop_map(Range::After), (0..30_u64).prop_map(Range::Before)];
    let bytes = prop_oneof![0..200_usize, Just(usize::MAX)];
    prop_oneof![
        3 => rooms.clone().prop_map(|room| Read::Open { room }),
        6 => (rooms, range, 0..12_u32, bytes, any::<bool>()).prop_map(
            |(room, range, limit, bytes, fresh)| Read::Range { room, range, limit, bytes, fresh }
        ),
        1 => (prop::option::of(0..4_u8), 0..4_u32)
            .prop_map(|(after, limit)| Read::Revocations { after, limit }),
        1 => (prop::option::of((0..3_u8, 0..3_u8)), 0..6_u32)
            .prop_map(|(after, limit)| Read::Groups { after, limit }),
    ]
}
