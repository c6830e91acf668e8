//! Workers: one thread each, which owns its connections outright and drives a `Shard`.
//!
//! Nothing that a worker touches for a message is shared, but for the mailboxes
//! ([`mailbox`]), which are locked once a turn. A connection that is idle costs a [`slot`] and
//! nothing else. The loop is [`turn`]; what the shard asks for is noted by [`driver`].

mod clock;
mod doorbell;
mod driver;
mod injector;
mod load;
mod mailbox;
mod meter;
mod outbox;
mod slot;
mod transport;
mod turn;

pub(crate) use clock::Clock;
pub(crate) use injector::{Arrival, Inbound};
pub(crate) use load::Seat;
pub(crate) use meter::{BOUNDS_US, Distribution};

use crate::api::Answers;
use crate::auth::Auth;
use clarion_engine::revoked::{Span, Subject};
use clarion_engine::{Config, Mail, Shard, WorkerId};
use clarion_protocol::RoomName;
use clarion_store_sqlite::SqliteStore;
use doorbell::Doorbell;
use driver::{Driver, Parts};
use injector::Injector;
use load::Load;
use mailbox::{Outgoing, PostOffice};
use meter::{Histogram, Meter};
use mio::{Poll, Waker};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::Notify;
use transport::Transport;
use turn::Worker;

/// What a process that lost a worker exits with, as Rust does by itself for its main thread.
const EXIT_PANIC: i32 = 101;

/// How often to look whether everybody is gone, if no worker says so.
const DRAIN_LOOK: Duration = Duration::from_millis(50);

/// All workers, as the front sees them.
#[derive(Debug)]
pub(crate) struct Workers {
    handles: Vec<Handle>,
    /// Where the search for the least loaded starts, so that equals take turns.
    turn: AtomicUsize,
    /// Told by a worker that drains when its last connection is gone.
    idle: Arc<Notify>,
    office: Arc<PostOffice>,
    clock: Clock,
}

#[derive(Debug)]
struct Handle {
    injector: Arc<Injector>,
    load: Load,
    meter: Arc<Meter>,
}

/// How busy one worker is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorkerLoad {
    /// Those on their way to it included.
    pub(crate) connections: usize,
    /// Length of all its turns.
    pub(crate) busy: Duration,
    /// Length of the turn under way; 0 while it sleeps.
    pub(crate) turn_age: Duration,
}

/// What workers measure the length of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Turns.
    Turn,
    /// From the turn in which a publication was read to the write of its delivery.
    Delivery,
    /// The store keeps a publication.
    Append,
    /// The store reads a page, or says where a log stands.
    Read,
}

impl Measure {
    fn of(self, meter: &Meter) -> &Histogram {
        match self {
            Self::Turn => &meter.turns,
            Self::Delivery => &meter.deliveries,
            Self::Append => &meter.appends,
            Self::Read => &meter.reads,
        }
    }
}

/// A place for a connection on the worker that will own it.
#[derive(Debug)]
pub(crate) struct Reservation {
    worker: usize,
    pub(crate) seat: Seat,
}

/// What was there when the process ended, and every worker has to know before anybody comes.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Users in groups.
    pub(crate) groups: Vec<(RoomName, Box<str>)>,
    pub(crate) revocations: Vec<(Subject, Span)>,
}

/// Starts all workers.
///
/// # Errors
/// What the operating system says about polls and threads.
pub(crate) fn start(
    config: &Arc<Config>,
    answers: &Arc<Answers>,
    durable: Option<&Arc<SqliteStore>>,
    auth: &Arc<Auth>,
    kept: &Kept,
    clock: Clock,
) -> io::Result<(Workers, Vec<JoinHandle<()>>)> {
    let mut polls = Vec::new();
    let mut bells = Vec::new();
    for _ in 0..config.workers {
        let poll = Poll::new()?;
        bells.push(Arc::new(Doorbell::new(Waker::new(poll.registry(), turn::BELL)?)));
        polls.push(poll);
    }
    let office = Arc::new(PostOffice::new(bells.clone(), config.limits.mailbox_bytes));
    let idle = Arc::new(Notify::new());
    let (mut handles, mut threads) = (Vec::new(), Vec::new());
    for ((id, poll), bell) in (0..config.workers).map(WorkerId).zip(polls).zip(bells) {
        let handle = Handle {
            injector: Arc::new(Injector::new(bell.clone())),
            load: Load::default(),
            meter: Arc::default(),
        };
        let parts = Parts {
            id,
            outgoing: Outgoing::new(id, office.clone()),
            load: handle.load.clone(),
            meter: handle.meter.clone(),
            answers: answers.clone(),
            config: Arc::clone(config),
            durable: durable.cloned(),
            auth: auth.clone(),
            injector: handle.injector.clone(),
        };
        let now = clock.now();
        let mut shard = Shard::new(id, config.clone());
        for (room, user) in &kept.groups {
            shard.restore_group(room, user);
        }
        for (subject, span) in &kept.revocations {
            shard.restore_revocation(subject.clone(), *span);
        }
        let worker = Worker {
            poll,
            bell,
            office: office.clone(),
            injector: handle.injector.clone(),
            idle: idle.clone(),
            clock,
            shard,
            driver: Driver::new(parts, now),
            buffer: Worker::buffer(),
            records: Transport::record_buffer(),
            draining: false,
            sweep_at: now.mono_us,
            ended_us: now.mono_us,
        };
        threads.push(spawn(id, || worker.run(), || crate::logs::exit(EXIT_PANIC))?);
        handles.push(handle);
    }
    Ok((Workers { handles, turn: AtomicUsize::new(0), idle, office, clock }, threads))
}

