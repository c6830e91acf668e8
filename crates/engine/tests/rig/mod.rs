//! One shard and its clients in one thread, with a prompt store and time that only moves by hand.

#![allow(dead_code, reason = "each test file uses a part")]

use bytes::Bytes;
use clarion_engine::config::{
    Config, Deflate, Heartbeat, Limits, Presence, RoomRule, RoomSettings, Session,
};
use clarion_engine::effects::{
    Action, AuthOutcome, Credentials, Effects, Grants, Question, RoomGrant, TokenLimits, Verdict,
};
use clarion_engine::mail::{ApiAnswer, ApiRequest, ClientRow};
use clarion_engine::permission::decide;
use clarion_engine::{ApiId, ConnId, ConnRef, Endpoint, Mail, Now, Open, Shard, WorkerId};
use clarion_protocol::{ClientId, Pattern, Publication, RoomName};
use clarion_store::{Completion, LogLimits, MemoryStore, Request, StoreError};
use clarion_websocket as websocket;
use clarion_websocket::deflate::{Agreed, Pool};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

pub(crate) fn config() -> Config {
    let rule = |pattern: &str, log| RoomRule {
        pattern: Pattern::parse(pattern).unwrap(),
        settings: RoomSettings { log, ..RoomSettings::default() },
    };
    Config {
        workers: 1,
        limits: Limits::default(),
        heartbeat: Heartbeat::default(),
        session: Session::default(),
        presence: Presence::default(),
        deflate: Deflate::default(),
        rooms: vec![
            rule("live/**", None),
            rule("short", Some(LogLimits { size: 3, ..LogLimits::default() })),
        ],
        ticket_key: [1; 32],
        groups_durable: false,
        hash_seed: 1,
    }
}

pub(crate) struct Rig {
    config: Arc<Config>,
    pub(crate) shard: Shard,
    pub(crate) effects: Rigged,
    clients: BTreeMap<u32, websocket::Connection>,
    opened: u32,
}

/// A client's connection, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client(ConnId);

