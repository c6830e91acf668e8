//! The two threads: what they do with what waits, and how they come back from errors.
//!
//! After any error a connection is dropped and made anew, so that nothing half done in it survives. If
//! that fails it is tried again, at growing distances, until it works; meanwhile what comes is
//! refused. A writer that comes back has to prove that it can write before it takes requests.

use crate::error::{damaged, sentence};
use crate::health::{Meter, Side};
use crate::queue::{Queue, Waiting};
use crate::rooms::{Room, Rooms, signed, unsigned};
use crate::store::{Options, Sink};
use crate::{reader, schema, trim, writer};
use clarion_store::{Completion, LogLimits, Request, StoreError};
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reads that are answered together. They do not get cheaper by that, so there are few.
const READS: usize = 16;
/// Rooms that one sweep looks at.
const SWEPT_ROOMS: i64 = 64;
/// Publications after which a sweep looks at no further room.
const SWEPT_PUBLICATIONS: u64 = 4_096;

/// The thread that writes.
pub(crate) struct WriteSide {
    options: Arc<Options>,
    meter: Arc<Meter>,
    connection: Option<Connection>,
    rooms: Rooms,
    retry: Retry,
    /// A commit failed, so the write-ahead log may hold what the disk does not.
    doubtful: bool,
    /// Pages in the write-ahead log after the last commit.
    wal_pages: Arc<AtomicU64>,
    /// The last room that was swept.
    swept: i64,
}

/// The thread that reads.
pub(crate) struct ReadSide {
    options: Arc<Options>,
    meter: Arc<Meter>,
    connection: Option<Connection>,
    retry: Retry,
}

/// When to try again.
struct Retry {
    at: Instant,
    pause: Duration,
    first: Duration,
    longest: Duration,
}

impl Retry {
    fn new(options: &Options) -> Self {
        let longest = Duration::from_millis(options.retry_ms.max(1));
        let first = longest / 64;
        Self { at: Instant::now(), pause: first, first, longest }
    }

    fn failed(&mut self) {
        self.at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.longest);
    }

    fn worked(&mut self) {
        self.pause = self.first;
    }
}

impl WriteSide {
    pub(crate) fn open(options: Arc<Options>, meter: Arc<Meter>) -> rusqlite::Result<Self> {
        let mut side = Self {
            retry: Retry::new(&options),
            options,
            meter,
            connection: None,
            rooms: Rooms::default(),
            // Whoever had the file before may have been killed in a commit that failed.
            doubtful: true,
            wal_pages: Arc::default(),
            swept: 0,
        };
        side.connection = Some(side.connect()?);
        Ok(side)
    }

    pub(crate) fn run(mut self, queue: &Queue, sink: &dyn Sink) {
        let sweep = Duration::from_millis(self.options.sweep_ms.max(1));
        let mut sweep_at = Instant::now() + sweep;
        loop {
            let until = if self.connection.is_some() { sweep_at } else { self.retry.at };
            let (count, bytes) = (self.options.batch_count, self.options.batch_bytes);
            let Some(taken) = queue.take(count, bytes, Some(until)) else { break };
            self.ready();
            if !taken.is_empty() {
                deliver(self.batch(taken), sink);
            }
            self.checkpoint();
            if sweep_at <= Instant::now() {
                self.sweep();
                sweep_at = Instant::now() + sweep;
            }
        }
        if let Some(connection) = self.connection {
            // Whoever opens the file next finds all of it in one place. If it cannot be, the
            // write-ahead log keeps it.
            let _ = truncate_wal(&connection);
        }
    }

    /// Does what waits, as one transaction.
    fn batch(&mut self, taken: Vec<Waiting>) -> Vec<(u32, Completion)> {
        let (mut places, mut requests) = (Vec::with_capacity(taken.len()), Vec::new());
        for waiting in taken {
            places.push(match waiting {
                Waiting::Request(to, request) => {
                    requests.push(request);
                    (to, None)
                }
                Waiting::Refused(to, completion) => (to, Some(completion)),
            });
        }
        let mut done = self.apply(&requests).into_iter();
        let mut completions = Vec::with_capacity(places.len());
        for (to, refused) in places {
            completions.extend(refused.or_else(|| done.next()).map(|completion| (to, completion)));
        }
        let failed = completions.iter().filter(|(_, completion)| completion.error().is_some());
        self.meter.failed.fetch_add(failed.count() as u64, Ordering::Relaxed);
        completions
    }

