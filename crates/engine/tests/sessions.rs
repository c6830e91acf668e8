//! The scripted sessions of `spec/vectors/sessions` with one shard as the server: all of them, also
//! those that need tokens, permissions or a log that survives, which this version's binary has not.
//!
//! Time is virtual, so whoever waits waits for nothing. What the steps mean is in
//! `spec/vectors/README.md`.

mod rig;

use clarion_engine::config::{Access, Config, Permissions, RoomRule, RoomSettings};
use clarion_protocol::Pattern;
use clarion_store::LogLimits;
use rig::{Client, Rig, config, user_token};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};

/// How long a message is waited for.
const PATIENCE_MS: u64 = 40_000;

#[test]
fn scripted_sessions_run_as_they_are_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/sessions");
    let wanted = std::env::var("CLARION_SESSION").ok();
    let (mut ran, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).expect("the sessions") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file");
        let file: Value = serde_json::from_str(&text).expect("JSON");
        for session in file["sessions"].as_array().expect("sessions") {
            let name = session["name"].as_str().expect("a name");
            if wanted.as_deref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            ran += 1;
            let outcome = Run::new(&session["settings"]).steps(&session["steps"]);
            failures.extend(outcome.err().map(|why| format!("{name}: {why}")));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    assert!(ran > 40 || wanted.is_some(), "only {ran} sessions");
}

struct Peer {
    client: Client,
    inbox: VecDeque<Value>,
    is_deaf: bool,
    is_gone: bool,
}

/// One session: its connections by name, and what its placeholders stand for.
struct Run {
    rig: Rig,
    peers: BTreeMap<String, Peer>,
    bound: Map<String, Value>,
    count: Option<u64>,
    survives: bool,
}

impl Run {
    fn new(settings: &Value) -> Self {
        let mut rig = Rig::new(configured(settings));
        rig.effects.tokens = ["ada", "bob", "carol"]
            .map(|user| (format!("<token:{user}>"), user_token(user)))
            .into();
        rig.effects.permissions = Some(configured(settings));
        let survives = settings.to_string().contains("\"durable\"");
        Self { rig, peers: BTreeMap::new(), bound: Map::new(), count: None, survives }
    }

