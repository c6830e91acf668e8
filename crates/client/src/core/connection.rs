//! One WebSocket from its opening to its end: `$hello`, `$welcome`, heartbeat.

use clarion_protocol::close;

use super::codec::{self, Incoming, Metadata, Welcome};
use super::codes::{ABNORMAL, close_reason};
use super::commands::ConnId;
use super::errors::Refused;
use super::heartbeat::{Advice, Heartbeat};
use super::options::Options;

/// How a connection ended, as its owner needs it to decide what comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) retry_after_ms: u64,
    /// What the server said of it before.
    pub(super) refused: Option<Box<Refused>>,
}

/// What a message, or the passing of time, means for the owner.
pub(super) enum Step<'a> {
    Nothing,
    Send(String),
    Welcomed(Box<Welcome>),
    Incoming(Incoming<'a>),
    Malformed(String),
    /// Given up without waiting for its closing handshake.
    Dropped(End),
}

const HELLO_ID: u64 = 0;
const HEARTBEAT_MS: u64 = 25_000;

/// One connection. It never comes back; each try is a new one.
pub(super) struct Connection {
    pub(super) id: ConnId,
    heartbeat: Option<Heartbeat>,
    heartbeat_timeout_ms: u64,
    last_error: Option<Box<Refused>>,
    deadline_ms: u64,
}

impl Connection {
    pub(super) fn new(id: ConnId, options: &Options, now_ms: u64) -> Self {
        Self {
            id,
            heartbeat: None,
            heartbeat_timeout_ms: options.heartbeat_timeout_ms,
            last_error: None,
            deadline_ms: now_ms.saturating_add(options.connect_timeout_ms),
        }
    }

    pub(super) fn next_deadline_ms(&self) -> u64 {
        self.deadline_ms
    }

    pub(super) fn hello(payload: &str) -> String {
        codec::encode("$hello", payload, Metadata { id: Some(HELLO_ID), ..Metadata::default() })
    }

    /// Something came, be it only a Ping.
    pub(super) fn heard(&mut self, now_ms: u64) {
        if let Some(heartbeat) = &mut self.heartbeat {
            heartbeat.heard(now_ms);
        }
    }

    pub(super) fn on_text<'a>(&mut self, text: &'a str, now_ms: u64) -> Step<'a> {
        self.heard(now_ms);
        let incoming = match codec::decode(text) {
            Ok(incoming) => incoming,
            Err(error) => return Step::Malformed(error.to_string()),
        };
        match incoming {
            Incoming::Error { refused, .. } if refused.close.is_some() => {
                self.last_error = Some(refused);
                Step::Nothing
            }
            incoming if self.heartbeat.is_some() => Step::Incoming(incoming),
            Incoming::Welcome(welcome) => {
                let interval_ms = welcome.heartbeat_ms.filter(|ms| *ms > 0).unwrap_or(HEARTBEAT_MS);
                let mut heartbeat = Heartbeat::new(interval_ms, self.heartbeat_timeout_ms, now_ms);
                if let Advice::Wait { until_ms } = heartbeat.advice(now_ms) {
                    self.deadline_ms = until_ms;
                }
                self.heartbeat = Some(heartbeat);
                Step::Welcomed(welcome)
            }
            // The server answers a `$hello` it cannot use; the close frame follows.
            Incoming::Error { refused, .. } => {
                self.last_error = Some(refused);
                Step::Nothing
            }
            _ => Step::Nothing,
        }
    }

    pub(super) fn on_tick(&mut self, now_ms: u64) -> Step<'static> {
        if now_ms < self.deadline_ms {
            return Step::Nothing;
        }
        match &mut self.heartbeat {
            Some(heartbeat) => {
                let advice = heartbeat.advice(now_ms);
                self.follow(advice)
            }
            None => dropped("connect_timeout".to_owned()),
        }
    }

    /// The world changed: find out now whether this connection survived.
    pub(super) fn probe(&mut self, now_ms: u64) -> Step<'static> {
        match &mut self.heartbeat {
            Some(heartbeat) => {
                let advice = heartbeat.ping(now_ms);
                self.follow(advice)
            }
            None => Step::Nothing,
        }
    }

    /// The socket closed with `code`, or broke.
    pub(super) fn ended(self, code: u16, reason: String, retry_after_ms: Option<u64>) -> End {
        let refused = self.last_error;
        // Where the close frame was lost, the error that announced it still tells the policy.
        let announced = refused.as_ref().and_then(|error| error.close);
        let code = announced.filter(|_| code == ABNORMAL).unwrap_or(code);
        let after_ms = refused.as_ref().and_then(|error| error.retry_after_ms).or(retry_after_ms);
        let reason = match &refused {
            Some(error) => error.name.clone(),
            None if reason.is_empty() => close_reason(code),
            None => reason,
        };
        End { code, reason, retry_after_ms: after_ms.unwrap_or(0), refused }
    }

    fn follow(&mut self, advice: Advice) -> Step<'static> {
        match advice {
            Advice::Drop => dropped(close_reason(close::HEARTBEAT_MISSED)),
            Advice::Ping { until_ms } => {
                self.deadline_ms = until_ms;
                Step::Send(codec::encode("$ping", "null", Metadata::default()))
            }
            Advice::Wait { until_ms } => {
                self.deadline_ms = until_ms;
                Step::Nothing
            }
        }
    }
}

fn dropped(reason: String) -> Step<'static> {
    Step::Dropped(End { code: ABNORMAL, reason, retry_after_ms: 0, refused: None })
}
