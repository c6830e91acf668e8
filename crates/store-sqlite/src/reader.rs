//! What only reads: opens, ranges, and the list of revocations.

use crate::error::damaged;
use crate::rooms::{Room, signed, unsigned};
use bytes::Bytes;
use clarion_protocol::{ClientId, Epoch, Offset, Publication, RoomName, Sender};
use clarion_store::{
    Completion, Groups, Page, Range, Request, Revocation, Revocations, Standing, StoreError, weight,
};
use rusqlite::{Connection, Row, params};
use std::sync::Arc;

/// The epoch of a log that is not there, which is the same after a restart: whoever was told of it has
/// missed nothing.
fn absent_epoch(connection: &Connection) -> rusqlite::Result<Epoch> {
    connection.prepare_cached("SELECT epoch FROM absent")?.query_row((), |row| {
        Epoch::new(row.get_ref(0)?.as_str()?).ok_or_else(|| damaged("an epoch is no epoch"))
    })
}

/// Answers what reads, from one snapshot each.
///
/// # Errors
/// What SQLite says. Nothing was changed, and the completion is `Unavailable`.
pub(crate) fn answer(
    connection: &Connection,
    request: &Request,
    now_ms: u64,
) -> rusqlite::Result<Completion> {
    // A room's row and its publications are of one moment.
    let snapshot = connection.unchecked_transaction()?;
    let completion = match request {
        Request::Open { token, room, .. } => {
            let standing = match Room::load(&snapshot, room)? {
                Some(room) => room.standing(),
                None => Standing::absent(absent_epoch(&snapshot)?),
            };
            Completion::Opened { token: *token, result: Ok(standing) }
        }
        Request::Read { token, room, range, limit, bytes, age_ms, fresh } => {
            let wanted = Wanted { range: *range, limit: *limit as usize, bytes: *bytes };
            let oldest_ms = now_ms.saturating_sub(*age_ms);
            let result = match (page(&snapshot, room, &wanted, oldest_ms)?, fresh) {
                (Some(page), _) => Ok(page),
                (None, Some(fresh)) => {
                    let standing = Standing::absent(fresh.clone());
                    Ok(Page { standing, publications: Vec::new(), more: false })
                }
                (None, None) => Err(StoreError::Unavailable),
            };
            Completion::Read { token: *token, result }
        }
        Request::Revocations { token, after, limit } => {
            let result = Ok(revocations(&snapshot, after.as_deref(), *limit as usize, now_ms)?);
            Completion::Revocations { token: *token, result }
        }
        Request::Groups { token, after, limit } => {
            let after = after.as_ref().map(|(group, user)| (&**group, &**user));
            let result = Ok(groups(&snapshot, after, *limit as usize)?);
            Completion::Groups { token: *token, result }
        }
        Request::Append { .. }
        | Request::Ack { .. }
        | Request::Revoke { .. }
        | Request::Group { .. } => request.refuse(StoreError::Unavailable),
    };
    snapshot.commit()?;
    Ok(completion)
}

struct Wanted {
    range: Range,
    limit: usize,
    bytes: usize,
}

fn page(
    connection: &Connection,
    name: &RoomName,
    wanted: &Wanted,
    oldest_ms: u64,
) -> rusqlite::Result<Option<Page>> {
    let Some(room) = Room::load(connection, name)? else { return Ok(None) };
    let first = first_kept(connection, &room, oldest_ms)?;
    // Both ends included; empty if they cross.
    let (low, high) = match wanted.range {
        Range::After(after) => (first.max(after.saturating_add(1)), room.head),
        Range::Before(before) => (first, room.head.min(before.saturating_sub(1))),
    };
    let total = (high + 1).saturating_sub(low);
    let standing = Standing { first, ..room.standing() };
    let publications = match total.min(wanted.limit as u64) {
        0 => Vec::new(),
        count => range(connection, room.id, wanted, (low, high), count)?,
    };
    let more = (publications.len() as u64) < total;
    Ok(Some(Page { standing, publications, more }))
}

/// Where the log begins if what is too old is not counted.
fn first_kept(connection: &Connection, room: &Room, oldest_ms: u64) -> rusqlite::Result<Offset> {
    let mut statement = connection.prepare_cached(
        "SELECT offset FROM publications WHERE room = ?1 AND offset >= ?2 AND time_ms >= ?3
         ORDER BY offset LIMIT 1",
    )?;
    let mut rows = statement.query(params![room.id, signed(room.first), signed(oldest_ms)])?;
    match rows.next()? {
        Some(row) => unsigned(row.get(0)?),
        None => Ok(room.head + 1),
    }
}