pub(crate) struct Rigged {
    pub(crate) now: Now,
    /// Written to each client and not yet looked at.
    wire: BTreeMap<u32, Vec<u8>>,
    /// Queued while the client does not read.
    queued: BTreeMap<u32, VecDeque<Bytes>>,
    /// Who does not read.
    pub(crate) deaf: Vec<Client>,
    /// Bytes that one of them takes all the same.
    pub(crate) sips: BTreeMap<u32, usize>,
    pub(crate) paused: BTreeMap<u32, bool>,
    want_sent: BTreeMap<u32, usize>,
    pub(crate) closed: Vec<ConnId>,
    own: VecDeque<Mail>,
    pub(crate) store: MemoryStore,
    /// Requests to the store wait here instead of being answered at once.
    pub(crate) held: Option<VecDeque<Request>>,
    pub(crate) answers: Vec<ApiAnswer>,
    /// When the publications were read that were delivered, microseconds.
    pub(crate) delivered: Vec<u64>,
    /// Questions are kept here instead of being answered at once.
    pub(crate) late: Option<Vec<u64>>,
    /// Whose rooms' settings decide; without, everything is allowed but in the room `no`.
    pub(crate) permissions: Option<Config>,
    /// Tokens that are good beside those that begin with `user:`, and whose.
    pub(crate) tokens: Vec<(String, AuthOutcome)>,
    random: u64,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        let effects = Rigged {
            now: Now { mono_us: 1, wall_ms: 1_700_000_000_000 },
            wire: BTreeMap::new(),
            queued: BTreeMap::new(),
            deaf: Vec::new(),
            sips: BTreeMap::new(),
            paused: BTreeMap::new(),
            want_sent: BTreeMap::new(),
            closed: Vec::new(),
            own: VecDeque::new(),
            store: MemoryStore::new(1),
            held: None,
            answers: Vec::new(),
            delivered: Vec::new(),
            late: None,
            permissions: None,
            tokens: Vec::new(),
            random: 0,
        };
        let config = Arc::new(config);
        let shard = Shard::new(WorkerId(0), config.clone());
        Self { config, shard, effects, clients: BTreeMap::new(), opened: 0 }
    }

    /// The process ends and is started again; every connection is gone, and the logs are, unless
    /// they survive.
    pub(crate) fn restart(&mut self, survive: bool) {
        self.shard = Shard::new(WorkerId(0), self.config.clone());
        self.clients.clear();
        self.effects.wire.clear();
        self.effects.queued.clear();
        self.effects.want_sent.clear();
        self.effects.own.clear();
        if !survive {
            self.effects.store = MemoryStore::new(u64::from(self.opened) + 2);
        }
    }

    /// A connection that offered the subprotocol, or one that did not.
    pub(crate) fn open(&mut self, hello: bool) -> Client {
        self.open_as(Endpoint::Session, hello, None, None)
    }

    /// One that brought a token with its handshake.
    pub(crate) fn open_with(&mut self, hello: bool, token: Option<&str>) -> Client {
        self.open_as(Endpoint::Session, hello, None, token)
    }

    /// One that agreed to compression.
    pub(crate) fn open_at(
        &mut self,
        endpoint: Endpoint,
        hello: bool,
        deflate: Option<Agreed>,
    ) -> Client {
        self.open_as(endpoint, hello, deflate, None)
    }

    fn open_as(
        &mut self,
        endpoint: Endpoint,
        hello: bool,
        deflate: Option<Agreed>,
        token: Option<&str>,
    ) -> Client {
        self.opened += 1;
        let conn = ConnId { index: self.opened, generation: 7 };
        let websocket = websocket::Connection::client([1; 32]);
        let websocket = deflate.into_iter().fold(websocket, websocket::Connection::with_deflate);
        self.clients.insert(conn.index, websocket);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
        let credentials = token.map(|token| Credentials::Token(token.into()));
        let open = Open { conn, endpoint, deflate, hello, peer, credentials };
        self.shard.on_open(open, self.effects.now, &mut self.effects);
        self.settle();
        Client(conn)
    }

    /// A client that has said `$hello` with this payload, and what it was answered.
    pub(crate) fn hello(&mut self, payload: &Value) -> (Client, Vec<Value>) {
        let client = self.open(true);
        self.say(client, &json!({"type": "$hello", "payload": payload}));
        let heard = self.hear(client);
        (client, heard)
    }

    /// A guest in a room.
    pub(crate) fn guest_in(&mut self, room: &str, join: &Value) -> Client {
        let (client, _) = self.hello(&json!({}));
        let reply = self.ask(client, "$join", join, &json!({"room": room}));
        assert_eq!(reply["type"], "$reply", "{reply}");
        client
    }

    pub(crate) fn say(&mut self, client: Client, message: &Value) {
        self.say_text(client, &message.to_string());
    }

    pub(crate) fn say_text(&mut self, client: Client, text: &str) {
        let mut bytes = Vec::new();
        let websocket = self.clients.get_mut(&client.0.index).unwrap();
        let settings = websocket::deflate::Settings::default();
        websocket.send_text_with(text, &settings, &mut Pool::default(), &mut bytes).unwrap();
        self.bytes(client, &mut bytes);
    }

    pub(crate) fn bytes(&mut self, client: Client, bytes: &mut [u8]) {
        self.shard.on_bytes(client.0, bytes, self.effects.now, &mut self.effects);
        self.settle();
    }

    /// Sends a command with an id and returns its answer; everything else that came is dropped.
    pub(crate) fn ask(
        &mut self,
        client: Client,
        kind: &str,
        payload: &Value,
        metadata: &Value,
    ) -> Value {
        let mut metadata = metadata.clone();
        metadata["id"] = json!("asked");
        self.say(client, &json!({"type": kind, "payload": payload, "metadata": metadata}));
        let heard = self.hear(client);
        let answer = heard.into_iter().find(|message| message["metadata"]["id"] == "asked");
        answer.unwrap_or_else(|| panic!("no answer to {kind}"))
    }

    /// How many bytes came since the last time.
    pub(crate) fn wire_size(&self, client: Client) -> usize {
        self.effects.wire.get(&client.0.index).map_or(0, Vec::len)
    }

    /// Everything that came since the last time.
    pub(crate) fn hear(&mut self, client: Client) -> Vec<Value> {
        let parse = |text: String| serde_json::from_str(&text).unwrap();
        self.texts(client).into_iter().map(parse).collect()
    }

    /// The same as it came.
    pub(crate) fn texts(&mut self, client: Client) -> Vec<String> {
        let mut bytes = self.effects.wire.remove(&client.0.index).unwrap_or_default();
        let websocket = self.clients.get_mut(&client.0.index).unwrap();
        let limits = websocket::Limits { message_bytes: 1 << 24, fragments: 1 };
        let (mut input, mut replies, mut heard) = (&mut bytes[..], Vec::new(), Vec::new());
        while let Some(event) = websocket.receive(&limits, &mut input, &mut replies) {
            match event {
                websocket::Event::Text(text) => heard.push(text.to_owned()),
                websocket::Event::Closed { code, .. } => {
                    let code = code.map(websocket::CloseCode::get);
                    heard.push(json!({"closed": code}).to_string());
                }
                websocket::Event::Ping(_) => heard.push(json!("ping").to_string()),
                websocket::Event::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
        if !replies.is_empty() && !self.effects.closed.contains(&client.0) {
            self.bytes(client, &mut replies);
        }
        heard
    }

    /// The client reads again.
    pub(crate) fn listen(&mut self, client: Client) {
        self.effects.deaf.retain(|deaf| *deaf != client);
        self.settle();
    }

    /// Bytes that the server has queued for it.
    pub(crate) fn queued(&self, client: Client) -> usize {
        self.effects.queued(client.0)
    }

    pub(crate) fn is_paused(&self, client: Client) -> bool {
        self.effects.paused.get(&client.0.index).copied().unwrap_or_default()
    }

    /// The client reads so many bytes more and stops again.
    pub(crate) fn sip(&mut self, client: Client, bytes: usize) {
        self.effects.sips.insert(client.0.index, bytes);
        self.settle();
    }

    /// What the HTTP API is answered when it publishes a number.
    pub(crate) fn broadcast(&mut self, room: &str, n: u64) -> ApiAnswer {
        let room = RoomName::parse(room).unwrap();
        let publication = Arc::new(Publication {
            kind: "m".into(),
            payload: Bytes::from(n.to_string()),
            time_ms: self.effects.now.wall_ms,
            from: None,
            key: None,
        });
        let principal = "k:test".into();
        let request = ApiRequest::Publish { room, publication, ephemeral: false, principal };
        let mail = Mail::Api { api: ApiId(2), request };
        self.shard.on_mail(mail, self.effects.now, &mut self.effects);
        self.settle();
        self.effects.answers.pop().expect("an answer")
    }

    /// The store answers what it was asked since, with what came of it or with this.
    pub(crate) fn stored(&mut self, instead: Option<StoreError>) {
        for request in self.effects.held.take().into_iter().flatten() {
            let completion = match (&request, instead) {
                (
                    Request::Append { .. } | Request::Group { .. } | Request::Revoke { .. },
                    Some(error),
                ) => {
                    let refused = request.refuse(error);
                    if error == StoreError::Unknown {
                        // It was done; what is lost is the answer.
                        self.effects.store.handle(request, self.effects.now.wall_ms);
                    }
                    refused
                }
                (Request::Open { token, .. }, Some(error)) => {
                    Completion::Opened { token: *token, result: Err(error) }
                }
                _ => self.effects.store.handle(request, self.effects.now.wall_ms),
            };
            self.effects.own.push_back(Mail::Stored(completion));
        }
        self.settle();
    }

    /// The socket breaks.
    pub(crate) fn break_off(&mut self, client: Client) {
        self.shard.on_close(client.0, self.effects.now, &mut self.effects);
        self.settle();
    }

    /// The home forgets a member, as it does when a newer connection of the session came and is gone
    /// again, and this one has not heard of it yet.
    pub(crate) fn forget(&mut self, client: Client, id: &Value, room: &str) {
        let conn = ConnRef { worker: WorkerId(0), conn: client.0 };
        let client = ClientId::parse(id.as_str().unwrap()).unwrap();
        let room = RoomName::parse(room).unwrap();
        let mail = Mail::Detach { room, client, conn, ended: true };
        self.shard.on_mail(mail, self.effects.now, &mut self.effects);
        self.settle();
    }

    /// The client ends it with this code, and hears no more.
    pub(crate) fn hang_up(&mut self, client: Client, code: u16) {
        self.say_close(client, code);
        self.break_off(client);
    }

    /// The client sends a close frame.
    pub(crate) fn say_close(&mut self, client: Client, code: u16) {
        let code = websocket::CloseCode::new(code).unwrap();
        let mut bytes = Vec::new();
        let websocket = self.clients.get_mut(&client.0.index).unwrap();
        websocket.close(code, "", &mut bytes).unwrap();
        self.bytes(client, &mut bytes);
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        let until = self.effects.now.mono_us + ms * 1_000;
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= until) {
            let by_us = due.saturating_sub(self.effects.now.mono_us);
            self.effects.now.mono_us += by_us;
            self.effects.now.wall_ms += by_us / 1_000;
            self.shard.on_tick(self.effects.now, &mut self.effects);
            self.settle();
        }
        self.effects.now.wall_ms += (until - self.effects.now.mono_us) / 1_000;
        self.effects.now.mono_us = until;
    }

    pub(crate) fn decide(&mut self, client: Client, token: u64, verdict: Verdict) {
        let mail = Mail::Decided { token, conn: client.0, verdict };
        self.shard.on_mail(mail, self.effects.now, &mut self.effects);
        self.settle();
    }

    /// What came of a token is there now.
    pub(crate) fn authenticated(&mut self, client: Client, outcome: AuthOutcome) {
        let mail = Mail::Authenticated { conn: client.0, outcome };
        self.shard.on_mail(mail, self.effects.now, &mut self.effects);
        self.settle();
    }

    /// The HTTP API asks; the answer may come later.
    pub(crate) fn ask_api(&mut self, request: ApiRequest) {
        let mail = Mail::Api { api: ApiId(1), request };
        self.shard.on_mail(mail, self.effects.now, &mut self.effects);
        self.settle();
    }

    /// What the HTTP API is answered.
    pub(crate) fn api(&mut self, request: ApiRequest) -> ApiAnswer {
        self.ask_api(request);
        assert_eq!(self.effects.answers.len(), 1, "exactly one answer");
        self.effects.answers.pop().unwrap()
    }

    pub(crate) fn rows(&mut self) -> Vec<ClientRow> {
        match self.api(ApiRequest::Clients { after: None, limit: 100, room: None, user: None }) {
            ApiAnswer::Clients(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn settle(&mut self) {
        let now = self.effects.now;
        loop {
            while let Some(mail) = self.effects.own.pop_front() {
                self.shard.on_mail(mail, now, &mut self.effects);
            }
            self.shard.end_of_turn(now, &mut self.effects);
            if !self.effects.own.is_empty() {
                continue;
            }
            let drained = self.effects.write();
            if drained.is_empty() {
                return;
            }
            for conn in drained {
                self.shard.on_sent(conn, now, &mut self.effects);
            }
        }
    }
}

/// `chat/**=join,publish`
fn room_grant(text: &str) -> RoomGrant {
    let (pattern, actions) = text.split_once('=').unwrap();
    let action = |name| match name {
        "join" => Action::Join,
        "publish" => Action::Publish,
        "history" => Action::History,
        "members" => Action::Members,
        "state" => Action::State,
        other => panic!("{other} is no action"),
    };
    let actions = actions.split(',').map(action).collect();
    RoomGrant { pattern: Pattern::parse(pattern).unwrap(), actions }
}

/// A good token of a user that says no more.
pub(crate) fn user_token(user: &str) -> AuthOutcome {
    AuthOutcome::User {
        user: user.into(),
        info: None,
        grants: Grants::default(),
        issued_at_ms: 0,
        expires_at_ms: None,
    }
}

impl Rigged {
    /// Writes what can be written; says whose mark was reached.
    fn write(&mut self) -> Vec<ConnId> {
        for (index, queue) in &mut self.queued {
            let wire = self.wire.entry(*index).or_default();
            if !self.deaf.iter().any(|client| client.0.index == *index) {
                wire.extend(queue.drain(..).flatten());
            }
            let mut left = self.sips.remove(index).unwrap_or_default();
            while left > 0
                && let Some(chunk) = queue.front_mut()
            {
                let taken = chunk.split_to(left.min(chunk.len()));
                left -= taken.len();
                wire.extend(taken);
                if chunk.is_empty() {
                    queue.pop_front();
                }
            }
        }
        let reached = |(index, mark): (&u32, &usize)| {
            let queued: usize =
                self.queued.get(index).map_or(0, |q| q.iter().map(Bytes::len).sum());
            (queued <= *mark).then_some(ConnId { index: *index, generation: 7 })
        };
        let drained: Vec<_> = self.want_sent.iter().filter_map(reached).collect();
        self.want_sent.retain(|index, _| !drained.iter().any(|conn| conn.index == *index));
        drained
    }
}

impl Effects for Rigged {
    fn delivering(&mut self, at_us: u64) {
        self.delivered.push(at_us);
    }

    fn send(&mut self, conn: ConnId, chunk: Bytes) {
        assert!(!self.closed.contains(&conn), "sent to a closed connection");
        self.queued.entry(conn.index).or_default().push_back(chunk);
    }

    fn lend(&mut self, conn: ConnId, head: &[u8], body: &[u8]) {
        self.send(conn, Bytes::from([head, body].concat()));
    }

    fn queued(&self, conn: ConnId) -> usize {
        self.queued.get(&conn.index).map_or(0, |queue| queue.iter().map(Bytes::len).sum())
    }

    fn want_sent(&mut self, conn: ConnId, below: usize) {
        self.want_sent.insert(conn.index, below);
    }

    fn close(&mut self, conn: ConnId, _: bool) {
        self.closed.push(conn);
    }

    fn pause_read(&mut self, conn: ConnId, paused: bool) {
        self.paused.insert(conn.index, paused);
    }

    fn post(&mut self, _: WorkerId, mail: Mail) {
        self.own.push_back(mail);
    }

    fn mail_queued(&self, _: WorkerId) -> usize {
        0
    }

    fn want_mail_room(&mut self, _: WorkerId) {}

    fn submit(&mut self, _: bool, request: Request) {
        if let Some(held) = &mut self.held {
            return held.push_back(request);
        }
        let completion = self.store.handle(request, self.now.wall_ms);
        self.own.push_back(Mail::Stored(completion));
    }

    fn decide(&mut self, question: &Question) -> Option<Verdict> {
        if let Some(late) = &mut self.late {
            late.push(question.token);
            return None;
        }
        if let Some(config) = &self.permissions {
            return Some(decide(config, question));
        }
        Some(if question.room.as_str() == "no" { Verdict::Deny } else { Verdict::Allow })
    }

    /// `user:ada group:staff expires:1700000000000 room:chat/**=join,publish rooms:3 publish_per_s:5 id:t1
    /// issued:1700000000000`, with everything but the user left out at will; `later` is not answered.
    fn authenticate(&mut self, _: ConnId, credentials: &Credentials) -> Option<AuthOutcome> {
        let Credentials::Token(token) = credentials else { return Some(AuthOutcome::Guest) };
        if let Some((_, outcome)) = self.tokens.iter().find(|(known, _)| **known == **token) {
            return Some(outcome.clone());
        }
        if **token == *"later" {
            return None;
        }
        let said = |name: &'static str| {
            token.split(' ').filter_map(move |part| part.strip_prefix(name)).map(Box::<str>::from)
        };
        let Some(user) = said("user:").next() else {
            return Some(AuthOutcome::Denied("not a token"));
        };
        let number = |name| said(name).next().map(|number| number.parse().unwrap());
        let rooms: Vec<_> = said("room:").map(|room| room_grant(&room)).collect();
        let grants = Grants {
            groups: said("group:").collect(),
            rooms: (!rooms.is_empty()).then_some(rooms),
            limits: TokenLimits {
                publish_per_s: number("publish_per_s:"),
                rooms: number("rooms:"),
                ..TokenLimits::default()
            },
            token_id: said("id:").next(),
        };
        let issued_at_ms = said("issued:").next().map_or(0, |at| at.parse().unwrap());
        let expires_at_ms = said("expires:").next().map(|at| at.parse().unwrap());
        Some(AuthOutcome::User { user, info: None, grants, issued_at_ms, expires_at_ms })
    }

    fn answer(&mut self, _: ApiId, answer: ApiAnswer) {
        self.answers.push(answer);
    }

    fn entropy(&mut self, out: &mut [u8]) {
        for byte in out {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (self.random >> 33) as u8;
        }
    }
}
