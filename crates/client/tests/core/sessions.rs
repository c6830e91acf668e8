//! Runs `spec/vectors/sessions` with the core as the client and this file as the server, as the
//! README there says.
//!
//! A connection is played by the SDK when everything that is sent on it is the SDK's: what an
//! application asked for, or the `$hello` after a lost connection. Others are other people.

use std::collections::{BTreeMap, BTreeSet};

use clarion_client::core::codec::Json;
use clarion_client::core::{
    CallId, ClientState, JoinOptions, Options, PublishOptions, RoomEvent, RoomState,
};
use clarion_protocol::close::{self, Policy};
use clarion_protocol::{Epoch, Position};
use serde_json::{Map, Value, json};

use crate::world::{Ended, World};

#[test]
fn sessions_go_as_the_vectors_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/sessions");
    let mut played = 0;
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the sessions")
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        let file: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for session in file["sessions"].as_array().expect("sessions") {
            let steps = session["steps"].as_array().expect("steps");
            let labels = played_by_sdk(steps);
            if labels.is_empty() {
                continue;
            }
            played += 1;
            println!("{} in {}", session["name"], path.display());
            let mut runner = Runner { labels, players: BTreeMap::new(), count: None };
            runner.run(steps);
        }
    }
    assert!(played >= 30, "only {played} sessions were played");
}

fn played_by_sdk(steps: &[Value]) -> BTreeSet<String> {
    let mut seen = Seen::default();
    seen.visit(steps);
    let Seen { labels, others, started, .. } = seen;
    labels.into_iter().filter(|it| started.contains(it) && !others.contains(it)).collect()
}

#[derive(Default)]
struct Seen {
    labels: BTreeSet<String>,
    others: BTreeSet<String>,
    lost: BTreeSet<String>,
    started: BTreeSet<String>,
    joined: BTreeSet<(String, String)>,
}

impl Seen {
    fn visit(&mut self, steps: &[Value]) {
        for step in steps {
            if let Some(inner) = step["steps"].as_array() {
                self.visit(inner);
            }
            if step["server"].is_string() {
                self.lost.extend(self.labels.iter().cloned());
            }
            let Some(at) = step["at"].as_str().map(str::to_owned) else { continue };
            if let Some(connect) = step["connect"].as_object() {
                let ours = connect["subprotocol"] == "clarion.v1.json";
                if ours { &mut self.labels } else { &mut self.others }.insert(at.clone());
            }
            if step["drop"] == true {
                self.lost.insert(at.clone());
            }
            if step["do"]["connect"].is_object() {
                self.started.insert(at.clone());
            }
            if let Some(room) = step["do"]["join"].as_str() {
                self.joined.insert((at.clone(), room.to_owned()));
            }
            if step["send"].is_null() || step["do"].is_object() {
                continue;
            }
            let payload = &step["send"]["payload"];
            let own = format!("<ticket:{at}");
            let resumes = payload["ticket"].as_str().is_some_and(|it| it.starts_with(&own));
            let rooms = payload["rooms"].as_object().cloned().unwrap_or_default();
            let wanted = rooms.keys().all(|it| self.joined.contains(&(at.clone(), it.clone())));
            let hello = step["send"]["type"] == "$hello";
            if !(hello && resumes && wanted && self.lost.contains(&at)) {
                self.others.insert(at);
            }
        }
    }
}

struct Player {
    world: World,
    /// Ids of the vector to those of the SDK.
    ids: BTreeMap<String, Value>,
    /// What the application asked for, by id of the vector.
    calls: BTreeMap<String, CallId>,
}

struct Runner {
    labels: BTreeSet<String>,
    players: BTreeMap<String, Player>,
    /// The count of `repeat`.
    count: Option<u64>,
}

impl Runner {
    fn run(&mut self, steps: &[Value]) {
        for step in steps {
            if let Some(times) = step["repeat"].as_u64() {
                for count in 1..=times {
                    self.count = Some(count);
                    self.run(step["steps"].as_array().expect("steps"));
                }
            } else if step["server"].is_string() {
                self.players.values_mut().for_each(Player::lose);
            } else if let Some(ms) = step["wait_ms"].as_u64() {
                self.players.values_mut().for_each(|player| player.world.advance(ms));
            } else if let Some(at) = step["at"].as_str()
                && self.labels.contains(at)
            {
                self.step(at, step);
            }
        }
    }

