//! Why a store could not be opened, in sentences for whoever starts a server.

use rusqlite::ErrorCode;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a store could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The file or its directory cannot be made, read or written, as the operating system says.
    File {
        /// Which.
        path: PathBuf,
        /// What it says.
        what: String,
    },
    /// Another process has the store.
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Another process is writing to the file and does not end.
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a newer server.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that is known here.
        known: i64,
    },
    /// The file is a database, but not one of ours.
    Stranger {
        /// The file.
        path: PathBuf,
    },
    /// The file is a backup, which lacks what came after it.
    Backup {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        what: String,
    },
}

impl OpenError {
    pub(crate) fn file(path: &Path, error: &std::io::Error) -> Self {
        Self::File { path: path.into(), what: error.to_string() }
    }

    pub(crate) fn sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked { path },
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => Self::File { path, what: sentence(error) },
            _ => Self::Corrupt { path, what: sentence(error) },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, what } => {
                write!(f, "{} cannot be used: {what}", path.display())
            }
            Self::InUse { path } => write!(
                f,
                "{} is in use by another server; a data directory belongs to one",
                path.display()
            ),
            Self::Locked { path } => write!(
                f,
                "{} is locked by another process that writes to it; end that one first",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "{} was written by a newer version of clarion (schema {found}, known here is \
                 {known}); use that version, or another data directory",
                path.display()
            ),
            Self::Stranger { path } => {
                write!(f, "{} is a database, but not one of clarion's", path.display())
            }
            Self::Backup { path } => write!(
                f,
                "{} is a backup; `clarion store check --repair` makes a store of it, whose rooms have \
                 new epochs, since what came after it is lost",
                path.display()
            ),
            Self::Corrupt { path, what } => write!(
                f,
                "{} is damaged ({what}); `clarion store check` shows what is wrong, and \
                 `clarion store check --repair` keeps what can still be read",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// What SQLite says, short.
pub(crate) fn sentence(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(message)) => {
            format!("{message} (SQLite {})", code.extended_code)
        }
        rusqlite::Error::SqliteFailure(code, None) => format!("{code}"),
        other => other.to_string(),
    }
}

/// What is in the file contradicts itself, though SQLite could read it.
pub(crate) fn damaged(what: &str) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error { code: ErrorCode::DatabaseCorrupt, extended_code: 11 },
        Some(what.into()),
    )
}
