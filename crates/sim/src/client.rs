//! A client that remembers everything it was promised, and says what was broken.

use crate::journal::{Event, Key, What};
use crate::revoked::{Standing, Token};
use crate::rng::Rng;
use crate::truth::{TruthStore, payload, sender_and_number};
use clarion_protocol::{Epoch, RoomName};
use clarion_websocket as websocket;
use clarion_websocket::deflate::{Agreed, Pool, Settings};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Rooms with a log.
pub(crate) const LOGGED: [&str; 3] = ["a", "b/c", "d"];
/// A room without.
pub(crate) const UNLOGGED: &str = "n";
/// What clients compress, where that was agreed on.
const COMPRESSED: Settings = Settings { threshold_bytes: 60, level: 1 };
/// A room nobody may join.
pub(crate) const FORBIDDEN: &str = "forbidden";

/// One client program: a session over many connections.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) user: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) ticket: Option<String>,
    /// What it knows of each room that it wants to be in.
    pub(crate) rooms: BTreeMap<String, Room>,
    /// Where it was in the rooms that it left.
    left: BTreeMap<String, Room>,
    /// The link that counts; older ones may linger.
    pub(crate) current: Option<usize>,
    pub(crate) next_id: u64,
    /// Keys used, to be used again.
    keys: Vec<String>,
    /// It repeats what was not acknowledged, and acknowledges what it has read.
    pub(crate) careful: bool,
    /// Room, key and payload of what it has to publish until it is acknowledged.
    pub(crate) unacked: Vec<(String, String, String)>,
    /// What it says who it is with, where tokens are revoked; guests have none.
    pub(crate) token: Option<Token>,
    /// How many it has had: names them.
    pub(crate) tokens: usize,
    /// What its ticket stands on.
    ticket_of: Option<Standing>,
}

/// A client's view of a room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    /// The last position seen, in a room with log.
    pub(crate) position: Option<(String, u64)>,
}

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) owner: usize,
    /// No other connection of the run has it.
    serial: usize,
    journal: Journal,
    websocket: websocket::Connection,
    pool: Rc<RefCell<Pool>>,
    /// To the server, not yet delivered.
    pub(crate) outbound: Vec<u8>,
    /// From the server, not yet read.
    pub(crate) inbound: Vec<u8>,
    pub(crate) welcomed: bool,
    /// The socket is gone.
    pub(crate) dead: bool,
    /// The server's close code.
    pub(crate) closed: Option<u16>,
    /// Not reading before this moment.
    pub(crate) deaf_until_us: u64,
    pub(crate) joined: BTreeMap<String, Joined>,
    pub(crate) asked: BTreeMap<u64, Asked>,
    /// Rooms of its `$hello` that were not answered yet, with the position asked for.
    pub(crate) wanted: BTreeMap<String, Option<(String, u64)>>,
    /// The token that its `$hello` brought, until it is welcomed.
    token: Option<Token>,
    /// What the ticket stands on that its `$hello` brought.
    pub(crate) ticket_of: Option<Standing>,
    pub(crate) resumed: bool,
    /// What its session stands on, as soon as it is welcomed.
    pub(crate) standing: Option<Standing>,
    /// Positions that its `$hello` gave for rooms of groups.
    hints: BTreeMap<String, (String, u64)>,
    /// How many publications it sent: numbers them.
    sent: u64,
    /// What kinds of thing happened to it, for the test that everything does.
    pub(crate) seen: BTreeSet<String>,
    /// The last unlogged number heard, by room and sender.
    heard: BTreeMap<(String, u64), u64>,
}

/// What all links write down.
pub(crate) type Journal = Rc<RefCell<Vec<Event>>>;

/// A room that a link is in.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// Log and next offset, if it has a log.
    pub(crate) next: Option<(String, u64)>,
}

/// A command that was not answered yet.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Join { room: String, after: Option<(String, u64)> },
    Leave { room: String },
    Publish { room: String, key: Option<String>, payload: String },
    Ack { epoch: String, offset: u64 },
    Refresh { token: Token },
    Other,
}

/// What a message made the client do.
pub(crate) type Checked = Result<(), String>;

