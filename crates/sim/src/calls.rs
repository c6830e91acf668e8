//! Calls of shards that follow from bytes: whatever clients, the network, the store, the API and the
//! clock do, and in any order. For the fuzzer.
//!
//! Unlike [`run`](crate::run) there are no clients that behave: connections send what they like,
//! well-formed or not, and nobody checks what is promised to them. What is checked is that no shard
//! panics, that bounds hold, that what is sent is WebSocket and JSON, and that the seam between
//! shard and driver is kept.

use crate::driver::Driver;
use crate::world::{self, OUTBOX_SLACK};
use bytes::Bytes;
use clarion_engine::config;
use clarion_engine::mail::{ApiAnswer, ApiRequest, Target};
use clarion_engine::revoked::{Span, Subject};
use clarion_engine::{ApiId, ConnId, Endpoint, Mail, Now, Open, Shard, WorkerId};
use clarion_protocol::{ClientId, Epoch, Pattern, Position, Publication, RoomName};
use clarion_store::{MemoryStore, Request, StoreError};
use clarion_websocket as websocket;
use clarion_websocket::deflate::{Agreed, Config, Pool, Settings, accept};
use clarion_websocket::handshake::Extension;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// The most calls that one input makes.
const CALL_COUNT_MAX: usize = 400;
/// The most connections open at a time.
const CONNECTION_COUNT_MAX: usize = 12;
/// The most bytes of one read.
const READ_BYTES_MAX: usize = 8_000;

const ROOMS: [&str; 12] = [
    "a",
    "b",
    "live",
    "chat/x",
    "$all",
    "$user/u0",
    "$user/u1",
    "$group/g",
    "$client/AAAAAAAAAAAAAAAAAAAAAA",
    "forbidden",
    "../x",
    "",
];

/// What clients say; `R` is a room, `N` a number, `T` a ticket or token.
const MESSAGES: [&str; 22] = [
    r#"{"type":"$hello","metadata":{"id":N}}"#,
    r#"{"type":"$hello","payload":{"token":"user:u0"}}"#,
    r#"{"type":"$hello","payload":{"token":"user:u1","rooms":{"R":{"last":N},"b":{"members":true}}}}"#,
    r#"{"type":"$hello","payload":{"ticket":"T","rooms":{"R":{"after":{"epoch":"E","offset":N}}}}}"#,
    r#"{"type":"$hello","payload":{"token":"stolen"}}"#,
    r#"{"type":"$join","metadata":{"room":"R","id":N}}"#,
    r#"{"type":"$join","payload":{"last":N,"members":true},"metadata":{"room":"R"}}"#,
    r#"{"type":"$join","payload":{"after":{"epoch":"E","offset":N}},"metadata":{"room":"R","id":"x"}}"#,
    r#"{"type":"$leave","metadata":{"room":"R","id":N}}"#,
    r#"{"type":"m","payload":{"n":N},"metadata":{"room":"R"}}"#,
    r#"{"type":"m","payload":[N],"metadata":{"room":"R","id":N,"key":"kN"}}"#,
    r#"{"type":"m","payload":"P","metadata":{"room":"R","ephemeral":true,"echo":false}}"#,
    r#"{"type":"m","payload":"P","metadata":{"room":"R","key":"k"}}"#,
    r#"{"type":"$history","payload":{"limit":N},"metadata":{"room":"R","id":N}}"#,
    r#"{"type":"$history","payload":{"before":{"epoch":"E","offset":N}},"metadata":{"room":"R"}}"#,
    r#"{"type":"$members","payload":{"limit":N},"metadata":{"room":"R","id":1}}"#,
    r#"{"type":"$state","payload":{"typing":N},"metadata":{"room":"R"}}"#,
    r#"{"type":"$ack","payload":{"epoch":"E","offset":N},"metadata":{"room":"$user/u0","id":2}}"#,
    r#"{"type":"$refresh","payload":{"token":"user:u0"},"metadata":{"id":3}}"#,
    r#"{"type":"$ping","payload":N,"metadata":{"id":4}}"#,
    r#"{"type":"$nonsense"}"#,
    r#"{"type":7"#,
];