    fn steps(&mut self, steps: &Value) -> Result<(), String> {
        for (number, step) in steps.as_array().expect("steps").iter().enumerate() {
            let why = |why| format!("step {}, {step}: {why}", number + 1);
            self.step(step).map_err(why)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Value) -> Result<(), String> {
        if let Some(times) = step["repeat"].as_u64() {
            for n in 1..=times {
                self.count = Some(n);
                self.steps(&step["steps"])?;
            }
            self.count = None;
            return Ok(());
        }
        if !step["server"].is_null() {
            self.rig.restart(self.survives);
            self.peers.clear();
            return Ok(());
        }
        if let Some(ms) = step["wait_ms"].as_u64() {
            self.pass(ms);
            return Ok(());
        }
        let at = step["at"].as_str().ok_or("nobody does this")?;
        let verb = step.as_object().expect("an object").keys();
        let verb = verb.map(String::as_str).find(|key| !["at", "do"].contains(key));
        let verb = verb.ok_or("nothing to do")?;
        let value = &step[verb];
        match verb {
            "connect" => {
                let client = self.rig.open(value["subprotocol"].is_string());
                let peer = Peer { client, inbox: VecDeque::new(), is_deaf: false, is_gone: false };
                self.peers.insert(at.to_owned(), peer);
            }
            "send" => {
                let text = self.fill(value).to_string();
                self.rig.say_text(self.peers[at].client, &text);
            }
            "expect" => {
                let message = self.next(at)?;
                self.expect(value, &message)?;
            }
            "expect_all" => {
                let mut rest: Vec<_> = value.as_array().expect("messages").iter().collect();
                while !rest.is_empty() {
                    let message = self.next(at)?;
                    let found = rest.iter().position(|one| self.expect(one, &message).is_ok());
                    rest.remove(found.ok_or_else(|| format!("got {message}"))?);
                }
            }
            "expect_run" => self.expect_run(at, value)?,
            "skip_until" => loop {
                let message = self.next(at)?;
                if self.expect(value, &message).is_ok() {
                    break;
                }
            },
            "skip_until_close" => while self.next(at)?["closed"] != value["code"] {},
            "expect_close" => {
                let message = self.next(at)?;
                if message["closed"] != value["code"] {
                    return Err(format!("got {message}"));
                }
            }
            "expect_nothing" => {
                self.pass(200);
                self.read();
                if let Some(message) = self.peers[at].inbox.front() {
                    return Err(format!("got {message}"));
                }
            }
            "close" => {
                let client = self.peers[at].client;
                self.rig.hang_up(client, value["code"].as_u64().expect("a code") as u16);
                self.gone(at);
            }
            "drop" => {
                let client = self.peers[at].client;
                self.rig.break_off(client);
                self.gone(at);
            }
            "reading" => {
                let reads = value.as_bool().expect("true or false");
                let peer = self.peers.get_mut(at).expect("a connection");
                peer.is_deaf = !reads;
                if reads {
                    self.rig.listen(peer.client);
                } else {
                    self.rig.effects.deaf.push(peer.client);
                }
            }
            other => return Err(format!("no such step: {other}")),
        }
        Ok(())
    }

    fn gone(&mut self, at: &str) {
        self.peers.get_mut(at).expect("a connection").is_gone = true;
    }

    /// Lets time pass in small pieces, so that Pings are answered.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(50) {
            self.rig.pass(50.min(ms));
            self.read();
        }
    }

    /// Reads for everybody who does: heartbeats are answered by reading.
    fn read(&mut self) {
        for peer in self.peers.values_mut().filter(|peer| !peer.is_deaf && !peer.is_gone) {
            peer.inbox.extend(self.rig.hear(peer.client).into_iter().filter(|message| {
                let room = message["metadata"]["room"].as_str().unwrap_or_default();
                let is_own = message["type"] == "$joined" && room.starts_with("$user/");
                *message != "ping" && !is_own
            }));
        }
    }

    fn next(&mut self, at: &str) -> Result<Value, String> {
        for _ in 0..PATIENCE_MS / 50 {
            self.read();
            if let Some(message) = self.peers.get_mut(at).expect("known").inbox.pop_front() {
                return Ok(message);
            }
            self.rig.pass(50);
        }
        Err("nothing came".into())
    }

    fn expect_run(&mut self, at: &str, run: &Value) -> Result<(), String> {
        let run = self.fill(run);
        let gaps = run["gaps"].as_array().cloned().unwrap_or_default();
        let (mut wanted, last) = (run["from"].as_u64().unwrap(), run["to"].as_u64().unwrap());
        while wanted <= last {
            let message = self.next(at)?;
            let (payload, metadata) = (&message["payload"], &message["metadata"]);
            let offset = payload["offset"].as_u64().filter(|offset| *offset >= wanted);
            if message["type"] == "$gap" && gaps.contains(&payload["reason"]) {
                wanted = offset.ok_or_else(|| format!("got {message}"))? + 1;
                continue;
            }
            let found = json!([metadata["room"], metadata["epoch"], metadata["offset"]]);
            let is_push = message["type"].as_str().is_none_or(|kind| kind.starts_with('$'));
            if is_push || found != json!([run["room"], run["epoch"], wanted]) {
                return Err(format!("wanted {wanted}, got {message}"));
            }
            wanted += 1;
        }
        Ok(())
    }

    /// `value` with its placeholders replaced by what they stand for.
    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                members.iter().map(|(name, inner)| (name.clone(), self.fill(inner))).collect()
            }
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::String(text) if text.starts_with('<') => {
                if text == "<n>" {
                    json!(self.count)
                } else if let Some(n) = text.strip_prefix("<text:") {
                    json!("x".repeat(n.trim_end_matches('>').parse().expect("a length")))
                } else if text.starts_with("<token:") {
                    value.clone()
                } else {
                    self.bound.get(text).unwrap_or_else(|| panic!("{text} is not bound")).clone()
                }
            }
            other => other.clone(),
        }
    }

    /// Placeholders are bound only if all of it matches.
    fn expect(&mut self, expected: &Value, actual: &Value) -> Result<(), String> {
        let mut bound = self.bound.clone();
        if self.matches(expected, Some(actual), &mut bound) {
            self.bound = bound;
            return Ok(());
        }
        Err(format!("got {actual}"))
    }

    fn matches(
        &self,
        expected: &Value,
        actual: Option<&Value>,
        bound: &mut Map<String, Value>,
    ) -> bool {
        if expected == "<absent>" {
            return actual.is_none();
        }
        let Some(actual) = actual else { return false };
        match expected {
            Value::Object(members) => {
                members.iter().all(|(name, inner)| self.matches(inner, actual.get(name), bound))
            }
            Value::Array(items) => {
                let Some(found) = actual.as_array() else { return false };
                let mut pairs = items.iter().zip(found);
                items.len() == found.len() && pairs.all(|(e, a)| self.matches(e, Some(a), bound))
            }
            Value::String(text) if text.starts_with('<') => match text.as_str() {
                "<string>" => actual.is_string(),
                "<integer>" => actual.is_u64(),
                "<instant>" => actual.as_str().is_some_and(is_instant),
                "<n>" => *actual == json!(self.count),
                _ if text.starts_with("<text:") => *actual == self.fill(expected),
                _ => {
                    let kind = text.split(':').next().expect("a kind");
                    let is_taken = bound.iter().any(|(name, value)| {
                        name != text && name.starts_with(kind) && value == actual
                    });
                    let is_text = actual.as_str().is_some_and(|text| !text.is_empty());
                    is_text
                        && !is_taken
                        && *bound.entry(text.clone()).or_insert_with(|| actual.clone()) == *actual
                }
            },
            other => other == actual,
        }
    }
}