impl Client {
    pub(crate) fn new(index: usize, careful: bool) -> Self {
        // Every third is a guest; the others share users in pairs, as devices do.
        let user = (index % 3 != 2).then(|| format!("u{}", index / 2));
        Self {
            index,
            user,
            client: None,
            ticket: None,
            rooms: BTreeMap::new(),
            left: BTreeMap::new(),
            current: None,
            next_id: 0,
            keys: Vec::new(),
            careful,
            unacked: Vec::new(),
            token: None,
            tokens: 0,
            ticket_of: None,
        }
    }

    /// The id of its token that is so many after the newest.
    pub(crate) fn token_id(&self, ahead: usize) -> String {
        format!("{}.{}", self.index, self.tokens + ahead)
    }

    /// A token that is newer than all that was revoked up to now.
    fn fresh_token(&mut self, now_ms: u64) -> Option<Token> {
        self.tokens += 1;
        let (id, issued_at_ms) = (Some(self.token_id(0)), now_ms + 1);
        self.user.clone().map(|user| Token { user, id, issued_at_ms })
    }

    /// It gets another token, with which it begins the next time.
    pub(crate) fn renew(&mut self, now_ms: u64) {
        self.token = self.fresh_token(now_ms);
    }

    /// It brings another token where it is.
    pub(crate) fn refresh(&mut self, link: &mut Link, now_ms: u64) {
        let Some(token) = self.fresh_token(now_ms) else { return };
        let message = json!({"type": "$refresh", "payload": {"token": token.to_string()}});
        self.ask(link, message, LOGGED[0], Asked::Refresh { token });
    }

    /// The `$hello` of a new link: with the ticket if there is one, and all rooms wanted.
    pub(crate) fn hello(&self, link: &mut Link) {
        link.note(What::Hello { user: self.user.clone() });
        let mut rooms = serde_json::Map::new();
        for (name, room) in &self.rooms {
            let after = room.position.clone();
            let join = match &after {
                Some((epoch, offset)) => json!({"after": {"epoch": epoch, "offset": offset}}),
                None => json!({}),
            };
            rooms.insert(name.clone(), join);
            if name.starts_with("$group/") {
                // What the session is not in any more is ignored.
                link.hints.extend(after.map(|after| (name.clone(), after)));
            } else {
                link.wanted.insert(name.clone(), after);
            }
        }
        let mut payload = json!({ "rooms": rooms });
        if let Some(ticket) = &self.ticket {
            payload["ticket"] = json!(ticket);
            link.ticket_of.clone_from(&self.ticket_of);
        }
        if let Some(token) = &self.token {
            // Beside the ticket, too: what is void would make it a guest.
            payload["token"] = json!(token.to_string());
            link.token = Some(token.clone());
        } else if let (None, Some(user)) = (&self.ticket, &self.user) {
            payload["token"] = json!(format!("user:{user}"));
        }
        link.say(&json!({"type": "$hello", "payload": payload}));
    }

