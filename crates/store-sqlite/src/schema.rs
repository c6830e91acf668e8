//! The file: its tables, how a connection to it is set up, and how older files are brought up to date.
//!
//! A migration is a text in [`MIGRATIONS`] that is never changed again; `user_version` counts those that
//! a file has had. A file with a higher number than we know is of a newer server, and is refused.

use crate::FILE;
use crate::error::OpenError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// "CLRN": this file is ours.
const APPLICATION_ID: i32 = 0x434c_524e;
/// "CLRB": a copy of one of ours, which is behind it.
const BACKUP_ID: i32 = 0x434c_5242;

/// Each brings a file from its index to the next version.
const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE rooms (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        epoch TEXT NOT NULL,
        -- Offset of the newest publication ever appended.
        head INTEGER NOT NULL,
        -- Offset of the oldest publication kept; head + 1 if none is.
        first INTEGER NOT NULL,
        -- What lies below first and at or above this is trimmed, and deleted a few at a time.
        floor INTEGER NOT NULL,
        -- Bytes of type, payload and sender from first to head.
        bytes INTEGER NOT NULL,
        acked INTEGER NOT NULL,
        -- The age limit, milliseconds, and when the last append came, Unix milliseconds.
        age_ms INTEGER NOT NULL,
        touched_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE publications (
        room INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        type TEXT NOT NULL,
        payload BLOB NOT NULL,
        -- Whether it has a sender; the three below may be null even so.
        sender INTEGER NOT NULL,
        client BLOB,
        user TEXT,
        info TEXT,
        key TEXT,
        PRIMARY KEY (room, offset)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE keys (
        room INTEGER NOT NULL,
        principal TEXT NOT NULL,
        key TEXT NOT NULL,
        offset INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        PRIMARY KEY (room, principal, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_expiry ON keys (expires_ms);
    CREATE TABLE revocations (
        subject TEXT PRIMARY KEY,
        until_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    -- Written to find out whether the file can be written.
    CREATE TABLE probe (id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL) STRICT;
",
    "
    -- Users whom the HTTP API put into groups.
    CREATE TABLE groups (
        name TEXT NOT NULL,
        user TEXT NOT NULL,
        PRIMARY KEY (name, user)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- When it was made; no server before this ever revoked anything.
    ALTER TABLE revocations ADD COLUMN at_ms INTEGER NOT NULL DEFAULT 0;
",
    "
    -- The epoch of all logs that are not there. No log that was forgotten had it: it changes with each.
    CREATE TABLE absent (epoch TEXT NOT NULL) STRICT;
    INSERT INTO absent VALUES (lower(hex(randomblob(8))));
",
];

/// Makes the file if there is none, readable by its owner only, and brings it up to date.
pub(crate) fn prepare(dir: &Path, busy: Duration) -> Result<(), OpenError> {
    let path = dir.join(FILE);
    // Made here, since SQLite would make it readable by everybody; what it makes beside it has the
    // same mode. It is never opened otherwise: closing it would give up SQLite's locks.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let tighten = || {
                let mut permissions = std::fs::metadata(&path)?.permissions();
                if permissions.mode() & 0o077 != 0 {
                    permissions.set_mode(0o600);
                    std::fs::set_permissions(&path, permissions)?;
                }
                Ok(())
            };
            tighten().map_err(|error| OpenError::file(&path, &error))?;
        }
        Err(error) => return Err(OpenError::file(&path, &error)),
    }
    let mut connection = connect(dir, busy).map_err(|error| OpenError::sqlite(&path, &error))?;
    migrate(&mut connection, &path)
}

/// A connection to a file that was prepared.
pub(crate) fn connect(dir: &Path, busy: Duration) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(FILE), flags)?;
    connection.busy_timeout(busy)?;
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", (), |row| row.get(0))?;
    if mode != "wal" {
        // Without it reads would wait for writes, and writes for reads.
        return Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error { code: ErrorCode::ReadOnly, extended_code: 8 },
            Some("the file cannot be put into WAL mode".into()),
        ));
    }
    connection.execute_batch(
        "PRAGMA synchronous=FULL; PRAGMA foreign_keys=OFF; PRAGMA trusted_schema=OFF;
         PRAGMA wal_autocheckpoint=0; PRAGMA cell_size_check=ON;",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// The version of a file's schema.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", (), |row| row.get(0))
}

fn application_id(connection: &Connection) -> rusqlite::Result<i32> {
    connection.query_row("PRAGMA application_id", (), |row| row.get(0))
}

/// Whether a file of an older server, which may be running, has groups already.
pub(crate) fn has_groups(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? >= 2)
}

/// Whether it is of a server that could revoke; what one of before has as revocations is nothing.
pub(crate) fn has_revoked_at(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? >= 3)
}

/// Whether what is in the file can be read here, a backup included; nothing is changed.
pub(crate) fn check_readable(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::sqlite(path, &error);
    if ![APPLICATION_ID, BACKUP_ID].contains(&application_id(connection).map_err(sqlite)?) {
        return Err(OpenError::Stranger { path: path.into() });
    }
    let (found, known) = (version(connection).map_err(sqlite)?, MIGRATIONS.len() as i64);
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    Ok(())
}

/// Makes sure that no server takes a copy for the store itself.
pub(crate) fn mark_as_backup(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", BACKUP_ID)
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |error| OpenError::sqlite(path, &error);
    let known = MIGRATIONS.len() as i64;
    let found = version(connection).map_err(sqlite)?;
    let owner = application_id(connection).map_err(sqlite)?;
    if owner == BACKUP_ID {
        return Err(OpenError::Backup { path: path.into() });
    }
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(sqlite)?;
    if owner != APPLICATION_ID && (tables > 0 || found > 0) {
        return Err(OpenError::Stranger { path: path.into() });
    }
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    if found < 0 {
        return Err(OpenError::Corrupt { path: path.into(), what: "bad schema version".into() });
    }
    if found == known {
        return Ok(());
    }
    let steps = connection.transaction().map_err(sqlite)?;
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        steps.execute_batch(migration).map_err(sqlite)?;
        steps.pragma_update(None, "user_version", index as i64 + 1).map_err(sqlite)?;
    }
    steps.pragma_update(None, "application_id", APPLICATION_ID).map_err(sqlite)?;
    steps.commit().map_err(sqlite)
}