    fn step(&mut self, at: &str, step: &Value) {
        if step["send"].is_object() {
            let envelope = self.fill(&step["send"]);
            let player = self.players.entry(at.to_owned()).or_insert_with(|| {
                let token = envelope["payload"]["token"].as_str().map(str::to_owned);
                let world = World::with(Options { token, ..Options::default() });
                Player { world, ids: BTreeMap::new(), calls: BTreeMap::new() }
            });
            player.send(&step["do"], &envelope);
        }
        let says = [&step["expect"], &step["skip_until"]].into_iter().filter(|it| it.is_object());
        let all = step["expect_all"].as_array().into_iter().flatten();
        let said: Vec<_> = says.chain(all).map(|envelope| self.fill(envelope)).collect();
        let run = step["expect_run"].is_object().then(|| self.fill(&step["expect_run"]));
        let Some(player) = self.players.get_mut(at) else { return };
        for envelope in &said {
            player.hear(envelope);
        }
        if let Some(run) = run {
            player.hear_run(&run);
        }
        for end in [&step["expect_close"], &step["skip_until_close"]] {
            let Some(code) = end["code"].as_u64() else { continue };
            player.world.lose(code as u16);
            let stops = close::policy(code as u16) == Policy::Stop;
            let expected = if stops { ClientState::Closed } else { ClientState::Connecting };
            assert_eq!(player.world.state(), expected);
        }
        if step["drop"] == true {
            player.lose();
        }
        if let Some(code) = step["close"]["code"].as_u64() {
            player.world.close();
            assert_eq!(player.world.closed.as_ref().map(|it| u64::from(it.0)), Some(code));
        }
        if step["connect"].is_object() && player.world.core.status().retry_in.is_some() {
            player.world.reconnect();
        }
    }

    /// Replaces placeholders by values; `<absent>` members go.
    fn fill(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(members) => {
                let there = members.iter().filter(|(_, member)| **member != "<absent>");
                let filled: Map<_, _> =
                    there.map(|(name, member)| (name.clone(), self.fill(member))).collect();
                Value::Object(filled)
            }
            Value::String(text) if text.starts_with('<') => {
                let inner = text.trim_matches(['<', '>']);
                let (kind, label) = inner.split_once(':').unwrap_or((inner, ""));
                match kind {
                    "n" => json!(self.count),
                    "integer" => json!(1_000_000),
                    "instant" => json!("2026-01-01T12:00:00.000Z"),
                    "text" => json!("x".repeat(label.parse().expect("a length"))),
                    _ => json!(format!("{kind}-{label}")),
                }
            }
            other => other.clone(),
        }
    }
}

impl Player {
    fn lose(&mut self) {
        if self.world.state() == ClientState::Connected {
            self.world.lose(1006);
        }
    }

    /// The application does something, or nothing, and the SDK sends this.
    fn send(&mut self, action: &Value, expected: &Value) {
        let world = &mut self.world;
        let kind = expected["type"].as_str().expect("a type");
        let sent = if kind == "$hello" {
            if world.state() == ClientState::Idle {
                let rooms = expected["payload"]["rooms"].as_object().cloned().unwrap_or_default();
                for (room, options) in &rooms {
                    world.join_with(room, join_options(options));
                }
                world.connect();
            }
            world.open()
        } else {
            if let Some(call) = act(world, action, expected) {
                self.calls.insert(expected["metadata"]["id"].to_string(), call);
            }
            world.next(kind)
        };
        self.ids.insert(expected["metadata"]["id"].to_string(), sent["metadata"]["id"].clone());
        assert_contains(&sent["payload"], &expected["payload"]);
        let mut metadata = expected["metadata"].clone();
        metadata.as_object_mut().expect("an object").remove("id");
        assert_contains(&sent["metadata"], &metadata);
    }

