//! Whatever happens to the connection: nothing is lost or doubled in silence, and every bound holds.

use std::collections::{BTreeMap, BTreeSet};

use clarion_client::core::codec::Json;
use clarion_client::core::{
    CallId, ClientState, Options, OutboxLimits, PublishOptions, RoomEvent, RoomState,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{Ended, World};

/// A server with one logged room, which remembers keys as a server does.
#[derive(Default)]
struct Server {
    log: Vec<Value>,
    by_key: BTreeMap<String, u64>,
    /// On this connection: welcomed, member, and the first offset not yet delivered.
    welcomed: bool,
    next: Option<u64>,
    outage: bool,
}

impl Server {
    /// Handles what the client sent, up to `count` messages.
    fn work(&mut self, world: &mut World, count: usize) {
        for _ in 0..count {
            let Some(message) = world.sent.pop_front() else { break };
            let kind = message["type"].as_str().unwrap().to_owned();
            match kind.as_str() {
                "$hello" => {
                    self.welcomed = true;
                    world.say_welcome(&message, json!({}));
                    if let Some(join) = message["payload"]["rooms"].get("a") {
                        let joined = self.join(join);
                        world.say("$joined", joined, json!({"room": "a"}));
                    }
                }
                "$join" => {
                    let joined = self.join(&message["payload"]);
                    world.reply(&message, joined);
                }
                "$ping" => world.say("$pong", json!(null), json!({})),
                "x" => {
                    let key = message["metadata"]["key"].as_str().unwrap().to_owned();
                    let known = self.by_key.get(&key).copied();
                    let offset = known.unwrap_or_else(|| {
                        self.log.push(message["payload"].clone());
                        self.log.len() as u64
                    });
                    self.by_key.insert(key, offset);
                    let mut reply = json!({"epoch": "e", "offset": offset,
                        "time": "2026-01-01T00:00:00.000Z"});
                    if known.is_some() {
                        reply["duplicate"] = json!(true);
                    }
                    // Sometimes the reply is lost with the connection.
                    if !self.outage {
                        world.reply(&message, reply);
                    }
                }
                other => panic!("{other}"),
            }
        }
    }

    fn join(&mut self, payload: &Value) -> Value {
        let head = self.log.len() as u64;
        let after = payload["after"]["offset"].as_u64();
        let from = after.map_or(head + 1, |after| after + 1);
        self.next = Some(from);
        json!({"epoch": "e", "offset": head, "from": from, "recovered": after.is_some()})
    }

    /// Delivers up to `count` publications, now and then one twice.
    fn deliver(&mut self, world: &mut World, count: usize, twice: bool) {
        for _ in 0..count {
            let Some(next) = self.next.filter(|next| *next <= self.log.len() as u64) else { break };
            let metadata = json!({"room": "a", "epoch": "e", "offset": next});
            for _ in 0..=usize::from(twice) {
                world.say("x", self.log[next as usize - 1].clone(), metadata.clone());
            }
            self.next = Some(next + 1);
        }
    }

    fn drop(&mut self) {
        self.welcomed = false;
        self.next = None;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Open,
    Work(usize),
    Deliver(usize, bool),
    Lose(u16),
    Pass(u64),
    Congested(bool),
    Outage(bool),
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..20_usize).prop_map(Step::Publish),
        3 => Just(Step::Open),
        5 => (1..12_usize).prop_map(Step::Work),
        4 => (1..12_usize, any::<bool>()).prop_map(|(count, twice)| Step::Deliver(count, twice)),
        2 => prop_oneof![Just(1006), Just(1001), Just(4108), Just(4200)].prop_map(Step::Lose),
        3 => (1..9_000_u64).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Congested),
        1 => any::<bool>().prop_map(Step::Outage),
        1 => Just(Step::Cancel),
    ]
}

struct Play {
    world: World,
    server: Server,
    opened: usize,
    published: Vec<(CallId, u64)>,
    cancelled: BTreeSet<CallId>,
    seen: Vec<u64>,
    limits: OutboxLimits,
}

impl Play {
    fn new(seed: u8) -> Self {
        let limits = OutboxLimits { messages: 10, bytes: 2_000, age_ms: 20_000 };
        let options = Options { outbox: limits, ..Options::default() };
        let mut world = World::seeded(options, [seed; 32]);
        world.join("a");
        world.connect();
        Self {
            world,
            server: Server::default(),
            opened: 0,
            published: Vec::new(),
            cancelled: BTreeSet::new(),
            seen: Vec::new(),
            limits,
        }
    }

