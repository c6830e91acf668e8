//! The task of one connection: bytes between the socket and the core.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use clarion_websocket::deflate::{Pool, Settings};
use clarion_websocket::{CloseCode, Connection, Event, Limits};
use tokio::time::{Instant, sleep_until};

use crate::builder::Config;
use crate::core::ConnId;
use crate::endpoint::Endpoint;
use crate::link::Link;
use crate::opening::{Failure, Opened, open};
use crate::shared::Shared;
use crate::stream::{Stream, Turn};

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 16 * 1024;
/// Messages are encoded while less than this waits to be written, in bytes.
const WRITE_BYTES: usize = 64 * 1024;
/// A peer whose pings we answer and who does not read the answers is not read from this many bytes
/// on.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;
/// How long it may take to send what is left and close.
const LINGER: Duration = Duration::from_secs(2);

/// Opens the connection and serves it to its end, or until the core has enough of it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    config: Arc<Config>,
    conn: ConnId,
    link: Arc<Link>,
    endpoint: Endpoint,
) {
    // Also when this task is aborted.
    let _forget = Forget { shared: &shared, conn };
    let opened = tokio::select! {
        opened = open(&endpoint, &config) => opened,
        () = ended(&link) => return,
    };
    match opened {
        Ok(opened) => {
            shared.with(|core, now| core.on_open(conn, now));
            let mut socket = Socket::new(&shared, &config, conn, &link, opened);
            match socket.serve().await {
                Ok(()) => socket.stream.goodbye().await,
                Err(failure) => failed(&shared, conn, failure),
            }
        }
        Err(failure) => failed(&shared, conn, failure),
    }
}

/// Tells the core that a connection could not be opened, or broke.
pub(crate) fn failed(shared: &Shared, conn: ConnId, failure: Failure) {
    let Failure { code, reason, why, retry_after_ms } = failure;
    shared.with(|core, now| {
        core.on_connect_error(conn, why, now);
        core.on_close(conn, code, reason, retry_after_ms, now);
    });
}

/// Waits until the core has enough of a connection that is not open yet.
async fn ended(link: &Link) {
    while link.ended().is_none() {
        link.changed().await;
    }
}

struct Forget<'a> {
    shared: &'a Shared,
    conn: ConnId,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.forget(self.conn);
    }
}

struct Socket<'a> {
    shared: &'a Shared,
    conn: ConnId,
    link: &'a Link,
    stream: Stream,
    connection: Connection,
    limits: Limits,
    settings: Settings,
    pool: Pool,
    input: Vec<u8>,
    /// Encoded, of which `written` bytes were taken by the stream.
    out: Vec<u8>,
    written: usize,
    /// Some of that may be in the stream still.
    unsent: bool,
}

impl<'a> Socket<'a> {
    fn new(
        shared: &'a Shared,
        config: &Config,
        conn: ConnId,
        link: &'a Link,
        Opened { stream, connection, rest }: Opened,
    ) -> Self {
        Self {
            shared,
            conn,
            link,
            stream,
            connection,
            limits: Limits { message_bytes: config.message_bytes_max, ..Limits::default() },
            settings: Settings::default(),
            pool: Pool::default(),
            input: rest,
            out: Vec::new(),
            written: 0,
            unsent: false,
        }
    }

    /// Serves until the connection is closed; an error is one that broke.
    async fn serve(&mut self) -> Result<(), Failure> {
        let mut linger: Option<Instant> = None;
        if !self.input.is_empty() {
            self.receive(self.input.len());
        }
        self.input.resize(READ_BYTES, 0);
        loop {
            self.encode();
            if self.connection.is_open()
                && let Some((code, reason)) = self.link.ended()
            {
                // The core closes with codes that may be sent, and cannot close twice.
                let _ = self.connection.close(
                    CloseCode::new(code).unwrap_or(CloseCode::NORMAL),
                    reason,
                    &mut self.out,
                );
            }
            // From the wish on, not from the frame: a peer that does not read never lets it through.
            if linger.is_none() && (self.link.is_ending() || !self.connection.is_open()) {
                linger = Some(Instant::now() + LINGER);
            }
            let unwritten = self.out.len() - self.written;
            let is_open = self.connection.is_open();
            tokio::select! {
                turn = self.stream.turn(
                    (unwritten < UNREAD_BYTES_MAX).then_some(&mut *self.input),
                    &self.out[self.written..],
                    &mut self.unsent,
                ) => {
                    if self.turned(turn)? {
                        return Ok(());
                    }
                }
                () = self.link.changed(), if is_open => {}
                () = sleep_until(linger.unwrap_or_else(Instant::now)), if linger.is_some() => {
                    return Ok(());
                }
            }
        }
    }

    /// Takes what the stream has done; true at the end of a connection that was closed.
    fn turned(&mut self, turn: Turn) -> Result<bool, Failure> {
        match turn.read {
            Some(Ok(0)) if !self.connection.is_closed() => return Err(hung_up()),
            Some(Err(error)) if !self.connection.is_closed() => {
                return Err(match error.kind() {
                    ErrorKind::UnexpectedEof => hung_up(),
                    _ => broken(error),
                });
            }
            // The handshake is done, and how the socket ends does not matter.
            Some(Ok(0) | Err(_)) => return Ok(true),
            Some(Ok(size)) => self.receive(size),
            None => {}
        }
        match turn.wrote {
            Some(Ok(size)) => self.wrote(size),
            Some(Err(error)) => return Err(broken(error)),
            None => {}
        }
        Ok(false)
    }

    /// Encodes what is to be sent, as far as it is to be written soon.
    fn encode(&mut self) {
        while self.connection.is_open() && self.out.len() - self.written < WRITE_BYTES {
            let Some((text, eased)) = self.link.take() else { return };
            // It was open a moment ago, and nobody else closes it.
            let sent = self.connection.send_text_with(
                &text,
                &self.settings,
                &mut self.pool,
                &mut self.out,
            );
            debug_assert_eq!(sent, Ok(()));
            if eased {
                self.shared.with(|core, now| core.on_congested(false, now));
            }
        }
    }

    fn wrote(&mut self, size: usize) {
        self.written += size;
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            // What a burst needed is not kept.
            self.out.shrink_to(WRITE_BYTES);
        }
    }

    /// Hands over what `size` bytes of input mean, under one lock.
    fn receive(&mut self, size: usize) {
        let Self { shared, conn, connection, limits, pool, input, out, .. } = self;
        let mut input = &mut input[..size];
        shared.with(|core, now| {
            core.on_heard(*conn, now);
            while let Some(event) = connection.receive_with(limits, pool, &mut input, out) {
                match event {
                    Event::Text(text) => core.on_text(*conn, text, now),
                    // No format of ours has them.
                    Event::Binary(_) | Event::Ping(_) | Event::Pong(_) => {}
                    Event::Closed { code, reason } => {
                        let code = code.unwrap_or(CloseCode::NO_STATUS).get();
                        core.on_close(*conn, code, reason, None, now);
                    }
                    Event::Failed(error) => {
                        let Failure { code, reason, .. } = Failure::new("protocol_error", "");
                        core.on_connect_error(
                            *conn,
                            format!("the server broke a rule: {error}"),
                            now,
                        );
                        core.on_close(*conn, code, reason, None, now);
                    }
                }
            }
        });
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn broken(error: std::io::Error) -> Failure {
    Failure::new("connection_lost", format!("the connection broke: {error}"))
}

fn hung_up() -> Failure {
    Failure::new("connection_lost", "the server hung up")
}