    fn apply(&mut self, requests: &[Request]) -> Vec<Completion> {
        let refuse = |error: StoreError| requests.iter().map(|it| it.refuse(error)).collect();
        if requests.is_empty() {
            return Vec::new();
        }
        let Some(connection) = &mut self.connection else { return refuse(StoreError::Unavailable) };
        let begun = Instant::now();
        let now_ms = (self.options.clock)();
        let failed = match writer::apply(connection, &mut self.rooms, requests, now_ms) {
            Ok(completions) => {
                self.meter.committed(requests.len(), begun.elapsed().as_nanos() as u64);
                self.meter.set(Side::Write, None);
                self.retry.worked();
                return completions;
            }
            Err(failed) => failed,
        };
        if is_damage(&failed) && connection.is_autocommit() {
            // One log that is damaged must not keep all others from being written.
            self.rooms.forget_all();
            if let Some(completions) = self.apply_halves(requests) {
                return completions;
            }
            let failing = format!("the store cannot write: {}", sentence(&failed.error));
            self.meter.set(Side::Write, Some(failing));
            return refuse(StoreError::Unavailable);
        }
        self.doubtful |= failed.how == StoreError::Unknown;
        self.broke(&failed.error);
        refuse(failed.how)
    }

    /// Does the requests of half of the rooms, and then the others; `None` if there is but one room.
    ///
    /// So n rooms of which one is damaged take about log n transactions more.
    fn apply_halves(&mut self, requests: &[Request]) -> Option<Vec<Completion>> {
        let rooms: BTreeSet<_> = requests.iter().map(Request::room).collect();
        let middle = rooms.iter().nth(rooms.len() / 2)?;
        let (high, low): (Vec<usize>, Vec<usize>) =
            (0..requests.len()).partition(|place| requests[*place].room() >= *middle);
        if low.is_empty() {
            return None;
        }
        let mut completions = vec![None; requests.len()];
        for half in [low, high] {
            let asked: Vec<Request> = half.iter().map(|place| requests[*place].clone()).collect();
            for (place, completion) in half.into_iter().zip(self.apply(&asked)) {
                completions[place] = Some(completion);
            }
        }
        completions.into_iter().collect()
    }

    /// Gets the connection back, if it is gone and it is time to try.
    fn ready(&mut self) {
        if self.connection.is_some() || Instant::now() < self.retry.at {
            return;
        }
        match self.connect() {
            Ok(connection) => {
                self.connection = Some(connection);
                self.meter.reopened.fetch_add(1, Ordering::Relaxed);
                self.meter.set(Side::Write, None);
            }
            Err(error) => self.broke(&error),
        }
    }

    fn broke(&mut self, error: &rusqlite::Error) {
        self.connection = None;
        self.rooms.forget_all();
        self.retry.failed();
        let failing = format!("the store cannot write: {}", sentence(error));
        self.meter.set(Side::Write, Some(failing));
    }

    /// A connection that was seen to write.
    fn connect(&mut self) -> rusqlite::Result<Connection> {
        let mut connection = schema::connect(&self.options.dir, self.options.busy())?;
        connection.pragma_update(None, "cache_size", -i64::from(self.options.cache_kib))?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        schema::version(&connection)?;
        if self.doubtful {
            // Frames of a commit whose fsync failed may be in the page cache and not on the disk, and
            // stay so: the kernel tells of it once. A later commit behind them would be synced, and
            // lost with them. So they are copied into the file and synced there, anew.
            truncate_wal(&connection)?;
            self.doubtful = false;
        }
        let pages = Arc::clone(&self.wal_pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: i32| {
            pages.store(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
            Ok(())
        }))?;
        let probe = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        probe.execute(
            "INSERT OR REPLACE INTO probe (id, time_ms) VALUES (1, ?1)",
            params![signed((self.options.clock)())],
        )?;
        if let Err(error) = probe.commit() {
            self.doubtful = true;
            return Err(error);
        }
        #[cfg(feature = "__late_keys")]
        crate::late_keys::plant(&connection)?;
        Ok(connection)
    }