    /// Does something a client might do.
    pub(crate) fn act(&mut self, link: &mut Link, slow: bool, now_us: u64, rng: &mut Rng) {
        let room = match rng.below(8) {
            0 | 1 => UNLOGGED.to_owned(),
            n => LOGGED[n % LOGGED.len()].to_owned(),
        };
        let moving = link.asked.values().any(|asked| match asked {
            Asked::Join { room: other, .. } | Asked::Leave { room: other } => *other == room,
            Asked::Publish { .. } | Asked::Ack { .. } | Asked::Refresh { .. } | Asked::Other => {
                false
            }
        });
        if self.careful && rng.chance(10) {
            return match self.unacked.len() {
                0 => self.acknowledge(link, rng),
                _ if rng.chance(50) => self.acknowledge(link, rng),
                n => self.repeat(link, rng.below(n)),
            };
        }
        match rng.below(20) {
            0..=3 if !moving && !link.joined.contains_key(&room) => {
                let known = self.rooms.get(&room).or_else(|| self.left.get(&room));
                let known = known.and_then(|room| room.position.clone());
                let logged = room != UNLOGGED;
                let mut after = known.filter(|_| logged && rng.chance(70));
                if let Some((_, offset)) = &mut after
                    && rng.chance(20)
                {
                    // Everything, from the beginning.
                    *offset = 0;
                }
                let mut join = json!({"members": rng.chance(30)});
                if let Some((epoch, offset)) = &after {
                    join["after"] = json!({"epoch": epoch, "offset": offset});
                }
                if logged && rng.chance(40) {
                    join["last"] = json!(rng.below(12));
                }
                let asked = Asked::Join { room: room.clone(), after };
                self.ask(link, json!({"type": "$join", "payload": join}), &room, asked);
            }
            4 | 12 if !moving && link.joined.contains_key(&room) => {
                let asked = Asked::Leave { room: room.clone() };
                self.ask(link, json!({"type": "$leave"}), &room, asked);
                self.forget(&room);
            }
            5 => {
                let history = json!({"type": "$history", "payload": {"limit": rng.below(20)}});
                self.ask(link, history, &room, Asked::Other);
            }
            6 => self.ask(link, json!({"type": "$members", "payload": {}}), &room, Asked::Other),
            7 => {
                let ping = json!({"type": "$ping", "payload": "p".repeat(rng.below(600))});
                self.ask(link, ping, &room, Asked::Other);
            }
            8 => self.ask(link, json!({"type": "$join", "payload": {}}), FORBIDDEN, Asked::Other),
            9 if slow => link.deaf_until_us = now_us + rng.below(20_000_000) as u64,
            10 => {
                // Far more than its outbox holds, without waiting for anything or reading it.
                if slow {
                    link.deaf_until_us = now_us + rng.below(20_000_000) as u64;
                }
                for _ in 0..rng.below(40) {
                    let ping = json!({"type": "$ping", "payload": "p".repeat(3_000)});
                    self.ask(link, ping, &room, Asked::Other);
                }
            }
            11 => {
                let state = json!({"type": "$state", "payload": {"n": rng.below(9)}});
                self.ask(link, state, &room, Asked::Other);
            }
            _ => self.publish(link, &room, rng),
        }
    }

    /// It no longer wants to be in a room; it may come back to where it was.
    fn forget(&mut self, room: &str) {
        if let Some(known) = self.rooms.remove(room) {
            self.left.insert(room.to_owned(), known);
        }
    }

    fn publish(&mut self, link: &mut Link, room: &str, rng: &mut Rng) {
        for _ in 0..=rng.below(4) {
            link.sent += 1;
            let payload = payload(link.serial as u64, link.sent, rng.below(120));
            let mut message = json!({"type": "m"});
            message["payload"] = serde_json::from_str(&payload).expect("payloads are JSON");
            message["metadata"] = json!({"room": room});
            let ephemeral = room != UNLOGGED && rng.chance(10);
            if ephemeral {
                message["metadata"]["ephemeral"] = json!(true);
            }
            let mut key = None;
            if room != UNLOGGED && !ephemeral && rng.chance(30) {
                if self.keys.is_empty() || rng.chance(50) {
                    self.keys.push(format!("k{}", self.keys.len()));
                }
                let chosen = self.keys[rng.below(self.keys.len())].clone();
                message["metadata"]["key"] = json!(chosen);
                key = Some(chosen);
            }
            if self.careful && room != UNLOGGED && !ephemeral {
                link.note(What::Said { room: room.to_owned(), payload: payload.clone() });
                if key.is_none() && rng.chance(60) {
                    let own = format!("r{}", link.serial << 20 | link.sent as usize);
                    message["metadata"]["key"] = json!(own);
                    self.unacked.push((room.to_owned(), own.clone(), payload.clone()));
                    key = Some(own);
                }
            }
            let must = self.unacked.last().is_some_and(|(.., last)| *last == payload);
            if must || rng.chance(80) {
                let asked = Asked::Publish { room: room.to_owned(), key, payload };
                self.ask(link, message, room, asked);
            } else {
                link.say(&message);
            }
        }
    }

    /// Publishes everything once more that was not acknowledged.
    pub(crate) fn repeat_all(&mut self, link: &mut Link) {
        for index in 0..self.unacked.len() {
            self.repeat(link, index);
        }
    }

    /// Publishes once more what was not acknowledged.
    fn repeat(&mut self, link: &mut Link, index: usize) {
        link.seen.insert("published once more".to_owned());
        let (room, key, payload) = self.unacked[index].clone();
        let body: Value = serde_json::from_str(&payload).expect("payloads are JSON");
        link.note(What::Said { room: room.clone(), payload: payload.clone() });
        let message = json!({"type": "m", "payload": body, "metadata": {"key": key}});
        let asked = Asked::Publish { room: room.clone(), key: Some(key), payload };
        self.ask(link, message, &room, asked);
    }