/// `count` publications from the end where the range begins, fewer if they are too many bytes.
fn range(
    connection: &Connection,
    room: i64,
    wanted: &Wanted,
    (low, high): (Offset, Offset),
    count: u64,
) -> rusqlite::Result<Vec<(Offset, Arc<Publication>)>> {
    let (low, high) = match wanted.range {
        Range::After(_) => (low, low + count - 1),
        Range::Before(_) => (high + 1 - count, high),
    };
    let sql = match wanted.range {
        Range::After(_) => {
            "SELECT offset, time_ms, type, payload, sender, client, user, info, key
             FROM publications WHERE room = ?1 AND offset BETWEEN ?2 AND ?3 ORDER BY offset"
        }
        Range::Before(_) => {
            "SELECT offset, time_ms, type, payload, sender, client, user, info, key
             FROM publications WHERE room = ?1 AND offset BETWEEN ?2 AND ?3 ORDER BY offset DESC"
        }
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![room, signed(low), signed(high)])?;
    let mut publications = Vec::with_capacity(count as usize);
    let mut budget = wanted.bytes;
    let mut full = false;
    while let Some(row) = rows.next()? {
        let taken = publications.len() as u64;
        let expected = match wanted.range {
            Range::After(_) => low + taken,
            Range::Before(_) => high - taken,
        };
        if unsigned(row.get(0)?)? != expected {
            return Err(damaged("a publication is missing"));
        }
        let publication = publication(row)?;
        let bytes = weight(&publication);
        if bytes > budget && taken > 0 {
            full = true;
            break;
        }
        budget = budget.saturating_sub(bytes);
        publications.push((expected, Arc::new(publication)));
    }
    if !full && (publications.len() as u64) < count {
        return Err(damaged("a publication is missing"));
    }
    if matches!(wanted.range, Range::Before(_)) {
        publications.reverse();
    }
    Ok(publications)
}

/// A row of offset, time, type, payload, sender, client, user, info and key.
pub(crate) fn publication(row: &Row<'_>) -> rusqlite::Result<Publication> {
    let text = |column| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
    let from = match row.get::<_, i64>(4)? {
        0 => None,
        _ => {
            let client = match row.get_ref(5)?.as_blob_or_null()? {
                None => None,
                Some(id) => {
                    let id = id.try_into().map_err(|_| damaged("a client id is no client id"))?;
                    Some(ClientId(id))
                }
            };
            let (user, info) = (text(6)?.map(Into::into), text(7)?.map(Into::into));
            Some(Arc::new(Sender { client, user, info }))
        }
    };
    Ok(Publication {
        kind: row.get_ref(2)?.as_str()?.into(),
        payload: Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?),
        time_ms: unsigned(row.get(1)?)?,
        from,
        key: text(8)?.map(Into::into),
    })
}

fn revocations(
    connection: &Connection,
    after: Option<&str>,
    limit: usize,
    now_ms: u64,
) -> rusqlite::Result<Revocations> {
    let mut statement = connection.prepare_cached(
        "SELECT subject, at_ms, until_ms FROM revocations
         WHERE (?1 IS NULL OR subject > ?1) AND until_ms > ?2 ORDER BY subject LIMIT ?3",
    )?;
    let mut rows = statement.query(params![after, signed(now_ms), signed(limit as u64 + 1)])?;
    let mut revocations = Vec::new();
    while let Some(row) = rows.next()? {
        if revocations.len() == limit {
            return Ok(Revocations { revocations, more: true });
        }
        let subject = row.get_ref(0)?.as_str()?.into();
        let (at_ms, until_ms) = (unsigned(row.get(1)?)?, unsigned(row.get(2)?)?);
        revocations.push(Revocation { subject, at_ms, until_ms });
    }
    Ok(Revocations { revocations, more: false })
}

fn groups(
    connection: &Connection,
    after: Option<(&str, &str)>,
    limit: usize,
) -> rusqlite::Result<Groups> {
    // No group has an empty name.
    let (group, user) = after.unwrap_or_default();
    let mut statement = connection.prepare_cached(
        "SELECT name, user FROM groups WHERE (name, user) > (?1, ?2) ORDER BY name, user LIMIT ?3",
    )?;
    let rows = statement.query_map(params![group, user, signed(limit as u64 + 1)], |row| {
        Ok((row.get_ref(0)?.as_str()?.into(), row.get_ref(1)?.as_str()?.into()))
    })?;
    let mut members: Vec<_> = rows.collect::<Result<_, _>>()?;
    let more = members.len() > limit;
    members.truncate(limit);
    Ok(Groups { members, more })
}