    /// Copies the write-ahead log into the file, if it has grown long; after the answers, so that nobody
    /// waits for it.
    fn checkpoint(&mut self) {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        let Some(connection) = &self.connection else { return };
        if pages < self.options.wal_pages {
            return;
        }
        // A reader in the way leaves some of it for the next time; if that has happened often, it is
        // waited for.
        let patient = pages >= 8 * self.options.wal_pages;
        let mode = if patient { "RESTART" } else { "PASSIVE" };
        let result =
            connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), (), |_| Ok(()));
        self.wal_pages.store(0, Ordering::Relaxed);
        if let Err(error) = result {
            self.doubtful = true;
            self.broke(&error);
        }
    }

    /// Deletes what became too old in some rooms that nobody appends to, and rooms in which there is
    /// nothing any more.
    fn sweep(&mut self) {
        let now_ms = (self.options.clock)();
        let Some(connection) = &mut self.connection else { return };
        // What it has in memory of these rooms would not be so any more.
        self.rooms.forget_all();
        match sweep(connection, &mut self.swept, now_ms) {
            Ok(()) => {}
            Err(failed) => {
                // If it is about one of these rooms, the others after them have their turn.
                self.swept += SWEPT_ROOMS;
                self.doubtful |= failed.how == StoreError::Unknown;
                self.broke(&failed.error);
            }
        }
    }
}

impl ReadSide {
    pub(crate) fn open(options: Arc<Options>, meter: Arc<Meter>) -> rusqlite::Result<Self> {
        let mut side = Self { retry: Retry::new(&options), options, meter, connection: None };
        side.connection = Some(side.connect()?);
        Ok(side)
    }

    pub(crate) fn run(mut self, queue: &Queue, sink: &dyn Sink) {
        while let Some(taken) = queue.take(READS, usize::MAX, None) {
            let mut completions = Vec::with_capacity(taken.len());
            for waiting in taken {
                completions.push(match waiting {
                    Waiting::Request(to, request) => (to, self.answer(&request)),
                    Waiting::Refused(to, completion) => (to, completion),
                });
            }
            let failed = completions.iter().filter(|(_, completion)| completion.error().is_some());
            self.meter.failed.fetch_add(failed.count() as u64, Ordering::Relaxed);
            self.meter.reads.fetch_add(completions.len() as u64, Ordering::Relaxed);
            deliver(completions, sink);
        }
    }

    fn answer(&mut self, request: &Request) -> Completion {
        match self.try_answer(request) {
            Ok(completion) => {
                self.meter.set(Side::Read, None);
                completion
            }
            Err(Some(error)) => {
                self.connection = None;
                let failing = format!("the store cannot read: {}", sentence(&error));
                self.meter.set(Side::Read, Some(failing));
                request.refuse(StoreError::Unavailable)
            }
            Err(None) => request.refuse(StoreError::Unavailable),
        }
    }

    /// An error of `None` says that it is not yet time to try again.
    fn try_answer(&mut self, request: &Request) -> Result<Completion, Option<rusqlite::Error>> {
        if self.connection.is_none() {
            if Instant::now() < self.retry.at {
                return Err(None);
            }
            let connection = self.connect().inspect_err(|_| self.retry.failed())?;
            self.connection = Some(connection);
            self.retry.worked();
            self.meter.reopened.fetch_add(1, Ordering::Relaxed);
        }
        let connection = self.connection.as_ref().ok_or(None)?;
        Ok(reader::answer(connection, request, (self.options.clock)())?)
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = schema::connect(&self.options.dir, self.options.busy())?;
        let cache = -i64::from(self.options.cache_kib / 4);
        connection.pragma_update(None, "cache_size", cache)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }
}