/// Runs a worker. When it panics, which is logged by the hook, `lost` ends the process: the rooms
/// whose home it was would be gone while everything else seems to work.
fn spawn(
    id: WorkerId,
    run: impl FnOnce() + Send + 'static,
    lost: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("worker-{}", id.0)).spawn(move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            lost();
        }
    })
}

impl Workers {
    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..self.handles.len()).map(|index| WorkerId(index as u16))
    }

    /// Connections of all workers, those on their way included.
    pub(crate) fn connections(&self) -> usize {
        self.handles.iter().map(|handle| handle.load.count()).sum()
    }

    /// Connections of one worker, and how long its turns took together, seconds, and how long the
    /// one under way.
    pub(crate) fn load(&self, worker: usize) -> WorkerLoad {
        let Handle { load, meter, .. } = &self.handles[worker];
        let mut turns = Distribution::default();
        turns.add(&meter.turns);
        WorkerLoad {
            connections: load.count(),
            busy: Duration::from_nanos(turns.sum_ns),
            turn_age: Duration::from_micros(meter.turn_age_us(self.clock.mono_us())),
        }
    }

    /// What all workers measured of one thing.
    pub(crate) fn measured(&self, what: Measure) -> Distribution {
        let mut sum = Distribution::default();
        for Handle { meter, .. } in &self.handles {
            sum.add(what.of(meter));
        }
        sum
    }

    /// Bytes queued for all connections.
    pub(crate) fn outbox_bytes(&self) -> u64 {
        self.handles.iter().map(|handle| handle.meter.outbox_bytes()).sum()
    }

    /// Bytes of the logs in memory, and how many appends met their bound.
    pub(crate) fn memory_logs(&self) -> (u64, u64) {
        let logs =
            self.handles.iter().map(|handle| (handle.meter.log_bytes(), handle.meter.squeezed()));
        logs.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Bytes of mail between workers.
    pub(crate) fn mailbox_bytes(&self) -> usize {
        self.office.bytes()
    }

    /// The most that one connection's outbox held since the last call.
    pub(crate) fn take_outbox_bytes_max(&self) -> u64 {
        let marks = self.handles.iter().map(|handle| handle.meter.take_outbox_bytes_max());
        marks.max().unwrap_or(0)
    }

    /// The most that one mailbox held since the last call.
    pub(crate) fn take_mailbox_bytes_max(&self) -> u64 {
        let marks = self.handles.iter().map(|handle| handle.meter.take_mailbox_bytes_max());
        marks.max().unwrap_or(0)
    }

    /// Keeps a place on the worker that has the fewest connections.
    pub(crate) fn reserve(&self) -> Reservation {
        let count = self.handles.len();
        let start = self.turn.fetch_add(1, Relaxed);
        let worker = (0..count)
            .map(|step| (start + step) % count)
            .min_by_key(|&worker| self.handles[worker].load.count())
            .expect("there is at least one worker");
        Reservation { worker, seat: self.handles[worker].load.reserve() }
    }

    /// Hands a connection to the worker that its place is on.
    pub(crate) fn deliver(&self, worker: WorkerId, arrival: Arrival) {
        self.push(usize::from(worker.0), Inbound::Arrival(Box::new(arrival)));
    }

    /// Brings a question to a worker.
    pub(crate) fn post(&self, worker: WorkerId, mail: Mail) {
        self.push(usize::from(worker.0), Inbound::Mail(mail));
    }

    /// Brings several at once.
    pub(crate) fn post_all(&self, worker: WorkerId, mail: Vec<Mail>) {
        let items = mail.into_iter().map(Inbound::Mail);
        self.handles[usize::from(worker.0)].injector.push_all(items);
    }

    /// Has all connections closed with 1001.
    pub(crate) fn drain(&self) {
        (0..self.count()).for_each(|worker| self.push(worker, Inbound::Drain));
    }

    /// Returns when no connection is left. Call it after [`Self::drain`].
    pub(crate) async fn drained(&self) {
        while self.connections() > 0 {
            // A handshake that came to nothing gives its place back without telling.
            let _ = tokio::time::timeout(DRAIN_LOOK, self.idle.notified()).await;
        }
    }

    /// Ends the threads.
    pub(crate) fn stop(&self) {
        (0..self.count()).for_each(|worker| self.push(worker, Inbound::Stop));
    }

    fn push(&self, worker: usize, item: Inbound) {
        self.handles[worker].injector.push(item);
    }
}

impl Reservation {
    pub(crate) fn worker(&self) -> WorkerId {
        WorkerId(self.worker as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_panic_in_a_worker_ends_more_than_the_worker() {
        let (lost, was_lost) = mpsc::channel();
        let run = || panic!("as a bug would");
        let thread = spawn(WorkerId(7), run, move || lost.send(()).unwrap()).unwrap();
        assert!(was_lost.recv().is_ok());
        thread.join().unwrap();
    }

    #[test]
    fn a_worker_that_ends_is_not_lost() {
        let (lost, was_lost) = mpsc::channel::<()>();
        spawn(WorkerId(0), || {}, move || lost.send(()).unwrap()).unwrap().join().unwrap();
        assert!(was_lost.recv().is_err());
    }
}