    /// Says how far it has read its inbox, or less.
    fn acknowledge(&mut self, link: &mut Link, rng: &mut Rng) {
        let Some(user) = &self.user else { return };
        let room = format!("$user/{user}");
        let joined = link.joined.get(&room).and_then(|joined| joined.next.clone());
        let Some((epoch, next)) = joined.filter(|(_, next)| *next > 1) else { return };
        let least = if rng.chance(30) { 1 } else { next - 1 };
        let offset = least + rng.below((next - least) as usize) as u64;
        link.note(What::Ack { offset });
        let position = json!({"epoch": epoch, "offset": offset});
        let asked = Asked::Ack { epoch, offset };
        self.ask(link, json!({"type": "$ack", "payload": position}), &room, asked);
    }

    fn ask(&mut self, link: &mut Link, mut message: Value, room: &str, asked: Asked) {
        self.next_id += 1;
        let id = self.next_id * 1_000 + self.index as u64;
        message["metadata"]["id"] = json!(id);
        message["metadata"]["room"] = json!(room);
        link.asked.insert(id, asked);
        link.say(&message);
    }

    /// Reads some of what came, and checks it.
    pub(crate) fn read(&mut self, link: &mut Link, amount: usize, truth: &TruthStore) -> Checked {
        let amount = amount.min(link.inbound.len());
        let mut bytes: Vec<u8> = link.inbound.drain(..amount).collect();
        let mut websocket = std::mem::replace(&mut link.websocket, websocket::Connection::server());
        let pool = Rc::clone(&link.pool);
        let mut pool = pool.borrow_mut();
        let inflated = pool.counts().inflated.messages;
        let limits = websocket::Limits { message_bytes: 1 << 24, fragments: 1 };
        let mut input = &mut bytes[..];
        let mut replies = Vec::new();
        let mut texts = Vec::new();
        while let Some(event) = websocket.receive_with(&limits, &mut pool, &mut input, &mut replies)
        {
            match event {
                websocket::Event::Text(text) => texts.push(text.to_owned()),
                websocket::Event::Closed { code, .. } => {
                    let code = code.map_or(1005, websocket::CloseCode::get);
                    link.seen.insert(format!("closed with {code}"));
                    link.closed = Some(code);
                }
                websocket::Event::Failed(error) => {
                    return Err(format!("the server broke the WebSocket protocol: {error:?}"));
                }
                websocket::Event::Binary(_) => return Err("a binary message came".into()),
                websocket::Event::Ping(_) | websocket::Event::Pong(_) => {}
            }
        }
        if pool.counts().inflated.messages > inflated {
            let shared = websocket.deflate().is_some_and(Agreed::takes_shared);
            let for_whom = if shared { "many" } else { "one" };
            link.seen.insert(format!("compressed as for {for_whom}"));
        }
        drop(pool);
        link.websocket = websocket;
        link.outbound.extend_from_slice(&replies);
        for text in texts {
            let message: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
            self.check(link, &message, truth)
                .map_err(|violation| format!("{violation}: {text}"))?;
        }
        Ok(())
    }

    fn check(&mut self, link: &mut Link, message: &Value, truth: &TruthStore) -> Checked {
        let kind = message["type"].as_str().ok_or("no type")?;
        let (payload, metadata) = (&message["payload"], &message["metadata"]);
        let room = metadata["room"].as_str().unwrap_or_default().to_owned();
        if payload.get("close").is_some() && kind == "$error" {
            // Of the connection, which ends: also one that did not say `$hello` in time.
            link.seen.insert("error of the connection".to_owned());
            return Ok(());
        }
        if !link.welcomed && kind != "$welcome" {
            return Err("something came before the $welcome".into());
        }
        match kind {
            "$welcome" => self.on_welcome(link, payload),
            "$reply" | "$pong" => self.on_reply(link, metadata, payload, truth),
            "$error" => self.on_error(link, metadata, payload),
            "$joined" => self.on_joined(link, &room, payload, truth),
            "$left" => self.on_left(link, &room, payload),
            "$gap" => self.on_gap(link, &room, payload),
            "$members" => {
                let kind = ["all", "joined"].into_iter().find(|kind| payload.get(kind).is_some());
                link.seen.insert(format!("members {}", kind.unwrap_or("counted")));
                match link.joined.contains_key(&room) {
                    true => Ok(()),
                    false => Err("presence of a room it is not in".into()),
                }
            }
            "m" => self.on_publication(link, &room, metadata, payload, truth),
            other => Err(format!("an unexpected {other}")),
        }
    }