/// Drives two shards by what `input` says.
///
/// # Panics
/// If a shard does, or if anything is found that must not be. The message says what.
pub fn calls(input: &[u8]) {
    let mut calls = Calls::new(Input(input));
    for _ in 0..CALL_COUNT_MAX {
        if calls.input.0.is_empty() {
            break;
        }
        calls.call();
    }
    calls.end();
}

/// The unread rest of an input. What is not there is zero.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }
}

/// What a connection agrees to for compression, with context takeover or without.
fn agree(takeover: bool) -> Agreed {
    let wanted =
        Config { server_takeover: takeover, client_takeover: takeover, ..Config::default() };
    let offer = Extension { name: "permessage-deflate", parameters: Vec::new() };
    accept(&wanted, &[offer]).expect("an offer of anything").agreed
}

/// A connection from outside.
struct Peer {
    worker: usize,
    conn: ConnId,
    client: websocket::Connection,
    /// Sent and not read by the worker.
    outbound: VecDeque<u8>,
    /// The client ended its own side; what it says from then on is noise.
    is_gone: bool,
}

struct Calls<'a> {
    input: Input<'a>,
    now: Now,
    config: Arc<config::Config>,
    nodes: Vec<(Shard, Driver)>,
    peers: BTreeMap<usize, Peer>,
    opened: usize,
    store: MemoryStore,
    /// The clients' compressors.
    pool: Pool,
    /// Requests that were not done yet, in order.
    requests: VecDeque<(WorkerId, Request)>,
    /// Requests of the API that were not answered yet.
    asked: BTreeSet<u64>,
    asked_count: u64,
    /// The last ticket and epoch that anybody heard of, to be said again.
    ticket: String,
    epoch: String,
    client: Option<ClientId>,
}

impl<'a> Calls<'a> {
    fn new(mut input: Input<'a>) -> Self {
        let seed = u64::from(input.byte());
        let config = Arc::new(world::config(2, seed, false));
        let node = |id| {
            let driver = Driver::new(WorkerId(id), 2, seed & 1 == 1, seed);
            (Shard::new(WorkerId(id), Arc::clone(&config)), driver)
        };
        Self {
            input,
            now: Now { mono_us: 1_000_000, wall_ms: 1_700_000_000_000 },
            nodes: (0..2).map(node).collect(),
            peers: BTreeMap::new(),
            opened: 0,
            store: MemoryStore::new(1),
            pool: Pool::default(),
            requests: VecDeque::new(),
            asked: BTreeSet::new(),
            asked_count: 0,
            ticket: String::new(),
            epoch: String::new(),
            client: None,
            config,
        }
    }

    fn call(&mut self) {
        match self.input.byte() % 16 {
            0 => self.open(),
            1..=5 => self.say(),
            6 => self.say_noise(),
            7 => self.read(),
            8 => self.take_mail(),
            9 => self.write(),
            10 => self.answer_store(),
            11 => self.answer_late(),
            12 => self.pass(),
            13 => self.ask_api(),
            14 => self.break_off(),
            _ => self.turn(),
        }
        for worker in 0..self.nodes.len() {
            self.finish_turn(worker);
            self.check(worker);
        }
    }

    fn open(&mut self) {
        if self.peers.len() == CONNECTION_COUNT_MAX {
            return;
        }
        let worker = self.input.below(2);
        let flags = self.input.byte();
        self.opened += 1;
        let agreed = (flags & 16 == 16).then(|| agree(flags & 32 == 32));
        let (shard, driver) = &mut self.nodes[worker];
        let conn = driver.open(self.opened);
        let client = websocket::Connection::client([self.opened as u8; 32]);
        let client = agreed.into_iter().fold(client, websocket::Connection::with_deflate);
        let peer = Peer { worker, conn, client, outbound: VecDeque::new(), is_gone: false };
        self.peers.insert(self.opened, peer);
        let open = Open {
            conn,
            endpoint: if flags & 7 == 7 { Endpoint::Echo } else { Endpoint::Session },
            deflate: agreed,
            hello: flags & 8 == 8,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            credentials: None,
        };
        shard.on_open(open, self.now, driver);
    }