fn is_instant(text: &str) -> bool {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    form == "0000-00-00T00:00:00.000Z"
}

fn pattern(room: &Value) -> Pattern {
    Pattern::parse(room["match"].as_str().expect("a pattern")).expect("a good one")
}

/// `500ms`, `1s`.
fn span_ms(value: &Value) -> u64 {
    let text = value.as_str().expect("a span");
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse().expect("milliseconds"),
        None => {
            1_000 * text.strip_suffix('s').and_then(|s| s.parse::<u64>().ok()).expect("seconds")
        }
    }
}

fn configured(settings: &Value) -> Config {
    let mut result = Config { rooms: Vec::new(), ..config() };
    for (name, value) in settings.as_object().expect("settings") {
        match name.as_str() {
            "handshake" => result.limits.handshake_ms = span_ms(value),
            "rooms" => {
                for room in value.as_array().expect("rooms") {
                    let size = room["size"].as_u64().unwrap_or(1_000) as u32;
                    // The vectors count publications; their bytes are not meant to matter.
                    let limits = LogLimits { size, bytes: 256 << 20, ..LogLimits::default() };
                    let log = (room["log"] != "none").then_some(limits);
                    let presence = room["presence"].as_bool().unwrap_or(true);
                    let who = |name| match room[name].as_str() {
                        None | Some("everyone") => Access::Everyone,
                        Some("nobody") => Access::Nobody,
                        other => panic!("{name} = {other:?} means nothing here"),
                    };
                    let permissions = Permissions::new(who("join"), who("publish"));
                    let settings =
                        RoomSettings { log, presence, permissions, ..RoomSettings::default() };
                    result.rooms.push(RoomRule { pattern: pattern(room), settings });
                }
            }
            "limits" => {
                for (name, value) in value.as_object().expect("limits") {
                    let number = value.as_u64().unwrap_or_default();
                    match name.as_str() {
                        "publish_per_s" => result.limits.publish_per_s = number as u32,
                        "commands_per_s" => result.limits.commands_per_s = number as u32,
                        "bytes_per_s" => result.limits.bytes_per_s = number as u32,
                        "outbox_bytes" => result.limits.outbox_bytes = number as usize,
                        "delivery_bytes" => result.limits.delivery_bytes = number as usize,
                        "slow_grace" => result.limits.slow_grace_ms = span_ms(value),
                        other => panic!("limits.{other} means nothing here"),
                    }
                }
            }
            other => panic!("{other} means nothing here"),
        }
    }
    result
}