    fn on_welcome(&mut self, link: &mut Link, payload: &Value) -> Checked {
        if std::mem::replace(&mut link.welcomed, true) {
            return Err("a second $welcome".into());
        }
        let client = payload["client"].as_str().ok_or("no client")?;
        link.seen.insert(format!("resumed {}", payload["resumed"]));
        if payload["resumed"] == json!(true) && self.client.as_deref() != Some(client) {
            return Err("resumed as another client".into());
        }
        let standing = Standing {
            user: payload["user"].as_str().ok_or("no user")?.to_owned(),
            client: client.to_owned(),
            token: link.token.take(),
        };
        link.resumed = payload["resumed"] == json!(true);
        link.standing = Some(standing.clone());
        // An older link's late welcome is of no interest.
        if self.current.is_some() {
            self.ticket_of = Some(standing);
            self.client = Some(client.to_owned());
            self.ticket = payload["ticket"].as_str().map(str::to_owned);
        }
        if self.user.is_none() && payload["resumed"] != json!(true) {
            // Another guest, whose keys are others.
            self.unacked.clear();
        }
        self.repeat_all(link);
        Ok(())
    }

    fn on_reply(
        &mut self,
        link: &mut Link,
        metadata: &Value,
        payload: &Value,
        truth: &TruthStore,
    ) -> Checked {
        let id = metadata["id"].as_u64().ok_or("a reply without id")?;
        let asked = link.asked.remove(&id).ok_or("a reply to nothing that was asked here")?;
        match asked {
            Asked::Join { room, after } => self.admitted(link, &room, payload, after),
            Asked::Leave { room } => {
                link.joined.remove(&room).ok_or("left a room it was not in")?;
                link.note(What::Left { room });
                Ok(())
            }
            Asked::Publish { room, key, payload: published } => {
                let Some((epoch, offset)) = place(payload) else {
                    return match room == UNLOGGED || payload.get("offset").is_none() {
                        true => Ok(()),
                        false => Err("a reply with half a place".into()),
                    };
                };
                let duplicate = payload["duplicate"] == json!(true);
                link.seen.insert(format!("duplicate {duplicate}"));
                self.unacked.retain(|(.., unacked)| *unacked != published);
                link.note(What::Acked {
                    room: room.clone(),
                    // Of the session that published; the client may be another guest by now.
                    key: link.standing.as_ref().map(|it| it.user.clone()).zip(key.clone()),
                    payload: published.clone(),
                    place: (epoch.clone(), offset),
                    duplicate,
                });
                let (name, epoch) = (room_name(&room), Epoch::new(&epoch).ok_or("bad epoch")?);
                let Some(applied) = truth.at(&(name, epoch, offset)) else { return Ok(()) };
                let applied = applied.ok_or("promise 3: acknowledged, but not appended")?;
                let same_key = key.is_some()
                    && applied.key.as_ref().map(|applied| &*applied.key) == key.as_deref();
                if applied.payload != published && !(duplicate && same_key) {
                    return Err(format!("acknowledged at the place of {applied:?}"));
                }
                Ok(())
            }
            Asked::Ack { epoch, offset } => {
                link.seen.insert("an inbox acknowledged".to_owned());
                link.note(What::AckKept { epoch, offset });
                Ok(())
            }
            Asked::Refresh { token } => {
                link.seen.insert("refreshed".to_owned());
                let standing = link.standing.as_mut().ok_or("refreshed before it was welcomed")?;
                standing.token = Some(token.clone());
                self.token = Some(token);
                Ok(())
            }
            Asked::Other => Ok(()),
        }
    }

    fn on_error(&mut self, link: &mut Link, metadata: &Value, payload: &Value) -> Checked {
        if let Some(id) = metadata["id"].as_u64() {
            let asked = link.asked.remove(&id).ok_or("an error for nothing that was asked here")?;
            if let Asked::Publish { payload: published, .. } = asked
                && payload["temporary"] != json!(true)
            {
                self.unacked.retain(|(.., unacked)| *unacked != published);
            }
        } else if let Some(room) = metadata["room"].as_str() {
            // A room of `$hello` that cannot be had now, or a publication without id.
            link.wanted.remove(room);
        }
        link.seen.insert(format!("error {}", payload["name"]));
        match payload["name"].as_str() {
            Some("bad_envelope" | "bad_request" | "unknown_type" | "too_large") => {
                Err("a good message was refused".into())
            }
            Some(_) => Ok(()),
            None => Err("an error without name".into()),
        }
    }

