//! Looking at a file that nobody has open, and rescuing what can be read of it.

use crate::FILE;
use crate::error::{OpenError, sentence};
use crate::reader::publication;
use crate::rooms::{Room, signed, unsigned};
use crate::trim::WEIGHT;
use crate::{schema, store, writer};
use clarion_protocol::{Epoch, RoomName};
use rusqlite::{Connection, OpenFlags, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Findings that are listed; there may be more.
const FINDINGS_MAX: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Logs in the file.
    pub rooms: u64,
    /// Publications that they keep.
    pub publications: u64,
    /// What is wrong, a sentence each, at most 100; empty if nothing is.
    pub findings: Vec<String>,
}

/// Reads all of a file: SQLite's own check of its structure, and whether logs are without holes.
///
/// It changes nothing, and may be done while a server uses the file.
///
/// # Errors
/// If there is no file that can be read. What is wrong within it is in [`Checked::findings`].
pub fn check(dir: &Path) -> Result<Checked, OpenError> {
    let path = dir.join(FILE);
    let connection = open_to_read(&path)?;
    let mut checked = Checked::default();
    if let Err(error) = structure(&connection, &mut checked) {
        checked.findings.push(sentence(&error));
    }
    if checked.findings.is_empty()
        && let Err(error) = logs(&connection, &mut checked)
    {
        checked.findings.push(sentence(&error));
    }
    checked.findings.truncate(FINDINGS_MAX);
    Ok(checked)
}

/// Puts what can be read of a damaged file into a new one, and the old one aside, as
/// `clarion.db.damaged`; says where it is and what was rescued.
///
/// Logs keep their publications up to the first that cannot be read. As they may have lost their
/// ends, each gets a new epoch, made by `epoch`, so clients learn that there is a gap.
/// Idempotency keys, which are of an epoch, are not kept. Acknowledged offsets are, since places stay.
///
/// # Errors
/// If a server uses the directory, if there is such a file already, or if the new one cannot be written.
/// The old one is as it was then.
pub fn repair(
    dir: &Path,
    mut epoch: impl FnMut() -> Epoch,
) -> Result<(PathBuf, Checked), OpenError> {
    let _lock = store::lock(dir)?;
    let (path, aside) = (dir.join(FILE), dir.join("clarion.db.damaged"));
    let file = |error: std::io::Error| OpenError::file(&aside, &error);
    if aside.exists() {
        return Err(file(std::io::ErrorKind::AlreadyExists.into()));
    }
    let fresh_dir = dir.join("clarion.repair");
    if fresh_dir.exists() {
        std::fs::remove_dir_all(&fresh_dir).map_err(file)?;
    }
    std::fs::create_dir(&fresh_dir).map_err(file)?;
    let from = open_to_read(&path)?;
    schema::prepare(&fresh_dir, Duration::ZERO)?;
    let rescued = {
        let to = schema::connect(&fresh_dir, Duration::ZERO);
        let mut to = to.map_err(|error| OpenError::sqlite(&fresh_dir, &error))?;
        let rescued = rescue(&from, &mut to, &mut epoch);
        let rescued = rescued.map_err(|error| OpenError::sqlite(&fresh_dir, &error))?;
        to.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()))
            .map_err(|error| OpenError::sqlite(&fresh_dir, &error))?;
        rescued
    };
    drop(from);
    for end in ["-wal", "-shm"] {
        let (wal, aside) = (dir.join(format!("{FILE}{end}")), format!("{}{end}", aside.display()));
        if wal.exists() {
            std::fs::rename(wal, aside).map_err(file)?;
        }
    }
    std::fs::rename(&path, &aside).map_err(file)?;
    std::fs::rename(fresh_dir.join(FILE), &path).map_err(file)?;
    std::fs::remove_dir_all(&fresh_dir).map_err(file)?;
    std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(file)?;
    Ok((aside, rescued))
}

pub(crate) fn open_to_read(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        Ok(connection)
    };
    open().map_err(|error| OpenError::sqlite(path, &error))
}

fn structure(connection: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let sql = format!("PRAGMA integrity_check({FINDINGS_MAX})");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let finding: String = row.get(0)?;
        if finding != "ok" {
            checked.findings.push(finding);
        }
    }
    Ok(())
}

