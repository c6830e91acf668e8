//! What changes something: a batch of requests in one transaction.

use crate::error::damaged;
use crate::rooms::{Room, Rooms, signed, unsigned};
use crate::trim::trim;
use clarion_protocol::{Publication, RoomName};
use clarion_store::{Appended, Completion, Key, LogLimits, Request, StoreError, weight};
use rusqlite::{Connection, TransactionBehavior, TransactionState, params};
use std::collections::BTreeMap;

/// Expired keys deleted with a batch, beside as many as it has requests.
const EXPIRED_KEYS: usize = 64;

/// Why a batch was not committed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Whether it is certain that nothing of it was done.
    pub(crate) how: StoreError,
    pub(crate) error: rusqlite::Error,
}

/// Does a batch in one transaction: `Ok` means that it is on the disk.
pub(crate) fn apply(
    connection: &mut Connection,
    rooms: &mut Rooms,
    batch: &[Request],
    now_ms: u64,
) -> Result<Vec<Completion>, Failed> {
    let undone = |error| Failed { how: StoreError::Unavailable, error };
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(undone)?;
    rooms.refresh(&transaction).map_err(undone)?;
    let result =
        Batch { connection: &transaction, rooms, touched: BTreeMap::new(), now_ms }.run(batch);
    let (completions, touched) = match result {
        Ok(done) => done,
        Err(error) => {
            // If it cannot be rolled back, whoever is told `Unavailable` must not find it done; the
            // connection is dropped after any failure, and with it what was not committed.
            drop(transaction);
            return Err(undone(error));
        }
    };
    // From here on the disk may have it although we are told otherwise: an error after the record of
    // the commit was written leaves it in the file, to be found by whoever opens that next.
    transaction.commit().map_err(|error| Failed { how: StoreError::Unknown, error })?;
    #[cfg(feature = "__late_keys")]
    crate::late_keys::take(connection)
        .map_err(|error| Failed { how: StoreError::Unknown, error })?;
    debug_assert_eq!(connection.transaction_state(None::<&str>).ok(), Some(TransactionState::None));
    rooms.learn(touched);
    Ok(completions)
}

type Touched = BTreeMap<RoomName, Room>;

struct Batch<'a> {
    connection: &'a Connection,
    rooms: &'a Rooms,
    /// Rooms of this batch as it leaves them.
    touched: Touched,
    now_ms: u64,
}