    fn peer(&mut self) -> Option<usize> {
        let nth = self.input.below(CONNECTION_COUNT_MAX);
        let count = self.peers.len();
        (count > 0).then(|| *self.peers.keys().nth(nth % count).expect("one of them"))
    }

    /// A message that makes sense to the protocol, or almost.
    fn say(&mut self) {
        let Some(peer) = self.peer() else { return };
        let message = MESSAGES[self.input.below(MESSAGES.len())];
        let room = ROOMS[self.input.below(ROOMS.len())];
        let number = self.input.byte();
        let text = message
            .replace('R', room)
            .replace('N', &number.to_string())
            .replace('T', &self.ticket)
            .replace('E', &self.epoch)
            .replace('P', &"p".repeat(usize::from(number) * 20));
        let Peer { client, outbound, .. } = self.peers.get_mut(&peer).expect("it is there");
        let mut wire = Vec::new();
        let settings = Settings::default();
        if client.send_text_with(&text, &settings, &mut self.pool, &mut wire).is_ok() {
            outbound.extend(wire);
        }
        self.deliver(peer, READ_BYTES_MAX);
    }

    /// Control frames, bytes that are no frames, and messages that are no JSON.
    fn say_noise(&mut self) {
        let Some(peer) = self.peer() else { return };
        let kind = self.input.byte();
        let size = self.input.below(64);
        let bytes: Vec<u8> = (0..size).map(|_| self.input.byte()).collect();
        let Peer { client, outbound, is_gone, .. } =
            self.peers.get_mut(&peer).expect("it is there");
        let mut wire = Vec::new();
        // Whether the client may still send is as good as any other case.
        let _ = match kind % 6 {
            0 => client.ping(&bytes, &mut wire),
            1 => client.send_binary(&bytes, &mut wire),
            2 => client.send_text(&String::from_utf8_lossy(&bytes), &mut wire),
            3 => {
                let code = 1000 + u16::from(kind) * 15;
                let code = websocket::CloseCode::new(code).expect("in range");
                client.close(code, &String::from_utf8_lossy(&bytes), &mut wire)
            }
            4 => {
                *is_gone = true;
                wire = bytes;
                Ok(())
            }
            _ => {
                // A message in two pieces, of which the second may never come.
                wire =
                    [0x01, 0x80 | bytes.len() as u8, 0, 0, 0, 0].into_iter().chain(bytes).collect();
                *is_gone = true;
                Ok(())
            }
        };
        outbound.extend(wire);
    }

    /// A worker reads a part of what a connection sent.
    fn read(&mut self) {
        let size = usize::from(self.input.byte()) * 16 + 1;
        if let Some(peer) = self.peer() {
            self.deliver(peer, size);
        }
    }

    fn deliver(&mut self, index: usize, size: usize) {
        let peer = self.peers.get_mut(&index).expect("it is there");
        let (shard, driver) = &mut self.nodes[peer.worker];
        let socket = driver.sockets.get(&peer.conn.index).expect("it is open");
        if socket.paused || socket.closing.is_some() {
            // The kernel holds only so much for it.
            peer.outbound.truncate(2 * READ_BYTES_MAX);
            return;
        }
        let size = size.min(peer.outbound.len());
        let mut bytes: Vec<u8> = peer.outbound.drain(..size).collect();
        if !bytes.is_empty() {
            shard.on_bytes(peer.conn, &mut bytes, self.now, driver);
        }
    }

    fn take_mail(&mut self) {
        let to = self.input.below(2);
        let count = self.input.below(16);
        let id = WorkerId(to as u16);
        for _ in 0..count {
            let outgoing = self.nodes[1 - to].1.outgoing.get_mut(&id).expect("the other");
            let Some(mail) = outgoing.pop_front() else { break };
            let (shard, driver) = &mut self.nodes[to];
            shard.on_mail(mail, self.now, driver);
        }
        let bound = self.config.limits.mailbox_bytes;
        let (shard, driver) = &mut self.nodes[1 - to];
        if driver.want_room.contains(&id) && driver.mail_bytes(id) <= bound / 2 {
            driver.want_room.clear();
            shard.on_mail_room(id, self.now, driver);
        }
    }