    /// The server says this, and the SDK has to understand it.
    fn hear(&mut self, envelope: &Value) {
        let world = &mut self.world;
        let mut metadata = envelope["metadata"].clone();
        let vector_id = metadata["id"].to_string();
        if let Some(id) = self.ids.get(&vector_id).filter(|_| metadata.get("id").is_some()) {
            metadata["id"] = id.clone();
        }
        let kind = envelope["type"].as_str().expect("a type");
        let room = metadata["room"].as_str().unwrap_or_default().to_owned();
        world.take_events();
        world.say(kind, envelope["payload"].clone(), metadata.clone());
        let ended = self.calls.get(&vector_id).and_then(|call| world.outcome(*call));
        match kind {
            "$welcome" => {
                let client = world.core.session().map(|session| json!(session.client));
                assert_eq!(client.as_ref(), Some(&envelope["payload"]["client"]));
            }
            "$joined" => assert_eq!(world.room_state(&room), RoomState::Joined),
            "$reply" => assert!(matches!(ended, Some(Ended::Well(_))), "{envelope}: {ended:?}"),
            "$error" if metadata.get("id").is_some() => {
                let name = envelope["payload"]["name"].as_str().expect("a name");
                assert_eq!(ended.map(Ended::error_name), Some(name), "{envelope}");
            }
            kind if !kind.starts_with('$') && world.room_state(&room) == RoomState::Joined => {
                let publications = world.take_publications();
                assert_eq!(publications.len(), 1, "{envelope}");
                assert_eq!(publications[0].kind, kind);
                assert_eq!(publications[0].payload.parse::<Value>().unwrap(), envelope["payload"]);
                let offset = publications[0].position.as_ref().map(|position| position.offset);
                assert_eq!(offset, metadata["offset"].as_u64());
            }
            _ => {}
        }
        assert_eq!(world.errors, [], "{envelope}");
    }

    fn hear_run(&mut self, run: &Value) {
        let world = &mut self.world;
        let (room, epoch) = (run["room"].as_str().unwrap(), run["epoch"].as_str().unwrap());
        let (from, to) = (run["from"].as_u64().unwrap(), run["to"].as_u64().unwrap());
        world.take_events();
        // A log that is trimmed under its reader: the first half never arrives, and that is said.
        let reason = run["gaps"].as_array().and_then(|gaps| gaps.first());
        let start = if reason.is_some() { u64::midpoint(from, to) } else { from };
        if let Some(reason) = reason.filter(|_| start > from) {
            let gap = json!({"reason": reason, "epoch": epoch, "offset": start - 1,
                "from": from, "to": start - 1});
            world.say("$gap", gap, json!({ "room": room }));
            let gaps: Vec<_> = world.gaps().iter().map(|gap| json!(gap.reason)).collect();
            assert_eq!(gaps, std::slice::from_ref(reason));
        }
        for offset in start..=to {
            world.publication(room, epoch, offset);
        }
        let found: Vec<_> = world
            .take_publications()
            .iter()
            .map(|it| it.position.as_ref().unwrap().offset)
            .collect();
        assert_eq!(found, (start..=to).collect::<Vec<_>>());
        let hidden = world.events.iter().filter(|(_, event)| matches!(event, RoomEvent::Gap(_)));
        assert_eq!(hidden.count(), usize::from(start > from));
        assert_eq!(world.errors, []);
    }
}

fn act(world: &mut World, action: &Value, expected: &Value) -> Option<CallId> {
    let metadata = &expected["metadata"];
    let room = metadata["room"].as_str().unwrap_or_default();
    if action["join"].is_string() {
        return Some(world.join_with(room, join_options(&expected["payload"])));
    }
    if action["leave"].is_string() {
        return Some(world.leave(room));
    }
    if action["publish"].is_string() {
        let options = PublishOptions {
            key: metadata["key"].as_str().map(str::to_owned),
            ephemeral: metadata["ephemeral"] == true,
            ..PublishOptions::default()
        };
        let payload = Json::new(&expected["payload"]).unwrap();
        let kind = expected["type"].as_str().unwrap();
        let call = world.core.publish(room, kind, payload, options, world.now);
        world.settle();
        return Some(call);
    }
    None
}

fn join_options(payload: &Value) -> JoinOptions {
    let after = &payload["after"];
    let epoch = after["epoch"].as_str().and_then(Epoch::new);
    JoinOptions {
        after: epoch.map(|epoch| Position::new(epoch, after["offset"].as_u64().unwrap())),
        last: payload["last"].as_u64(),
        members: payload["members"] == true,
    }
}

/// Matching as the README says, placeholders aside.
fn assert_contains(found: &Value, expected: &Value) {
    match expected {
        Value::Object(members) => {
            for (name, member) in members {
                assert!(found.get(name).is_some(), "no {name} in {found}");
                assert_contains(&found[name], member);
            }
        }
        Value::Null if found.is_object() => {}
        _ => assert_eq!(found, expected),
    }
}
