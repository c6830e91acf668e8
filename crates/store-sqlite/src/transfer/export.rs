//! A store as lines, from one moment.

use super::TransferError;
use super::lines::{
    FromLine, GroupLine, Head, KeyLine, Line, PublicationLine, RevocationLine, RoomLine,
    Transferred, VERSION, json,
};
use crate::check::open_to_read;
use crate::error::{OpenError, damaged};
use crate::reader::publication;
use crate::rooms::{Room, signed, unsigned};
use crate::{FILE, schema};
use clarion_protocol::Publication;
use rusqlite::{Connection, Params, Row, params};
use std::io::Write;
use std::path::Path;

/// Writes everything that a store keeps, as it is at one moment, a line for each thing.
///
/// It may be done while a server uses the store, which then keeps its write-ahead log until it is done.
/// `now_ms` is written into the first line.
///
/// # Errors
/// If the store cannot be read, or the lines cannot be written; they are worth nothing then, as
/// [`import`](super::import()) will say.
pub fn export(dir: &Path, to: impl Write, now_ms: u64) -> Result<Transferred, TransferError> {
    let path = dir.join(FILE);
    let connection = open_to_read(&path)?;
    schema::check_readable(&connection, &path)?;
    let mut out = Out { to, done: Transferred::default() };
    let result = everything(&connection, &mut out, now_ms);
    result.map_err(|stopped| match stopped {
        Stopped::Read(error) => OpenError::sqlite(&path, &error).into(),
        Stopped::Write(error) => TransferError::Io(error),
    })?;
    out.to.flush()?;
    Ok(out.done)
}

/// Which side failed.
enum Stopped {
    Read(rusqlite::Error),
    Write(std::io::Error),
}

impl From<rusqlite::Error> for Stopped {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error)
    }
}

struct Out<W> {
    to: W,
    done: Transferred,
}

impl<W: Write> Out<W> {
    fn line(&mut self, line: &Line) -> Result<(), Stopped> {
        let mut text = serde_json::to_vec(line).map_err(|e| Stopped::Write(e.into()))?;
        text.push(b'\n');
        self.to.write_all(&text).map_err(Stopped::Write)
    }
}

fn everything<W: Write>(
    connection: &Connection,
    out: &mut Out<W>,
    now_ms: u64,
) -> Result<(), Stopped> {
    let snapshot = connection.unchecked_transaction()?;
    out.line(&Line::Export(Head { version: VERSION, time_ms: now_ms }))?;
    let mut rooms = snapshot.prepare(
        "SELECT id, epoch, head, first, floor, bytes, acked, name, age_ms, touched_ms
         FROM rooms ORDER BY name",
    )?;
    let mut rows = rooms.query(())?;
    while let Some(row) = rows.next()? {
        let room = Room::from_row(row)?;
        out.line(&Line::Room(RoomLine {
            name: row.get(7)?,
            epoch: room.epoch.as_str().to_owned(),
            head: room.head,
            first: room.first,
            acked: room.acked,
            age_ms: unsigned(row.get(8)?)?,
            touched_ms: unsigned(row.get(9)?)?,
        }))?;
        out.done.rooms += 1;
        publications(&snapshot, &room, out)?;
        keys(&snapshot, &room, out)?;
    }
    if schema::has_revoked_at(&snapshot)? {
        let sql = "SELECT subject, at_ms, until_ms FROM revocations ORDER BY subject";
        rows_of(&snapshot, sql, (), |row| {
            let (at_ms, until_ms) = (unsigned(row.get(1)?)?, unsigned(row.get(2)?)?);
            out.done.revocations += 1;
            out.line(&Line::Revocation(RevocationLine { subject: row.get(0)?, at_ms, until_ms }))
        })?;
    }
    if schema::has_groups(&snapshot)? {
        rows_of(&snapshot, "SELECT name, user FROM groups ORDER BY name, user", (), |row| {
            out.done.groups += 1;
            out.line(&Line::Group(GroupLine { name: row.get(0)?, user: row.get(1)? }))
        })?;
    }
    out.line(&Line::End(out.done))
}

fn publications<W: Write>(
    connection: &Connection,
    room: &Room,
    out: &mut Out<W>,
) -> Result<(), Stopped> {
    let sql = "SELECT offset, time_ms, type, payload, sender, client, user, info, key
         FROM publications WHERE room = ?1 AND offset >= ?2 ORDER BY offset";
    let mut expected = room.first;
    rows_of(connection, sql, params![room.id, signed(room.first)], |row| {
        let offset = unsigned(row.get(0)?)?;
        if offset != expected {
            return Err(damaged("a publication is missing").into());
        }
        expected += 1;
        out.done.publications += 1;
        out.line(&Line::Publication(line_of(offset, publication(row)?)?))
    })?;
    if expected == room.head + 1 { Ok(()) } else { Err(damaged("a publication is missing").into()) }
}

fn line_of(offset: u64, publication: Publication) -> Result<PublicationLine, Stopped> {
    let text = std::str::from_utf8(&publication.payload);
    let (payload, payload_text) = json(text.map_err(|_| damaged("a payload is no text"))?);
    let from = publication.from.map(|from| {
        let (info, info_text) = from.info.as_deref().map(json).unwrap_or_default();
        let client = from.client.map(|client| client.to_string());
        let user = from.user.as_deref().map(str::to_owned);
        FromLine { client, user, info, info_text }
    });
    Ok(PublicationLine {
        offset,
        time_ms: publication.time_ms,
        r#type: publication.kind.to_string(),
        payload,
        payload_text,
        from,
        key: publication.key.map(|key| key.to_string()),
    })
}

fn keys<W: Write>(connection: &Connection, room: &Room, out: &mut Out<W>) -> Result<(), Stopped> {
    let sql = "SELECT principal, key, offset, time_ms, expires_ms FROM keys WHERE room = ?1
         ORDER BY principal, key";
    rows_of(connection, sql, params![room.id], |row| {
        let line = KeyLine {
            principal: row.get(0)?,
            key: row.get(1)?,
            offset: unsigned(row.get(2)?)?,
            time_ms: unsigned(row.get(3)?)?,
            expires_ms: unsigned(row.get(4)?)?,
        };
        out.done.keys += 1;
        out.line(&Line::Key(line))
    })
}

/// Calls `each` for every row of a query.
fn rows_of(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    mut each: impl FnMut(&Row<'_>) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    while let Some(row) = rows.next()? {
        each(row)?;
    }
    Ok(())
}