    /// A connection takes some of what is queued for it, and answers as a client does.
    fn write(&mut self) {
        let Some(index) = self.peer() else { return };
        let mut room = usize::from(self.input.byte()) * 64;
        self.write_to(index, &mut room);
    }

    fn write_to(&mut self, index: usize, room: &mut usize) {
        let Peer { worker, conn, client, outbound, is_gone } =
            self.peers.get_mut(&index).expect("it is there");
        let (shard, driver) = &mut self.nodes[*worker];
        let socket = driver.sockets.get_mut(&conn.index).expect("it is open");
        let mut wire = Vec::new();
        while *room > 0
            && let Some(mut chunk) = socket.queue.pop_front()
        {
            let part = chunk.split_to(chunk.len().min(*room));
            *room -= part.len();
            socket.queued -= part.len();
            wire.extend_from_slice(&part);
            if !chunk.is_empty() {
                socket.queue.push_front(chunk);
            }
        }
        let limits = websocket::Limits { message_bytes: 1 << 20, fragments: 1 };
        let (mut input, mut replies) = (&mut wire[..], Vec::new());
        while let Some(event) =
            client.receive_with(&limits, &mut self.pool, &mut input, &mut replies)
        {
            match event {
                websocket::Event::Failed(error) => panic!("the server broke a rule: {error}"),
                websocket::Event::Text(text) if text.starts_with("{\"type\":\"$") => {
                    let message: serde_json::Value =
                        serde_json::from_str(text).expect("what the server says is JSON");
                    let payload = &message["payload"];
                    if let Some(ticket) = payload["ticket"].as_str() {
                        ticket.clone_into(&mut self.ticket);
                    }
                    if let Some(client) = payload["client"].as_str() {
                        self.client = ClientId::parse(client).ok();
                    }
                    if let Some(epoch) = payload["epoch"].as_str() {
                        epoch.clone_into(&mut self.epoch);
                    }
                }
                _ => {}
            }
        }
        if !*is_gone {
            outbound.extend(replies);
        }
        let closing = socket.closing;
        if closing.is_some_and(|flush| !flush || socket.queue.is_empty()) {
            return self.closed(index);
        }
        if socket.want_sent.is_some_and(|mark| socket.queued <= mark) {
            socket.want_sent = None;
            shard.on_sent(*conn, self.now, driver);
        }
    }

    fn closed(&mut self, index: usize) {
        let peer = self.peers.remove(&index).expect("it is there");
        let (shard, driver) = &mut self.nodes[peer.worker];
        shard.on_close(peer.conn, self.now, driver);
        driver.release(peer.conn);
    }

    fn break_off(&mut self) {
        if let Some(peer) = self.peer() {
            self.closed(peer);
        }
    }

    /// The store does a few things, or says that it cannot.
    fn answer_store(&mut self) {
        let flags = self.input.byte();
        for _ in 0..1 + flags % 8 {
            let failure = match flags >> 3 {
                0 => Some(StoreError::Unavailable),
                1 => Some(StoreError::Unknown),
                _ => None,
            };
            if flags >> 3 == 2
                && let Some((_, Request::Append { room, .. })) = self.requests.front()
            {
                let room = room.clone();
                self.store.lose(&room);
            }
            self.answer_one(failure);
        }
    }

    fn answer_one(&mut self, failure: Option<StoreError>) {
        let Some((worker, request)) = self.requests.pop_front() else { return };
        let completion = match failure {
            None => self.store.handle(request, self.now.wall_ms),
            Some(error) => {
                // It may have been done all the same.
                if error == StoreError::Unknown {
                    self.store.handle(request.clone(), self.now.wall_ms);
                }
                request.refuse(if request.writes() { error } else { StoreError::Unavailable })
            }
        };
        let (shard, driver) = &mut self.nodes[usize::from(worker.0)];
        shard.on_mail(Mail::Stored(completion), self.now, driver);
    }

