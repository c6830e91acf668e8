//! How a client is made.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::core::{Core, Options, OutboxLimits, TokenError, TokenReason};
use crate::driver;
use crate::endpoint::{Endpoint, UrlError};
use crate::shared::Shared;
use crate::tls::{self, Trust};

/// Fetches a token from the application's back end.
pub(crate) type TokenProvider = Box<
    dyn Fn(TokenReason) -> Pin<Box<dyn Future<Output = Result<String, TokenError>> + Send>>
        + Send
        + Sync,
>;

/// What the tasks need to know.
pub(crate) struct Config {
    pub(crate) endpoint: Endpoint,
    pub(crate) compression: bool,
    pub(crate) message_bytes_max: usize,
    pub(crate) token_provider: Option<TokenProvider>,
    pub(crate) trust: Trust,
}

impl Config {
    /// Asks the application, which the core wants only where there is somebody to ask.
    pub(crate) async fn fetch_token(&self, reason: TokenReason) -> Result<String, TokenError> {
        match &self.token_provider {
            Some(provider) => provider(reason).await,
            None => Err(TokenError::Failed("there is no token provider".to_owned())),
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The address is wrong.
    Url(UrlError),
    /// What to trust holds no certificates; why.
    Trust(String),
    /// There is no tokio runtime to run in.
    NoRuntime,
    /// The operating system gives no random numbers.
    NoEntropy,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => error.fmt(f),
            Self::Trust(why) => write!(f, "certificates to trust: {why}"),
            Self::NoRuntime => f.write_str("there is no tokio runtime to run in"),
            Self::NoEntropy => f.write_str("the operating system gives no random numbers"),
        }
    }
}

impl std::error::Error for BuildError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Url(error) => Some(error),
            Self::Trust(_) | Self::NoRuntime | Self::NoEntropy => None,
        }
    }
}

/// Makes a [`Client`]. Every setting has a default.
#[must_use]
pub struct Builder {
    url: String,
    options: Options,
    compression: bool,
    message_bytes_max: usize,
    token_provider: Option<TokenProvider>,
    trusted: Vec<Vec<u8>>,
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        /// Larger than anything that a server sends by default: a page of history.
        const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
        Self {
            url,
            options: Options::default(),
            compression: true,
            message_bytes_max: MESSAGE_BYTES_MAX,
            token_provider: None,
            trusted: Vec::new(),
        }
    }

    /// Shown to the server. For tokens that expire use [`token_provider`](Self::token_provider).
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.options.token = Some(token.into());
        self
    }

    /// Fetches tokens: before the first connection, when one was refused or is over, and before it
    /// expires, which replaces it on the open connection.
    ///
    /// Whatever fails is tried again with backoff, except [`TokenError::Refused`]: the application
    /// knows that this user may not connect, and the client stops. Before connecting it may take
    /// as long as connecting may. It runs in a task of its own, which is aborted when another token
    /// is asked for or the last handle is dropped.
    pub fn token_provider<F, P>(mut self, provider: P) -> Self
    where
        P: Fn(TokenReason) -> F + Send + Sync + 'static,
        F: Future<Output = Result<String, TokenError>> + Send + 'static,
    {
        self.token_provider = Some(Box::new(move |reason| Box::pin(provider(reason))));
        self.options.can_fetch_token = true;
        self
    }

    /// How long a call may take. Default 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout_ms = ms(timeout);
        self
    }

    /// From the start of a try to the server's welcome. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout_ms = ms(timeout);
        self
    }

    /// How long the answer to a heartbeat may take. Default 10 s.
    pub fn heartbeat_timeout(mut self, timeout: Duration) -> Self {
        self.options.heartbeat_timeout_ms = ms(timeout);
        self
    }

    /// Upper bounds of the first wait before a try, and of every one. Default 500 ms and 20 s.
    /// Each wait is anywhere between nothing and its bound.
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.options.backoff_base_ms = ms(base);
        self.options.backoff_cap_ms = ms(cap);
        self
    }

    /// Bounds of the publications that wait for a connection. Default 100 of them, 256 KiB, 60 s.
    pub fn outbox(mut self, limits: OutboxLimits) -> Self {
        self.options.outbox = limits;
        self
    }

    /// Whether to acknowledge what was handled in `$user/<me>`: each publication there when the
    /// readers of all [events](crate::Room::events) ask for the one behind it. Default true; with
    /// false only [`Room::ack`](crate::Room::ack) does.
    pub fn auto_ack(mut self, auto_ack: bool) -> Self {
        self.options.auto_ack = auto_ack;
        self
    }

    /// Whether to offer compression to the server, which decides. Default true. It costs 350 KB of
    /// memory while it is used.
    pub fn compression(mut self, compression: bool) -> Self {
        self.compression = compression;
        self
    }

    /// The longest message of the server that is read, in bytes; one that is longer breaks the
    /// connection. Default 16 MiB.
    pub fn message_bytes_max(mut self, bytes: usize) -> Self {
        self.message_bytes_max = bytes;
        self
    }

    /// Also trusts the authorities whose certificates are in this text, in PEM, beside those that the
    /// operating system trusts: for a `wss://` server with a certificate of your own. It may be
    /// called again.
    pub fn trust(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trusted.push(pem.into());
        self
    }

    /// Name and version of the program for the server's operator, at most 64 bytes. Default
    /// `clarion-rust/` and this crate's version.
    pub fn sdk(mut self, name: impl Into<String>) -> Self {
        self.options.sdk = name.into();
        self
    }

    /// Makes a client that waits for [`Client::connect`].
    ///
    /// # Errors
    /// The address or what to trust is wrong, or this is not called within a tokio runtime.
    pub fn build(self) -> Result<Client, BuildError> {
        let endpoint = Endpoint::parse(&self.url).map_err(BuildError::Url)?;
        let mut trusted = Vec::new();
        for pem in &self.trusted {
            trusted.extend(tls::certificates(pem).map_err(BuildError::Trust)?);
        }
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| BuildError::NoEntropy)?;
        let shared = Shared::new(Core::new(self.options, seed));
        let config = Arc::new(Config {
            endpoint,
            compression: self.compression,
            message_bytes_max: self.message_bytes_max,
            token_provider: self.token_provider,
            trust: Trust::new(trusted),
        });
        runtime.spawn(driver::drive(shared.clone(), config));
        Ok(Client::new(shared))
    }

    /// Makes a client and starts connecting. It does not wait for the connection:
    /// [`Client::connected`] does.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn connect(self) -> Result<Client, BuildError> {
        let client = self.build()?;
        client.connect();
        Ok(client)
    }
}

impl fmt::Debug for Builder {
    /// Shows no token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).finish_non_exhaustive()
    }
}

pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