impl Batch<'_> {
    fn run(mut self, batch: &[Request]) -> rusqlite::Result<(Vec<Completion>, Touched)> {
        let mut completions = Vec::with_capacity(batch.len());
        for request in batch {
            completions.push(self.one(request)?);
        }
        for room in self.touched.values_mut() {
            let limits = room.limits.take();
            if let Some(limits) = &limits {
                trim(self.connection, room, limits, self.now_ms)?;
            }
            if std::mem::take(&mut room.changed) {
                room.save(self.connection, limits.map(|limits| limits.age_ms), self.now_ms)?;
            }
        }
        self.forget_keys(batch.len() + EXPIRED_KEYS)?;
        Ok((completions, self.touched))
    }

    fn one(&mut self, request: &Request) -> rusqlite::Result<Completion> {
        Ok(match request {
            Request::Append { token, room, publication, key, limits, fresh } => {
                if self.room(room)?.is_none() {
                    let made = Room::create(self.connection, room, fresh)?;
                    self.touched.insert(room.clone(), made);
                }
                let result = Ok(self.append(room, publication, key.as_ref(), limits)?);
                Completion::Appended { token: *token, result }
            }
            Request::Ack { token, room, epoch, offset } => {
                let acked = self.room(room)?.map_or(0, |room| {
                    let offset = room.head.min(*offset);
                    if room.epoch == *epoch && offset > room.acked {
                        (room.acked, room.changed) = (offset, true);
                    }
                    room.acked
                });
                Completion::Acked { token: *token, result: Ok(acked) }
            }
            Request::Revoke { token, subject, at_ms, until_ms } => {
                self.connection
                    .prepare_cached("DELETE FROM revocations WHERE until_ms <= ?1")?
                    .execute(params![signed(self.now_ms)])?;
                self.connection
                    .prepare_cached(
                        "INSERT INTO revocations (subject, at_ms, until_ms) VALUES (?1, ?2, ?3)
                         ON CONFLICT DO UPDATE SET at_ms = max(at_ms, excluded.at_ms),
                            until_ms = max(until_ms, excluded.until_ms)",
                    )?
                    .execute(params![subject, signed(*at_ms), signed(*until_ms)])?;
                Completion::Revoked { token: *token, result: Ok(()) }
            }
            Request::Group { token, group, user, member } => {
                let sql = if *member {
                    "INSERT INTO groups (name, user) VALUES (?1, ?2) ON CONFLICT DO NOTHING"
                } else {
                    "DELETE FROM groups WHERE name = ?1 AND user = ?2"
                };
                let rows = self.connection.prepare_cached(sql)?.execute(params![group, user])?;
                Completion::Grouped { token: *token, result: Ok(rows > 0) }
            }
            Request::Open { .. }
            | Request::Read { .. }
            | Request::Revocations { .. }
            | Request::Groups { .. } => {
                crate::reader::answer(self.connection, request, self.now_ms)?
            }
        })
    }

    fn append(
        &mut self,
        name: &RoomName,
        publication: &Publication,
        key: Option<&Key>,
        limits: &LogLimits,
    ) -> rusqlite::Result<Appended> {
        let (connection, now_ms) = (self.connection, self.now_ms);
        let room = self.touched.get_mut(name).expect("it was made if it was not there");
        if let Some(key) = key
            && !claim(connection, room, key, publication.time_ms, limits, now_ms)?
        {
            let (offset, time_ms) = used(connection, room.id, key)?;
            let epoch = room.epoch.clone();
            return Ok(Appended { epoch, offset, time_ms, duplicate: true });
        }
        if let Some(before) = room.limits.replace(*limits)
            && before != *limits
        {
            trim(connection, room, &before, now_ms)?;
        }
        room.head += 1;
        room.bytes += weight(publication) as u64;
        room.changed = true;
        if room.first == room.head {
            room.oldest = Some((room.head, publication.time_ms));
        }
        insert(connection, room, publication)?;
        let (epoch, offset) = (room.epoch.clone(), room.head);
        Ok(Appended { epoch, offset, time_ms: publication.time_ms, duplicate: false })
    }

    /// The room as this batch has it, if there is one.
    fn room(&mut self, name: &RoomName) -> rusqlite::Result<Option<&mut Room>> {
        if !self.touched.contains_key(name) {
            let room = match self.rooms.get(name) {
                Some(room) => Some(room.clone()),
                None => Room::load(self.connection, name)?,
            };
            let Some(room) = room else { return Ok(None) };
            self.touched.insert(name.clone(), room);
        }
        Ok(self.touched.get_mut(name))
    }

    /// Deletes keys whose window is over; more than a batch can bring, so that they go in the end.
    fn forget_keys(&self, count: usize) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare_cached(
            "DELETE FROM keys WHERE (room, principal, key) IN
             (SELECT room, principal, key FROM keys WHERE expires_ms < ?1 LIMIT ?2)",
        )?;
        statement.execute(params![signed(self.now_ms), signed(count as u64)])?;
        Ok(())
    }
}

/// Takes a key for the room's next publication; says whether it was free.
fn claim(
    connection: &Connection,
    room: &Room,
    key: &Key,
    time_ms: u64,
    limits: &LogLimits,
    now_ms: u64,
) -> rusqlite::Result<bool> {
    // Test and use in one: a lookup before it would cost as much again.
    let rows = connection
        .prepare_cached(
            "INSERT INTO keys (room, principal, key, offset, time_ms, expires_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET offset = excluded.offset, time_ms = excluded.time_ms,
                expires_ms = excluded.expires_ms WHERE expires_ms < ?7",
        )?
        .execute(params![
            room.id,
            key.principal,
            key.key,
            signed(room.head + 1),
            signed(time_ms),
            signed(now_ms.saturating_add(limits.key_window_ms)),
            signed(now_ms),
        ])?;
    Ok(rows == 1)
}

/// The place that a used key stands for.
fn used(connection: &Connection, room: i64, key: &Key) -> rusqlite::Result<(u64, u64)> {
    connection
        .prepare_cached(
            "SELECT offset, time_ms FROM keys WHERE room = ?1 AND principal = ?2 AND key = ?3",
        )?
        .query_row(params![room, key.principal, key.key], |row| {
            Ok((unsigned(row.get(0)?)?, unsigned(row.get(1)?)?))
        })
}

pub(crate) fn insert(
    connection: &Connection,
    room: &Room,
    publication: &Publication,
) -> rusqlite::Result<()> {
    let from = publication.from.as_deref();
    connection
        .prepare_cached(
            "INSERT INTO publications
             (room, offset, time_ms, type, payload, sender, client, user, info, key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            room.id,
            signed(room.head),
            signed(publication.time_ms),
            publication.kind,
            &publication.payload[..],
            from.is_some(),
            from.and_then(|from| from.client.as_ref()).map(|client| &client.0[..]),
            from.and_then(|from| from.user.as_deref()),
            from.and_then(|from| from.info.as_deref()),
            publication.key,
        ])
        .map_err(|error| match error.sqlite_error_code() {
            // Its place is taken: another process wrote to the file, or it is damaged.
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                damaged("a publication's place is taken")
            }
            _ => error,
        })?;
    Ok(())
}
