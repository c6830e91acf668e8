//! What can go wrong, whose fault it is, and whether to try again.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use clarion_protocol::{ErrorName, NameError, Position};

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The program that made the call, or whoever configured what it may do.
    Caller,
    /// The server, or a service behind it.
    Server,
    /// The way between. Nobody did anything wrong.
    Network,
}

/// Why a command failed.
///
/// [`name`](Self::name) is stable and is what a program compares.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The server refused it; or this client did, because the server would have.
    Refused(Box<Refused>),
    /// The server did not answer in time. Whether the command was carried out is unknown.
    Timeout,
    /// Something that came later made it meaningless: a `leave` during a `join`, for example.
    Aborted,
    /// The client is closed.
    Closed,
    /// There is no connection, and this does not wait for one.
    NotConnected,
    /// The connection was lost before the server answered. Whether the command was carried out is
    /// unknown.
    ConnectionLost,
    /// Too much is waiting for a connection already.
    QueueFull,
    /// The server's answer cannot be read.
    Malformed,
}

impl CommandError {
    /// A stable name: the server's (`forbidden`, `too_large`, …) or one of the SDKs' own.
    pub fn name(&self) -> &str {
        match self {
            Self::Refused(refused) => &refused.name,
            Self::Timeout => "timeout",
            Self::Aborted => "aborted",
            Self::Closed => "closed",
            Self::NotConnected => "not_connected",
            Self::ConnectionLost => "connection_lost",
            Self::QueueFull => "queue_full",
            Self::Malformed => "malformed",
        }
    }

    /// In the sense of HTTP's status codes.
    pub fn code(&self) -> u16 {
        match self {
            Self::Refused(refused) => refused.code,
            Self::Timeout => 408,
            Self::Aborted | Self::Closed => 499,
            Self::NotConnected | Self::ConnectionLost | Self::QueueFull => 503,
            Self::Malformed => 502,
        }
    }

    /// Whether the same call may be made again and can succeed. A publication is never doubled by
    /// that if it is published with the key of its [`PublishError`].
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.temporary,
            Self::Timeout | Self::NotConnected | Self::ConnectionLost | Self::QueueFull => true,
            Self::Aborted | Self::Closed | Self::Malformed => false,
        }
    }

    /// Who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Refused(refused) if refused.code >= 500 => Fault::Server,
            Self::Refused(_) | Self::Aborted | Self::Closed => Fault::Caller,
            Self::Malformed => Fault::Server,
            Self::Timeout | Self::NotConnected | Self::ConnectionLost | Self::QueueFull => {
                Fault::Network
            }
        }
    }

    /// Not to be tried again sooner.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refused) => refused.retry_after_ms.map(Duration::from_millis),
            _ => None,
        }
    }

    /// The room's name breaks `rule`.
    pub(crate) fn bad_room(rule: NameError) -> Self {
        Self::invalid(ErrorName::BadRoom, rule.message(), "metadata.room", rule.limit())
    }

    /// More than the server takes, which is `limit` bytes.
    pub(crate) fn too_large(limit: u64) -> Self {
        let rule = "larger than the server takes";
        Self::invalid(ErrorName::TooLarge, rule, "payload", Some(limit))
    }

    /// A command that is not worth sending.
    pub(crate) fn invalid(name: ErrorName, message: &str, field: &str, limit: Option<u64>) -> Self {
        Self::Refused(Box::new(Refused {
            code: name.code(),
            name: name.as_str().to_owned(),
            message: message.to_owned(),
            field: Some(field.to_owned()),
            limit,
            ..Refused::default()
        }))
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(refused) => return refused.fmt(f),
            Self::Timeout => "the server did not answer in time",
            Self::Aborted => "aborted by a later call",
            Self::Closed => "the client is closed",
            Self::NotConnected => "there is no connection",
            Self::ConnectionLost => "the connection was lost before the server answered",
            Self::QueueFull => "too much is waiting for a connection already",
            Self::Malformed => "the server's answer cannot be read",
        })
    }
}

impl Error for CommandError {}

/// What the server says about a failure: the payload of `$error`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// In the sense of HTTP's status codes.
    pub code: u16,
    /// Stable; what a program decides by. There may be names that this version does not know.
    pub name: String,
    /// A sentence for a developer.
    pub message: String,
    /// Which part of the command was wrong, as a path from the envelope: `metadata.room`.
    pub field: Option<String>,
    /// Which limit was passed, in the unit of what it limits.
    pub limit: Option<u64>,
    /// Whether the same command may be sent again and can succeed.
    pub temporary: bool,
    /// Not to be tried again sooner, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The connection is about to be closed with this code.
    pub close: Option<u16>,
    /// The type of the failed command, when it had no id.
    pub command: Option<String>,
    /// How many errors of this name were not sent since the last one that was.
    pub suppressed: Option<u64>,
    /// With `epoch_changed`: where the room is now.
    pub position: Option<Position>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, name, message, .. } = self;
        write!(f, "{name} ({code})")?;
        if !message.is_empty() {
            write!(f, ": {message}")?;
        }
        match (&self.field, self.limit) {
            (Some(field), Some(limit)) => write!(f, " [{field}, limit {limit}]"),
            (Some(field), None) => write!(f, " [{field}]"),
            (None, Some(limit)) => write!(f, " [limit {limit}]"),
            (None, None) => Ok(()),
        }
    }
}

impl Error for Refused {}

/// Why a publication failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishError {
    /// Why.
    pub error: CommandError,
    /// The idempotency key that it had: publish again with it and it is never doubled.
    pub key: Option<String>,
}

impl PublishError {
    pub(crate) fn new(error: CommandError, key: Option<String>) -> Self {
        Self { error, key }
    }

    /// Whether the same publication may be tried again and can succeed.
    pub fn is_temporary(&self) -> bool {
        self.error.is_temporary()
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for PublishError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Something went wrong that no call reports. The client goes on, or its status says that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientError {
    /// The server said what cannot be read; it was skipped. The text is the parser's, not the
    /// server's.
    Malformed(String),
    /// A token could not be fetched.
    Token(String),
    /// A connection could not be opened: the reason for people; programs look at the status.
    Connect(String),
    /// The server complains about something that nobody waits for an answer to, or says why it closes
    /// for good.
    Refused(Box<Refused>),
    /// The token could not be replaced on the open connection.
    Refresh(CommandError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "the server's message cannot be read: {why}"),
            Self::Token(why) => write!(f, "no token: {why}"),
            Self::Connect(why) => write!(f, "no connection: {why}"),
            Self::Refused(refused) => refused.fmt(f),
            Self::Refresh(error) => write!(f, "the token was not replaced: {error}"),
        }
    }
}

impl Error for ClientError {}