    fn step(&mut self, step: &Step) {
        let Self { world, server, .. } = self;
        match *step {
            Step::Publish(count) => {
                for _ in 0..count {
                    let number = self.published.len() as u64;
                    let payload = Json::new(&json!({"number": number, "pad": "y".repeat(150)}));
                    let options = PublishOptions::default();
                    let call = world.core.publish("a", "x", payload.unwrap(), options, world.now);
                    world.settle();
                    self.published.push((call, number));
                }
            }
            Step::Open => self.open(),
            Step::Work(count) => server.work(world, count),
            Step::Deliver(count, twice) => server.deliver(world, count, twice),
            Step::Lose(code) => {
                if world.core.status().retry_in.is_none() {
                    server.drop();
                    world.lose(code);
                }
            }
            Step::Pass(ms) => {
                let sockets = world.sockets;
                world.advance(ms);
                if world.sockets != sockets || world.core.status().retry_in.is_some() {
                    server.drop();
                }
            }
            Step::Congested(congested) => {
                world.core.on_congested(congested, world.now);
                world.settle();
            }
            Step::Outage(outage) => server.outage = outage,
            Step::Cancel => {
                if let Some((call, _)) = self.published.last()
                    && world.outcome(*call).is_none()
                {
                    world.core.cancel(*call, world.now);
                    world.settle();
                    self.cancelled.insert(*call);
                }
            }
        }
        self.check();
    }

    fn open(&mut self) {
        let Self { world, server, .. } = self;
        let waiting = world.core.status().state == ClientState::Connecting
            && world.core.status().retry_in.is_none();
        if waiting && self.opened != world.sockets {
            self.opened = world.sockets;
            server.drop();
            world.core.on_open(world.conn.unwrap(), world.now);
            world.settle();
        }
    }

    fn check(&mut self) {
        assert!(self.world.core.queued() <= self.limits.messages);
        for (_, event) in std::mem::take(&mut self.world.events) {
            match event {
                RoomEvent::Publication(publication) => {
                    let offset = publication.position.as_ref().unwrap().offset;
                    let expected = self.seen.last().map_or(offset, |last| last + 1);
                    assert_eq!(offset, expected, "lost or doubled");
                    self.seen.push(offset);
                }
                RoomEvent::Gap(gap) => panic!("{gap:?}"),
                _ => {}
            }
        }
        assert_eq!(self.world.errors, []);
    }

    /// Everything is well again; what is on its way arrives.
    fn finish(&mut self) {
        self.server.outage = false;
        for _ in 0..40 {
            self.step(&Step::Pass(3_000));
            self.open();
            self.step(&Step::Congested(false));
            self.step(&Step::Work(1_000));
            self.step(&Step::Deliver(1_000, false));
        }
        let Self { world, server, published, cancelled, seen, .. } = self;
        assert_eq!(world.room_state("a"), RoomState::Joined);
        assert_eq!(world.core.queued(), 0);
        assert_eq!(
            seen.last().copied().unwrap_or(0),
            if seen.is_empty() { 0 } else { server.log.len() as u64 }
        );
        let numbers: Vec<_> = server.log.iter().map(|it| it["number"].as_u64().unwrap()).collect();
        let unique: BTreeSet<_> = numbers.iter().copied().collect();
        assert_eq!(unique.len(), numbers.len(), "a publication is in the log twice");
        for (call, number) in published {
            match world.outcome(*call) {
                Some(Ended::Well(_)) => assert!(unique.contains(number), "acknowledged and lost"),
                Some(Ended::Unpublished(error)) if error.error.name() == "queue_full" => {}
                // Its outcome is unknown, and the caller has been told.
                Some(Ended::Unpublished(error)) => assert!(error.is_temporary(), "{error:?}"),
                None => assert!(cancelled.contains(call), "{call:?} never settled"),
                other => panic!("{other:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_doubled_over_random_disconnects(
        seed: u8,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut play = Play::new(seed);
        for step in &steps {
            play.step(step);
        }
        play.finish();
    }

    #[test]
    fn any_text_is_survived(texts in prop::collection::vec(".*", 1..20), welcomed: bool) {
        let mut world = World::new();
        world.join("a");
        world.connect();
        if welcomed {
            world.welcome(json!({}));
        }
        for text in &texts {
            world.say_text(text);
        }
        prop_assert!(world.state() != ClientState::Closed);
    }

    #[test]
    fn messages_of_any_payload_are_survived(
        kind in prop_oneof![Just("$welcome"), Just("$reply"), Just("$error"), Just("$joined"),
            Just("$left"), Just("$gap"), Just("$members"), Just("$reconnect"), Just("$refresh"),
            Just("$pong"), Just("x")],
        numbers in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 6),
        epoch in "[a-b]?",
    ) {
        let mut world = World::new();
        world.connected();
        world.join("a");
        let join = world.next("$join");
        world.reply(&join, json!({"epoch": "a", "offset": numbers[0], "from": numbers[1]}));
        let payload = json!({"epoch": epoch, "offset": numbers[2], "from": numbers[3],
            "after_ms": numbers[4], "retry_after_ms": numbers[4], "ticket_ttl_ms": numbers[4],
            "code": numbers[5], "name": "n", "reason": "r", "count": numbers[5], "client": "c",
            "user": "u", "heartbeat_ms": numbers[5], "limits": {"message_bytes": numbers[5],
            "publish_per_s": numbers[4]}});
        world.say(kind, payload, json!({"room": "a", "epoch": epoch, "offset": numbers[3]}));
        world.publish("a", 1);
        world.advance(10);
        if world.conn.is_some() && world.core.status().retry_in.is_none() {
            world.lose(1006);
        }
        world.advance(100_000);
    }
}