    fn on_left(&mut self, link: &mut Link, room: &str, payload: &Value) -> Checked {
        link.seen.insert(format!("left {}", payload["reason"]));
        link.joined.remove(room).ok_or("made to leave a room it is not in")?;
        link.note(What::Left { room: room.to_owned() });
        self.forget(room);
        Ok(())
    }

    fn on_joined(
        &mut self,
        link: &mut Link,
        room: &str,
        payload: &Value,
        truth: &TruthStore,
    ) -> Checked {
        if room.starts_with("$group/") {
            // It may be from where `$hello` said.
            let recovered = payload["recovered"] == json!(true);
            let hint = link.hints.get(room).filter(|_| recovered).cloned();
            link.note_joined(room, hint, payload);
            let joined = Joined { next: start(payload) };
            return match link.joined.insert(room.to_owned(), joined) {
                None => Ok(()),
                Some(_) => Err("joined to a group twice".into()),
            };
        }
        if room.starts_with("$user/") {
            let after = link.wanted.remove(room).flatten();
            let position = if after.is_some() { "a" } else { "no" };
            link.seen.insert(format!("an inbox joined with {position} position"));
            link.note_joined(room, after, payload);
            let next = start(payload);
            if self.careful
                && let Some((epoch, next)) = next.clone()
            {
                let position = Some((epoch, next - 1));
                self.rooms.insert(room.to_owned(), Room { position });
            }
            link.joined.insert(room.to_owned(), Joined { next });
            return Ok(());
        }
        let after = match link.wanted.remove(room) {
            Some(after) => after,
            None if truth.drafted.contains(room) => {
                link.seen.insert("joined by the API".to_owned());
                None
            }
            None => return Err("joined to a room it does not want".into()),
        };
        self.admitted(link, room, payload, after)
    }

    /// Promise 2: what a join's answer says about where the room goes on.
    fn admitted(
        &mut self,
        link: &mut Link,
        room: &str,
        payload: &Value,
        after: Option<(String, u64)>,
    ) -> Checked {
        let next = start(payload);
        link.note_joined(room, after.clone(), payload);
        if (room != UNLOGGED) != next.is_some() {
            return Err("a log where there is none, or none where there is one".into());
        }
        let replay = if payload["from"] == json!(payload["offset"].as_u64().map(|n| n + 1)) {
            "no replay"
        } else {
            "replay"
        };
        let what = if after.is_some() { "after" } else { "no position" };
        link.seen
            .insert(format!("joined with {what}: recovered {}, {replay}", payload["recovered"]));
        if payload["recovered"] == json!(true) {
            let (epoch, offset) = after.ok_or("recovered what was not asked for")?;
            if next != Some((epoch, offset + 1)) {
                return Err("promise 2: recovered, but not from there".into());
            }
        }
        if link.joined.insert(room.to_owned(), Joined { next: next.clone() }).is_some() {
            return Err("joined twice".into());
        }
        let position = next.map(|(epoch, next)| (epoch, next - 1));
        self.rooms.insert(room.to_owned(), Room { position });
        Ok(())
    }

    fn on_gap(&mut self, link: &mut Link, room: &str, payload: &Value) -> Checked {
        link.seen.insert(format!("gap {}", payload["reason"]));
        if room == "$all" {
            return Ok(());
        }
        let joined = link.joined.get_mut(room).ok_or("a gap in a room it is not in")?;
        match (&joined.next, place(payload)) {
            (None, None) => Ok(()),
            (Some((epoch, next)), Some((of, offset))) => {
                if *epoch == of && offset < *next {
                    return Err("a gap that goes back".into());
                }
                joined.next = Some((of.clone(), offset + 1));
                let next = (of.clone(), offset + 1);
                link.note(What::Gap { room: room.to_owned(), next });
                self.rooms.insert(room.to_owned(), Room { position: Some((of, offset)) });
                Ok(())
            }
            _ => Err("a gap of the wrong kind".into()),
        }
    }