    fn answer_late(&mut self) {
        let worker = self.input.below(2);
        let (shard, driver) = &mut self.nodes[worker];
        for mail in std::mem::take(&mut driver.late_answers) {
            shard.on_mail(mail, self.now, driver);
        }
    }

    fn pass(&mut self) {
        let choice = self.input.byte();
        let by_ms = match choice >> 6 {
            0 => u64::from(choice),
            1 => u64::from(choice & 63) * 100,
            2 => u64::from(choice & 63) * 1_000,
            _ => u64::from(choice & 63) * 10_000,
        };
        self.now.mono_us += by_ms * 1_000;
        self.now.wall_ms += by_ms;
        for (shard, driver) in &mut self.nodes {
            shard.on_tick(self.now, driver);
        }
    }

    fn ask_api(&mut self) {
        let worker = self.input.below(2);
        let kind = self.input.byte();
        let room = RoomName::parse(ROOMS[self.input.below(ROOMS.len())]);
        let flags = self.input.byte();
        let (flag, limit) = (flags & 1 == 1, usize::from(flags >> 4));
        let user: Box<str> = if flags & 2 == 2 { "u0".into() } else { "u1".into() };
        let target = match (self.client, flags & 4) {
            (Some(client), 4) => Target::Client(client),
            _ => Target::User(user.clone()),
        };
        let after = self.client.filter(|_| flag);
        let place = Epoch::new(&self.epoch)
            .filter(|_| flag)
            .map(|epoch| Position { epoch, offset: u64::from(flags >> 1) });
        let request = match (kind % 14, room) {
            (0, _) => ApiRequest::Stats,
            (1, room) => ApiRequest::Clients {
                after,
                limit,
                room: room.ok(),
                user: (flags & 8 == 8).then_some(user),
            },
            (2, _) => {
                let pattern = (flags & 2 == 2).then(|| Pattern::parse("**").expect("a pattern"));
                ApiRequest::Rooms { after: None, limit, pattern }
            }
            (3, _) => ApiRequest::Disconnect { target },
            (4, _) => ApiRequest::Group { group: "g".into(), user, member: flag },
            (5, _) => {
                ApiRequest::GroupUsers { group: "g".into(), after: flag.then_some(user), limit }
            }
            (12, _) => {
                let subject = match (self.client, flags & 12) {
                    (Some(client), 4) => Subject::Client(client),
                    (_, 8) => Subject::Token("t".into()),
                    _ => Subject::User(user),
                };
                let at_ms = self.now.wall_ms;
                let span = Span { at_ms, until_ms: at_ms + 1_000 * u64::from(flags) };
                ApiRequest::Revoke { subject, span, keep: flag }
            }
            (13, _) => {
                ApiRequest::Revocations { after: flag.then_some(Subject::User(user)), limit }
            }
            (_, Err(_)) => return,
            (6, Ok(room)) => {
                let (after, before) = if flags & 2 == 2 { (place, None) } else { (None, place) };
                ApiRequest::History { room, after, before, limit: limit as u32 }
            }
            (7, Ok(room)) => ApiRequest::Members { room, limit: Some(limit as u32), after },
            (8, Ok(room)) if !room.as_str().starts_with('$') => ApiRequest::Kick { room, target },
            (9, Ok(room)) if !room.as_str().starts_with('$') => ApiRequest::Join { room, target },
            (_, Ok(room)) => ApiRequest::Publish {
                room,
                publication: Arc::new(Publication {
                    kind: "m".into(),
                    payload: Bytes::from_static(b"[1]"),
                    time_ms: self.now.wall_ms,
                    from: None,
                    key: flag.then(|| "k".into()),
                }),
                ephemeral: !flag && flags & 2 == 2,
                principal: "k:fuzz".into(),
            },
        };
        self.asked_count += 1;
        self.asked.insert(self.asked_count);
        let (shard, driver) = &mut self.nodes[worker];
        let mail = Mail::Api { api: ApiId(self.asked_count), request };
        shard.on_mail(mail, self.now, driver);
    }

