//! Why a measurement ended without a figure.

use std::fmt;
use std::io;

use crate::sequence::Verdict;

/// Why a command failed, by whose fault it is.
#[derive(Debug)]
pub enum BenchError {
    /// The arguments ask for something that cannot be done; change them.
    Usage(String),
    /// A system call failed: suspect limits of this machine (descriptors, ports), or a server that
    /// is not there.
    Io {
        /// What was being done, as in "connecting to 127.0.0.1:8080".
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server refused, hung up or sent something that this protocol does not have.
    Server(String),
    /// The run came to its end, but not every answer was right. The figures were printed; they
    /// describe a server that loses messages.
    Wrong(Verdict),
    /// A goal of `compare --check` was missed.
    Missed(String),
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Server(text) => f.write_str(text),
            Self::Io { doing, source } => write!(f, "{doing}: {source}"),
            Self::Wrong(verdict) => write!(f, "the answers are wrong: {verdict}"),
            Self::Missed(goals) => write!(f, "goals missed: {goals}"),
        }
    }
}

impl std::error::Error for BenchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Usage(_) | Self::Server(_) | Self::Wrong(_) | Self::Missed(_) => None,
        }
    }
}

/// Adds what was being done to an [`io::Error`].
pub(crate) trait Doing<T> {
    /// Turns the error into [`BenchError::Io`].
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BenchError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, BenchError> {
        self.map_err(|source| BenchError::Io { doing: what(), source })
    }
}