    /// Promise 1: in order, each once, without a hole, and nobody sees what was not appended.
    fn on_publication(
        &mut self,
        link: &mut Link,
        room: &str,
        metadata: &Value,
        payload: &Value,
        truth: &TruthStore,
    ) -> Checked {
        let payload = payload.to_string();
        let Some((epoch, offset)) = place(metadata) else {
            let address = room.starts_with('$');
            if !address && !link.joined.contains_key(room) {
                return Err("a message of a room it is not in".into());
            }
            let Some((sender, number)) = sender_and_number(&payload) else { return Ok(()) };
            let heard = link.heard.entry((room.to_owned(), sender)).or_default();
            if number <= *heard {
                return Err(format!("promise 5: unlogged {number} came after {heard}"));
            }
            *heard = number;
            return Ok(());
        };
        let joined = link.joined.get_mut(room).ok_or("a publication of a room it is not in")?;
        let (of, next) = joined.next.as_mut().ok_or("an offset where there is no log")?;
        if *of != epoch || *next != offset {
            return Err(format!("promise 1: expected {next}@{of}"));
        }
        *next += 1;
        if self.careful {
            // What comes from the API has no sender.
            let sender = metadata["from"]["user"].as_str().unwrap_or_default().to_owned();
            let key = metadata["key"].as_str().map(|key| -> Key { (sender, key.to_owned()) });
            let (room, place) = (room.to_owned(), (epoch.clone(), offset));
            link.note(What::Heard { room, place, payload: payload.clone(), key });
        }
        if !room.starts_with("$user/") || self.careful {
            let position = Some((epoch.clone(), offset));
            self.rooms.insert(room.to_owned(), Room { position });
        }
        let place = (room_name(room), Epoch::new(&epoch).ok_or("bad epoch")?, offset);
        let Some(applied) = truth.at(&place) else { return Ok(()) };
        match applied {
            Some(applied) if applied.payload == payload => Ok(()),
            other => Err(format!("promise 1: at this place stands {other:?}")),
        }
    }
}

impl Link {
    pub(crate) fn new(
        owner: usize,
        serial: usize,
        journal: Journal,
        seed: u8,
        hears_from_us: u64,
        deflate: Option<Agreed>,
        pool: Rc<RefCell<Pool>>,
    ) -> Self {
        let websocket = websocket::Connection::client([seed; 32]);
        Self {
            owner,
            serial,
            journal,
            websocket: deflate.into_iter().fold(websocket, websocket::Connection::with_deflate),
            pool,
            outbound: Vec::new(),
            inbound: Vec::new(),
            welcomed: false,
            dead: false,
            closed: None,
            deaf_until_us: hears_from_us,
            joined: BTreeMap::new(),
            asked: BTreeMap::new(),
            wanted: BTreeMap::new(),
            token: None,
            ticket_of: None,
            resumed: false,
            standing: None,
            hints: BTreeMap::new(),
            sent: 0,
            seen: BTreeSet::new(),
            heard: BTreeMap::new(),
        }
    }

    /// Says something, unless the connection is closing.
    pub(crate) fn say(&mut self, message: &Value) {
        let (text, out) = (message.to_string(), &mut self.outbound);
        let _ = self.websocket.send_text_with(&text, &COMPRESSED, &mut self.pool.borrow_mut(), out);
    }

    pub(crate) fn close(&mut self) {
        let _ = self.websocket.close(websocket::CloseCode::NORMAL, "", &mut self.outbound);
    }

    fn note(&self, what: What) {
        self.journal.borrow_mut().push(Event { link: self.serial, what });
    }

    fn note_joined(&self, room: &str, after: Option<(String, u64)>, payload: &Value) {
        let recovered = payload["recovered"] == json!(true);
        let (room, next) = (room.to_owned(), start(payload));
        self.note(What::Joined { room, after, next, recovered });
    }
}

fn room_name(room: &str) -> RoomName {
    RoomName::parse(room).expect("the server names rooms validly")
}

fn place(payload: &Value) -> Option<(String, u64)> {
    Some((payload["epoch"].as_str()?.to_owned(), payload["offset"].as_u64()?))
}

/// Log and first offset of a join's answer.
fn start(payload: &Value) -> Option<(String, u64)> {
    Some((payload["epoch"].as_str()?.to_owned(), payload["from"].as_u64()?))
}