/// Whether it is about what the file holds, and not about the disk.
fn is_damage(failed: &writer::Failed) -> bool {
    let code = failed.error.sqlite_error_code();
    failed.how == StoreError::Unavailable
        && matches!(code, None | Some(ErrorCode::DatabaseCorrupt | ErrorCode::ConstraintViolation))
}

/// Hands completions over, those for one receiver together and in their order.
fn deliver(completions: Vec<(u32, Completion)>, sink: &dyn Sink) {
    let mut by_receiver: BTreeMap<u32, Vec<Completion>> = BTreeMap::new();
    for (to, completion) in completions {
        by_receiver.entry(to).or_default().push(completion);
    }
    for (to, completions) in by_receiver {
        sink.complete(to, completions);
    }
}

/// Copies all of the write-ahead log into the file, on to the disk, and begins it anew.
fn truncate_wal(connection: &Connection) -> rusqlite::Result<()> {
    let busy: i64 =
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
    if busy == 0 {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error { code: rusqlite::ErrorCode::DatabaseBusy, extended_code: 5 },
        Some("another process reads, so that the write-ahead log cannot be closed".into()),
    ))
}

/// One transaction of housekeeping, on the rooms after `swept`.
fn sweep(connection: &mut Connection, swept: &mut i64, now_ms: u64) -> Result<(), writer::Failed> {
    let undone = |error| writer::Failed { how: StoreError::Unavailable, error };
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(undone)?;
    let last = sweep_rooms(&transaction, *swept, now_ms).map_err(undone)?;
    transaction.commit().map_err(|error| writer::Failed { how: StoreError::Unknown, error })?;
    *swept = last;
    Ok(())
}

/// Sweeps and says which room was the last; 0 after the very last one.
fn sweep_rooms(connection: &Connection, after: i64, now_ms: u64) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "SELECT id, epoch, head, first, floor, bytes, acked, age_ms, touched_ms FROM rooms
         WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, SWEPT_ROOMS], |row| {
        Ok((Room::from_row(row)?, unsigned(row.get(7)?)?, unsigned(row.get(8)?)?))
    })?;
    let rows: Vec<(Room, u64, u64)> = rows.collect::<Result<_, _>>()?;
    let complete = rows.len() < SWEPT_ROOMS as usize;
    let (mut last, mut gone) = (0, 0);
    for (mut room, age_ms, touched_ms) in rows {
        last = room.id;
        let before = room.floor;
        let limits = LogLimits { size: u32::MAX, age_ms, bytes: usize::MAX, key_window_ms: 0 };
        trim::trim(connection, &mut room, &limits, now_ms)?;
        if room.changed {
            room.save(connection, None, touched_ms)?;
        }
        // As long again as the oldest publication could have been kept: whoever still knows its epoch
        // has not heard of it for longer than anything is remembered.
        let empty = room.first > room.head;
        if empty && touched_ms.saturating_add(age_ms.saturating_mul(2)) < now_ms {
            forget(connection, room.id)?;
        }
        gone += room.floor - before;
        if gone > SWEPT_PUBLICATIONS {
            return Ok(last);
        }
    }
    connection
        .prepare_cached("DELETE FROM revocations WHERE until_ms <= ?1")?
        .execute(params![signed(now_ms)])?;
    connection
        .prepare_cached(
            "DELETE FROM keys WHERE (room, principal, key) IN
             (SELECT room, principal, key FROM keys WHERE expires_ms < ?1 LIMIT 4096)",
        )?
        .execute(params![signed(now_ms)])?;
    Ok(if complete { 0 } else { last })
}

/// Deletes a room in which nothing is kept.
fn forget(connection: &Connection, room: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM keys WHERE room = ?1")?.execute(params![room])?;
    // Or the next log of this room could have the epoch of this one.
    connection.prepare_cached("UPDATE absent SET epoch = lower(hex(randomblob(8)))")?.execute(())?;
    let rows =
        connection.prepare_cached("DELETE FROM rooms WHERE id = ?1")?.execute(params![room])?;
    if rows == 1 { Ok(()) } else { Err(damaged("a room's row is gone")) }
}
