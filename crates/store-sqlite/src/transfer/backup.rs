//! A copy of the file, from one moment.

use super::TransferError;
use crate::check::open_to_read;
use crate::error::OpenError;
use crate::{FILE, schema};
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Copies the file, as it is at one moment, to a new one that only its owner can read.
///
/// It may be done while a server uses the store: that one goes on, and keeps its write-ahead log until
/// it is done. The copy is marked as what it is. No server takes it as it is, since it has lost what
/// came after it; [`repair`](crate::repair) makes a store of it, under new epochs.
///
/// # Errors
/// If the store cannot be read, or the copy cannot be written, or there is something already.
pub fn backup(dir: &Path, to: &Path) -> Result<(), TransferError> {
    let path = dir.join(FILE);
    let connection = open_to_read(&path)?;
    schema::check_readable(&connection, &path)?;
    // Made here, so that nobody else can read it at any time; what is empty, SQLite takes as new.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let copied = copy(&connection, to).map_err(|error| OpenError::sqlite(to, &error).into());
    let done = copied.and_then(|()| {
        File::open(to)?.sync_all()?;
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok(File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?)
    });
    if done.is_err() {
        let _ = std::fs::remove_file(to);
    }
    done
}

fn copy(from: &Connection, to: &Path) -> rusqlite::Result<()> {
    // It writes, though not to the file it is about.
    from.pragma_update(None, "query_only", false)?;
    from.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(to, flags)?;
    schema::mark_as_backup(&copy)
}
