//! Which publications a log no longer keeps.
//!
//! Where a log begins is a number in its row, exact after each batch. What lies below it is deleted a
//! few at a time: a publication deleted with every one appended would cost a second page in each
//! batch.

use crate::rooms::{Room, signed, unsigned};
use clarion_store::LogLimits;
use rusqlite::{Connection, params};

/// At most so many trimmed publications of a room await their deletion.
const DELETED_LATER_MAX: u64 = 64;

/// What a publication counts for, in SQL: as [`clarion_store::weight`] does.
pub(crate) const WEIGHT: &str = "(length(CAST(type AS BLOB)) + length(payload)
    + ifnull(length(CAST(info AS BLOB)), 0))";

/// Moves the beginning of a log to where its limits have it, and deletes what has piled up below.
pub(crate) fn trim(
    connection: &Connection,
    room: &mut Room,
    limits: &LogLimits,
    now_ms: u64,
) -> rusqlite::Result<()> {
    move_first(connection, room, limits, now_ms)?;
    let kept = room.head + 1 - room.first;
    if room.first - room.floor > (kept / 8).min(DELETED_LATER_MAX) {
        connection
            .prepare_cached("DELETE FROM publications WHERE room = ?1 AND offset < ?2")?
            .execute(params![room.id, signed(room.first)])?;
        room.floor = room.first;
        room.changed = true;
    }
    Ok(())
}

fn move_first(
    connection: &Connection,
    room: &mut Room,
    limits: &LogLimits,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let must_go = |room: &Room, time_ms: u64| {
        room.head + 1 - room.first > u64::from(limits.size)
            || room.bytes > limits.bytes as u64
            || time_ms.saturating_add(limits.age_ms) < now_ms
    };
    if room.first > room.head {
        return Ok(());
    }
    if let Some((offset, time_ms)) = room.oldest
        && offset == room.first
        && !must_go(room, time_ms)
    {
        return Ok(());
    }
    let sql = format!(
        "SELECT offset, time_ms, {WEIGHT} FROM publications WHERE room = ?1 AND offset >= ?2
         ORDER BY offset"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params![room.id, signed(room.first)])?;
    room.oldest = None;
    while let Some(row) = rows.next()? {
        let (offset, time_ms) = (unsigned(row.get(0)?)?, unsigned(row.get(1)?)?);
        // If rows are missing, which damage alone can bring about, the log begins above them.
        room.changed |= room.first != offset;
        room.first = offset;
        if offset > room.head {
            return Err(crate::error::damaged("a publication is above its log's head"));
        }
        if !must_go(room, time_ms) {
            room.oldest = Some((offset, time_ms));
            return Ok(());
        }
        room.first = offset + 1;
        room.bytes = room.bytes.saturating_sub(unsigned(row.get(2)?)?);
        room.changed = true;
    }
    // Nothing is left.
    room.first = room.head + 1;
    room.bytes = 0;
    Ok(())
}
