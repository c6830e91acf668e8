//! A client, its time, and every message that it sent: both ends in one thread.
#![expect(clippy::needless_pass_by_value, reason = "tests hand over what `json!` made")]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use clarion_client::core::codec::{Gap, Json, Publication};
use clarion_client::core::{
    CallId, ClientError, ClientEvent, ClientState, CommandError, ConnId, Core, FetchId,
    JoinOptions, Now, Options, Outcome, Output, PublishError, PublishOptions, RoomEvent, RoomState,
    StateEvent, TokenReason,
};
use serde_json::{Value, json};

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ended {
    Well(Outcome),
    Badly(CommandError),
    Unpublished(PublishError),
}

impl Ended {
    pub(crate) fn error_name(&self) -> &str {
        match self {
            Self::Well(_) => "",
            Self::Badly(error) => error.name(),
            Self::Unpublished(error) => error.error.name(),
        }
    }
}

pub(crate) struct World {
    pub(crate) core: Core,
    pub(crate) now: Now,
    /// The newest socket, and where it went if not to the usual place.
    pub(crate) conn: Option<ConnId>,
    pub(crate) url: Option<String>,
    pub(crate) sockets: usize,
    /// What the client sent on it and nobody looked at.
    pub(crate) sent: VecDeque<Value>,
    /// How the client closed it.
    pub(crate) closed: Option<(u16, String)>,
    pub(crate) ended: BTreeMap<CallId, Ended>,
    pub(crate) states: Vec<StateEvent<ClientState>>,
    pub(crate) errors: Vec<ClientError>,
    pub(crate) new_rooms: Vec<String>,
    pub(crate) events: Vec<(String, RoomEvent)>,
    pub(crate) fetches: Vec<(FetchId, TokenReason)>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        Self::seeded(options, [7; 32])
    }

    pub(crate) fn seeded(options: Options, seed: [u8; 32]) -> Self {
        Self {
            core: Core::new(options, seed),
            now: Now { mono_ms: 1_000, wall_ms: 1_767_225_600_000 },
            conn: None,
            url: None,
            sockets: 0,
            sent: VecDeque::new(),
            closed: None,
            ended: BTreeMap::new(),
            states: Vec::new(),
            errors: Vec::new(),
            new_rooms: Vec::new(),
            events: Vec::new(),
            fetches: Vec::new(),
        }
    }

    /// Does what the core wants done. To be called after each call of it.
    pub(crate) fn settle(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Open { conn, url } => {
                    self.conn = Some(conn);
                    self.url = url;
                    self.sockets += 1;
                    self.sent.clear();
                    self.closed = None;
                }
                Output::Send { conn, text } => {
                    assert_eq!(Some(conn), self.conn, "sent on an old connection: {text}");
                    assert!(self.closed.is_none(), "sent after closing: {text}");
                    self.sent.push_back(serde_json::from_str(&text).expect("JSON"));
                }
                Output::Close { conn, code, reason } => {
                    assert_eq!(Some(conn), self.conn);
                    self.closed = Some((code, reason.to_owned()));
                }
                Output::FetchToken { fetch, reason } => self.fetches.push((fetch, reason)),
                Output::Done { call, result } => self.end(
                    call,
                    match result {
                        Ok(outcome) => Ended::Well(outcome),
                        Err(error) => Ended::Badly(error),
                    },
                ),
                Output::PublishFailed { call, error } => self.end(call, Ended::Unpublished(error)),
                Output::Client(ClientEvent::State(event)) => self.states.push(event),
                Output::Client(ClientEvent::Room(room)) => self.new_rooms.push(room.to_string()),
                Output::Client(ClientEvent::Error(error)) => self.errors.push(error),
                Output::Room(room, event) => self.events.push((room.to_string(), event)),
                _ => panic!("an output that no test knows"),
            }
        }
    }

    fn end(&mut self, call: CallId, ended: Ended) {
        let before = self.ended.insert(call, ended);
        assert_eq!(before, None, "{call:?} ended twice");
    }

    // The application

    pub(crate) fn connect(&mut self) {
        self.core.connect(self.now);
        self.settle();
    }

    pub(crate) fn close(&mut self) {
        self.core.close(self.now);
        self.settle();
    }

    pub(crate) fn join(&mut self, room: &str) -> CallId {
        self.join_with(room, JoinOptions::default())
    }

    pub(crate) fn join_with(&mut self, room: &str, options: JoinOptions) -> CallId {
        let call = self.core.join(room, options, None, self.now);
        self.settle();
        call
    }

    pub(crate) fn leave(&mut self, room: &str) -> CallId {
        let call = self.core.leave(room, None, self.now);
        self.settle();
        call
    }

    pub(crate) fn publish(&mut self, room: &str, payload: impl Into<Value>) -> CallId {
        self.publish_with(room, payload, PublishOptions::default())
    }

    pub(crate) fn publish_with(
        &mut self,
        room: &str,
        payload: impl Into<Value>,
        options: PublishOptions,
    ) -> CallId {
        let payload = Json::new(&payload.into()).unwrap();
        let call = self.core.publish(room, "x", payload, options, self.now);
        self.settle();
        call
    }

    pub(crate) fn outcome(&self, call: CallId) -> Option<&Ended> {
        self.ended.get(&call)
    }

    pub(crate) fn error_name(&self, call: CallId) -> &str {
        self.ended.get(&call).map_or("(waits)", Ended::error_name)
    }

    pub(crate) fn state(&self) -> ClientState {
        self.core.status().state
    }

    pub(crate) fn room_state(&self, room: &str) -> RoomState {
        self.core.room_status(room).map_or(RoomState::Left, |status| status.state)
    }

    /// Events of the rooms since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<RoomEvent> {
        std::mem::take(&mut self.events).into_iter().map(|(_, event)| event).collect()
    }

    /// Publications since the last call; other events stay.
    pub(crate) fn take_publications(&mut self) -> Vec<std::sync::Arc<Publication>> {
        let mut publications = Vec::new();
        self.events.retain(|(_, event)| match event {
            RoomEvent::Publication(publication) => {
                publications.push(publication.clone());
                false
            }
            _ => true,
        });
        publications
    }

    pub(crate) fn gaps(&self) -> Vec<&Gap> {
        let gap = |(_, event): &'_ (String, RoomEvent)| matches!(event, RoomEvent::Gap(_));
        let gaps = self.events.iter().filter(|event| gap(event));
        gaps.filter_map(|(_, event)| match event {
            RoomEvent::Gap(gap) => Some(gap),
            _ => None,
        })
        .collect()
    }

    // The server

    /// The next message that the client sent.
    pub(crate) fn next(&mut self, kind: &str) -> Value {
        let message = self.sent.pop_front().unwrap_or_else(|| panic!("nothing sent, not {kind}"));
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    pub(crate) fn say(&mut self, kind: &str, payload: Value, metadata: Value) {
        let text = json!({"type": kind, "payload": payload, "metadata": metadata}).to_string();
        self.say_text(&text);
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        let conn = self.conn.expect("a socket");
        self.core.on_text(conn, text, self.now);
        self.settle();
    }

    pub(crate) fn reply(&mut self, to: &Value, payload: Value) {
        self.say("$reply", payload, json!({"id": to["metadata"]["id"]}));
    }

    pub(crate) fn fail(&mut self, to: &Value, code: u16, name: &str) {
        self.fail_with(to, code, name, json!({}));
    }

    pub(crate) fn fail_with(&mut self, to: &Value, code: u16, name: &str, rest: Value) {
        let mut payload =
            json!({"code": code, "name": name, "message": name, "temporary": code >= 429});
        payload.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        self.say("$error", payload, json!({"id": to["metadata"]["id"]}));
    }

    pub(crate) fn publication(&mut self, room: &str, epoch: &str, offset: u64) {
        let metadata = json!({"room": room, "epoch": epoch, "offset": offset,
            "time": "2026-01-01T12:00:00.000Z", "from": {"client": "c2"}});
        self.say("x", json!(offset), metadata);
    }

    pub(crate) fn open(&mut self) -> Value {
        let conn = self.conn.expect("a socket");
        self.core.on_open(conn, self.now);
        self.settle();
        self.next("$hello")
    }

    /// Opens, reads the `$hello` and welcomes it.
    pub(crate) fn welcome(&mut self, more: Value) -> Value {
        let hello = self.open();
        self.say_welcome(&hello, more);
        hello
    }

    pub(crate) fn say_welcome(&mut self, hello: &Value, more: Value) {
        let mut payload = json!({
            "client": "c1", "user": "u1", "ticket": "ticket-1", "ticket_ttl_ms": 600_000,
            "resumed": false, "heartbeat_ms": 25_000,
            "limits": {"message_bytes": 65_536, "delivery_bytes": 65_536, "rooms": 100, "page": 100},
        });
        payload.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.say("$welcome", payload, json!({"id": hello["metadata"]["id"]}));
    }

    pub(crate) fn connected(&mut self) {
        self.connect();
        self.welcome(json!({}));
    }

    /// The socket ends with this code.
    pub(crate) fn lose(&mut self, code: u16) {
        let conn = self.conn.expect("a socket");
        self.core.on_close(conn, code, "", None, self.now);
        self.settle();
    }

    /// Drops the connection and takes the next one up to its welcome; returns its `$hello`.
    pub(crate) fn dropped(&mut self, code: u16) -> Value {
        self.lose(code);
        self.reconnect();
        self.welcome(json!({"resumed": true}))
    }

    /// Waits for the next try.
    pub(crate) fn reconnect(&mut self) {
        let wait = self.core.status().retry_in.expect("a next try");
        self.advance(wait.as_millis() as u64);
    }

    /// Lets time pass, and does what is due at its time.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        for _ in 0..100_000 {
            let due_ms = self.core.next_deadline_ms().filter(|due_ms| *due_ms <= end_ms);
            let Some(due_ms) = due_ms else {
                self.pass(end_ms - self.now.mono_ms);
                return;
            };
            self.pass(due_ms.saturating_sub(self.now.mono_ms));
            self.core.on_tick(self.now);
            self.settle();
        }
        panic!("time does not pass: something is always due");
    }

    /// The computer sleeps: time passes, and nothing is done.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms;
    }
}

pub(crate) fn retry_in(world: &World) -> Duration {
    world.core.status().retry_in.expect("a next try")
}