    /// What a worker does in a whole turn: everybody is read and written to.
    fn turn(&mut self) {
        let worker = self.input.below(2);
        let indices: Vec<_> =
            self.peers.iter().filter(|(_, it)| it.worker == worker).map(|(i, _)| *i).collect();
        for index in indices {
            self.deliver(index, READ_BYTES_MAX);
            self.finish_turn(worker);
            self.write_to(index, &mut 10_000);
        }
    }

    fn finish_turn(&mut self, worker: usize) {
        let (shard, driver) = &mut self.nodes[worker];
        loop {
            while let Some(mail) = driver.own.pop_front() {
                shard.on_mail(mail, self.now, driver);
            }
            shard.end_of_turn(self.now, driver);
            if driver.own.is_empty() {
                break;
            }
        }
        let submitted = std::mem::take(&mut driver.submitted);
        self.requests
            .extend(submitted.into_iter().map(|(_, request)| (WorkerId(worker as u16), request)));
    }

    fn check(&mut self, worker: usize) {
        let limits = &self.config.limits;
        let (shard, driver) = &mut self.nodes[worker];
        if let Some(misuse) = driver.misuse.take() {
            panic!("{misuse}");
        }
        assert_eq!(shard.open_count(), driver.sockets.len() as u64);
        for socket in driver.sockets.values() {
            // An echo is as long as what it echoes, which is read whole.
            let bound = limits.outbox_bytes + OUTBOX_SLACK + READ_BYTES_MAX;
            assert!(socket.queued <= bound, "{} bytes are queued for one client", socket.queued);
        }
        let counters = shard.counters();
        assert!(counters.rooms <= limits.homes as u64);
        let sockets: u64 = self.nodes.iter().map(|(_, driver)| driver.sockets.len() as u64).sum();
        let (_, driver) = &mut self.nodes[worker];
        assert!(counters.connections <= sockets);
        for (api, answer) in std::mem::take(&mut driver.answers) {
            assert!(self.asked.remove(&api.0), "a second answer to {api:?}: {answer:?}");
            if let ApiAnswer::Clients(rows) = answer {
                assert!(rows.len() <= CONNECTION_COUNT_MAX);
            }
        }
    }

    /// Everybody goes, everything that is under way is done, and the API has its answers.
    fn end(&mut self) {
        let indices: Vec<_> = self.peers.keys().copied().collect();
        for index in indices {
            self.closed(index);
        }
        /// More than anything here takes.
        const ROUNDS: usize = 2_000;
        for _ in 0..ROUNDS {
            for worker in 0..self.nodes.len() {
                self.finish_turn(worker);
                self.check(worker);
            }
            while !self.requests.is_empty() {
                self.answer_one(None);
            }
            let mut is_idle = true;
            for from in 0..2 {
                let to = 1 - from;
                let id = WorkerId(to as u16);
                let driver = &mut self.nodes[from].1;
                let late = std::mem::take(&mut driver.late_answers);
                let mail = std::mem::take(driver.outgoing.get_mut(&id).expect("the other"));
                is_idle &= late.is_empty() && mail.is_empty();
                let wanted = !std::mem::take(&mut driver.want_room).is_empty();
                for mail in late {
                    let (shard, driver) = &mut self.nodes[from];
                    shard.on_mail(mail, self.now, driver);
                }
                for mail in mail {
                    let (shard, driver) = &mut self.nodes[to];
                    shard.on_mail(mail, self.now, driver);
                }
                if wanted {
                    let (shard, driver) = &mut self.nodes[from];
                    shard.on_mail_room(id, self.now, driver);
                }
            }
            let is_idle = is_idle
                && self.requests.is_empty()
                && self.nodes.iter().all(|(_, it)| it.own.is_empty() && it.submitted.is_empty());
            if is_idle {
                for worker in 0..self.nodes.len() {
                    self.check(worker);
                }
                assert!(self.asked.is_empty(), "the API was never answered: {:?}", self.asked);
                assert!(self.nodes.iter().all(|(shard, _)| shard.open_count() == 0));
                return;
            }
        }
        panic!("it never comes to rest");
    }
}