/// Whether each room's row agrees with its publications.
fn logs(connection: &Connection, checked: &mut Checked) -> rusqlite::Result<()> {
    let snapshot = connection.unchecked_transaction()?;
    let mut rooms =
        snapshot.prepare("SELECT id, epoch, head, first, floor, bytes, acked, name FROM rooms")?;
    let sql = format!(
        "SELECT count(*), ifnull(min(offset), 0), ifnull(max(offset), 0), ifnull(sum({WEIGHT}), 0)
         FROM publications WHERE room = ?1 AND offset >= ?2"
    );
    let mut kept = snapshot.prepare(&sql)?;
    let mut rows = rooms.query(())?;
    while let Some(row) = rows.next()? {
        let name = row.get_ref(7)?.as_str()?.to_owned();
        let room = match Room::from_row(row) {
            Ok(room) => room,
            Err(error) => {
                checked.findings.push(format!("room {name}: {}", sentence(&error)));
                continue;
            }
        };
        let (count, low, high, bytes) =
            kept.query_row(params![room.id, signed(room.first)], |row| {
                let number = |column| unsigned(row.get(column)?);
                Ok((number(0)?, number(1)?, number(2)?, number(3)?))
            })?;
        let expected = room.head + 1 - room.first;
        if count != expected || (count > 0 && (low, high) != (room.first, room.head)) {
            checked.findings.push(format!(
                "room {name}: offsets {} to {} should be there, and {count} from {low} to {high} are",
                room.first, room.head
            ));
        } else if bytes != room.bytes {
            checked.findings.push(format!(
                "room {name}: {} bytes should be there, and {bytes} are",
                room.bytes
            ));
        }
        checked.rooms += 1;
        checked.publications += count;
    }
    drop(rows);
    let strays: i64 = snapshot.query_row(
        "SELECT count(*) FROM publications WHERE room NOT IN (SELECT id FROM rooms)",
        (),
        |row| row.get(0),
    )?;
    if strays > 0 {
        checked.findings.push(format!("{strays} publications are of no room"));
    }
    Ok(())
}

/// Copies what can be read, each log up to where it cannot.
///
/// # Errors
/// Those of the new file only; the old one's are what it is about, and end up as findings.
fn rescue(
    from: &Connection,
    to: &mut Connection,
    epoch: &mut impl FnMut() -> Epoch,
) -> rusqlite::Result<Checked> {
    let mut rescued = Checked::default();
    let names =
        readable(from, "SELECT id, name, first FROM rooms ORDER BY id", &mut rescued, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, unsigned(row.get(2)?)?))
        });
    let transaction = to.transaction()?;
    for (id, name, first) in names {
        let Ok(name) = RoomName::parse(&name) else {
            rescued.findings.push(format!("a room's name is no name: {name:.60}"));
            continue;
        };
        let (age_ms, acked) = from
            .query_row("SELECT age_ms, acked FROM rooms WHERE id = ?1", params![id], |row| {
                Ok((unsigned(row.get(0)?)?, unsigned(row.get(1)?)?))
            })
            .unwrap_or((clarion_store::LogLimits::default().age_ms, 0));
        let mut room = match Room::create(&transaction, &name, &epoch()) {
            Ok(room) => room,
            // Damaged indices can show a room twice.
            Err(_) => continue,
        };
        (room.head, room.first, room.floor) = (first.saturating_sub(1), first.max(1), first.max(1));
        let sql = format!(
            "SELECT offset, time_ms, type, payload, sender, client, user, info, key
             FROM publications WHERE room = {id} AND offset >= {first} ORDER BY offset"
        );
        let publications = readable(from, &sql, &mut rescued, |row| {
            Ok((unsigned(row.get(0)?)?, publication(row)?))
        });
        let mut newest_ms = 0;
        for (offset, publication) in publications {
            if offset != room.head + 1 {
                rescued.findings.push(format!("room {name}: a hole before offset {offset}"));
                break;
            }
            room.head = offset;
            room.bytes += clarion_store::weight(&publication) as u64;
            newest_ms = publication.time_ms.max(newest_ms);
            writer::insert(&transaction, &room, &publication)?;
            rescued.publications += 1;
        }
        room.acked = acked.min(room.head);
        room.save(&transaction, Some(age_ms), newest_ms)?;
        rescued.rooms += 1;
    }
    if schema::has_revoked_at(from).unwrap_or_default() {
        let sql = "SELECT subject, at_ms, until_ms FROM revocations";
        let revocations = readable(from, sql, &mut rescued, |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let sql =
            "INSERT OR IGNORE INTO revocations (subject, at_ms, until_ms) VALUES (?1, ?2, ?3)";
        for revocation in revocations {
            transaction.execute(sql, revocation)?;
        }
    }
    if schema::has_groups(from).unwrap_or_default() {
        let members = readable(from, "SELECT name, user FROM groups", &mut rescued, |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        });
        for member in members {
            transaction.execute("INSERT OR IGNORE INTO groups VALUES (?1, ?2)", member)?;
        }
    }
    transaction.commit()?;
    rescued.findings.truncate(FINDINGS_MAX);
    Ok(rescued)
}

/// The rows up to the first that cannot be read.
fn readable<T>(
    from: &Connection,
    sql: &str,
    rescued: &mut Checked,
    read: impl Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    let mut all = || {
        let mut statement = from.prepare(sql)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(())
    };
    if let Err(error) = all() {
        let error: rusqlite::Error = error;
        rescued.findings.push(sentence(&error));
    }
    found
}
