//! Everything that a store keeps, on its way elsewhere: as lines of JSON, or as a copy of the file.
//!
//! | module | |
//! |---|---|
//! | [`lines`] | what the lines are |
//! | [`export`] | a store as lines, also while a server uses it |
//! | [`import`] | lines as a store |
//! | [`backup`] | a copy of the file, also while a server uses it |

mod backup;
mod export;
mod import;
mod lines;

pub use backup::backup;
pub use export::export;
pub use import::{Epochs, import};
pub use lines::Transferred;

use crate::error::OpenError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why something could not be moved elsewhere.
#[derive(Debug)]
pub enum TransferError {
    /// The store cannot be read or made.
    Store(OpenError),
    /// What the lines are written to or read from, or the copy, as the operating system says.
    Io(io::Error),
    /// There is a store already where one should be made.
    Occupied {
        /// Its file.
        path: PathBuf,
    },
    /// A line is not what it should be.
    Line {
        /// Which, from 1.
        number: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Occupied { path } => {
                write!(
                    f,
                    "{} is there already; an import needs a directory without",
                    path.display()
                )
            }
            Self::Line { number, what } => write!(f, "line {number}: {what}"),
        }
    }
}

impl std::error::Error for TransferError {}

impl From<OpenError> for TransferError {
    fn from(error: OpenError) -> Self {
        Self::Store(error)
    }
}

impl From<io::Error> for TransferError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
