//! A run: workers, their sockets and mailboxes, the store and the clients, in one thread.

use crate::client::{Client, Journal, LOGGED, Link, UNLOGGED};
use crate::driver::Driver;
use crate::plan::Plan;
use crate::revoked::Revocation;
use crate::rng::Rng;
use crate::truth::TruthStore;
use clarion_engine::config::{
    Config, Deflate, Heartbeat, Limits, Presence, RoomRule, RoomSettings, Session, Unshared,
};
use clarion_engine::{ConnId, Endpoint, Mail, Now, Open, Shard, WorkerId};
use clarion_protocol::Pattern;
use clarion_store::LogLimits;
use clarion_websocket::deflate::{self, Pool};
use clarion_websocket::handshake::Extension;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

mod api;
mod rest;

use self::api::Call;

/// Groups of the HTTP API.
const GROUPS: [&str; 2] = ["g0", "g1"];
/// What a kernel holds for a client that does not read.
const WINDOW: usize = 2_000;
/// The most that is read of a connection at once.
const SLICE: usize = 8_000;
/// More than a turn can add to an outbox that is at its bound: the replies to one slice of input and
/// to the commands under way.
pub(crate) const OUTBOX_SLACK: usize = SLICE + 8 * 5_000;

/// Runs a plan to its end, and says what kinds of thing happened to clients and workers.
///
/// # Errors
/// The first promise that was found broken.
pub fn run(plan: &Plan) -> Result<BTreeSet<String>, String> {
    let mut world = World::new(plan.clone());
    for step in 0..plan.steps {
        world.step().map_err(|violation| format!("step {step}: {violation}"))?;
    }
    world.come_to_rest().map_err(|violation| format!("at rest: {violation}"))?;
    let mut seen = std::mem::take(&mut world.seen);
    seen.extend(world.truth.seen());
    seen.extend(world.links.iter().flat_map(|link| link.seen.iter().cloned()));
    Ok(seen)
}

struct World {
    plan: Plan,
    rng: Rng,
    now: Now,
    config: Arc<Config>,
    nodes: Vec<(Shard, Driver)>,
    truth: TruthStore,
    clients: Vec<Client>,
    links: Vec<Link>,
    /// Who is in which group, by what the API said; `None` if that is not known.
    grouped: BTreeMap<(&'static str, String), Option<bool>>,
    revoked: Vec<Revocation>,
    /// What all connections of clients, and the API, said and were told.
    journal: Journal,
    /// How often the node was killed.
    kills: usize,
    /// What the API has to publish until it is acknowledged: room, key and payload.
    again: Vec<(String, String, String)>,
    /// Of all clients: to make one for each takes longer than everything else they do.
    pool: Rc<RefCell<Pool>>,
    /// Requests of the API that were not answered yet.
    api: BTreeMap<u64, Call>,
    next_api: u64,
    quiet: bool,
    /// What kinds of thing happened between workers.
    seen: BTreeSet<String>,
}

/// Workers of a process that starts.
fn nodes(plan: &Plan, config: &Arc<Config>, seed: u64) -> Vec<(Shard, Driver)> {
    let node = |id| {
        let mut shard = Shard::new(WorkerId(id), Arc::clone(config));
        if let Some(fault) = plan.fault {
            shard.plant(fault);
        }
        (shard, Driver::new(WorkerId(id), plan.workers, plan.late, seed))
    };
    (0..plan.workers).map(node).collect()
}

impl World {
    fn new(plan: Plan) -> Self {
        let config = Arc::new(config(plan.workers, plan.seed, plan.kills));
        let truth = TruthStore::new(plan.late, plan.store_faults, loses(&plan));
        let client = |index| Client::new(index, plan.kills);
        Self {
            rng: Rng::new(plan.seed),
            now: Now { mono_us: 1_000_000, wall_ms: 1_700_000_000_000 },
            nodes: nodes(&plan, &config, plan.seed),
            truth: if plan.kills { truth.with_disk(plan.sabotage) } else { truth },
            clients: (0..plan.clients).map(client).collect(),
            links: Vec::new(),
            grouped: BTreeMap::new(),
            revoked: Vec::new(),
            journal: Journal::default(),
            kills: 0,
            again: Vec::new(),
            pool: Rc::default(),
            api: BTreeMap::new(),
            next_api: 0,
            quiet: false,
            seen: BTreeSet::new(),
            config,
            plan,
        }
    }

    /// Something happens.
    fn step(&mut self) -> Result<(), String> {
        if self.plan.kills && self.rng.below(150) == 0 {
            return self.kill();
        }
        let client = self.rng.below(self.clients.len());
        if self.plan.revokes && self.rng.chance(4) {
            self.revoke_or_refresh(client);
            return Ok(());
        }
        match self.rng.below(24) {
            0..=6 => self.act(client),
            7 => match self.rng.below(8) {
                0 => self.move_by_api(),
                1 => self.group_by_api(),
                2 => self.ask_by_api(),
                _ => self.publish_by_api(),
            },
            8 if self.plan.drops && self.rng.chance(40) => self.drop_link(client),
            9 if self.plan.races && self.rng.chance(40) => {
                if self.links_welcomed(client) {
                    self.connect(client);
                }
            }
            10 if self.rng.chance(15) => {
                if let Some(link) = self.current(client) {
                    self.links[link].close();
                }
            }
            11..=14 => self.read_some(client)?,
            15 if self.rng.chance(10) => self.advance(5_000_000),
            15 | 16 => self.advance(30_000),
            _ => {
                let worker = self.rng.below(self.nodes.len());
                self.turn(worker)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, at_most_us: usize) {
        let by = self.rng.below(at_most_us) as u64;
        self.now.mono_us += by;
        self.now.wall_ms = 1_700_000_000_000 + self.now.mono_us / 1_000;
    }

    // Clients.

    fn current(&self, client: usize) -> Option<usize> {
        self.clients[client].current.filter(|link| {
            let link = &self.links[*link];
            !link.dead && link.closed.is_none()
        })
    }

    fn links_welcomed(&self, client: usize) -> bool {
        self.current(client).is_some_and(|link| self.links[link].welcomed)
    }

    fn act(&mut self, client: usize) {
        let Some(link) = self.current(client) else { return self.connect(client) };
        if self.links[link].welcomed && self.links[link].outbound.len() < 100_000 {
            let (slow, now_us) = (self.plan.slow, self.now.mono_us);
            self.clients[client].act(&mut self.links[link], slow, now_us, &mut self.rng);
        }
    }

    fn connect(&mut self, client: usize) {
        let worker = self.rng.below(self.nodes.len());
        let link = self.links.len();
        let (shard, driver) = &mut self.nodes[worker];
        let conn = driver.open(link);
        let seed = self.rng.next() as u8;
        let now_us = self.now.mono_us;
        let deflate = if self.plan.deflate { agreed(&mut self.rng) } else { None };
        let pool = Rc::clone(&self.pool);
        let journal = Rc::clone(&self.journal);
        self.links.push(Link::new(client, link, journal, seed, now_us, deflate, pool));
        if self.plan.kills && self.rng.chance(30) {
            // As another device of the user, which was never here.
            self.clients[client].rooms.retain(|room, _| !room.starts_with("$user/"));
        }
        let refused = self.clients[client].current.and_then(|link| self.links[link].closed);
        if self.plan.revokes
            && (self.clients[client].token.is_none() || matches!(refused, Some(4001 | 4102)))
        {
            self.clients[client].renew(self.now.wall_ms);
        }
        self.clients[client].current = Some(link);
        self.clients[client].hello(&mut self.links[link]);
        let open = Open {
            conn,
            endpoint: Endpoint::Session,
            deflate,
            hello: true,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            credentials: None,
        };
        shard.on_open(open, self.now, driver);
    }

    /// The node ends, or its power does, and it starts again. Of what it said, each client has as much
    /// as had reached it.
    fn kill(&mut self) -> Result<(), String> {
        for link in 0..self.links.len() {
            if self.links[link].dead {
                continue;
            }
            let amount = self.rng.below(self.links[link].inbound.len() + 1);
            self.read_link(link, amount)?;
            let link = &mut self.links[link];
            link.dead = true;
            link.outbound.clear();
            link.inbound.clear();
        }
        let power = self.rng.chance(50);
        self.seen.insert(format!("a loss of {}", if power { "power" } else { "the process" }));
        self.truth.kill(power, &mut self.rng);
        self.advance(2_000_000);
        self.kills += 1;
        let seed = self.plan.seed ^ (self.kills as u64) << 40;
        self.nodes = nodes(&self.plan, &self.config, seed);
        for (_, call) in std::mem::take(&mut self.api) {
            self.unanswered(call);
        }
        self.rerevoke()?;
        self.regroup()
    }

    /// The connection breaks; what was under way in both directions is lost.
    fn drop_link(&mut self, client: usize) {
        if let Some(link) = self.current(client) {
            let link = &mut self.links[link];
            link.dead = true;
            link.outbound.clear();
            link.inbound.clear();
        }
    }

    fn read_some(&mut self, client: usize) -> Result<(), String> {
        for index in 0..self.links.len() {
            let link = &self.links[index];
            if link.owner != client || link.dead || link.deaf_until_us > self.now.mono_us {
                continue;
            }
            let amount = match self.quiet {
                true => usize::MAX,
                false => self.rng.below(1_500),
            };
            self.read_link(index, amount)?;
        }
        Ok(())
    }

    fn read_link(&mut self, index: usize, amount: usize) -> Result<(), String> {
        let link = &mut self.links[index];
        let owner = link.owner;
        // An older link still gets what was sent to it, but its session is another's.
        let mut client = std::mem::replace(&mut self.clients[owner], Client::new(owner, false));
        let was_welcomed = link.welcomed;
        let result = match client.current == Some(index) {
            true => client.read(link, amount, &self.truth),
            false => {
                let mut stranger = Client::new(owner, client.careful);
                stranger.client.clone_from(&client.client);
                stranger.user.clone_from(&client.user);
                stranger.read(link, amount, &self.truth)
            }
        };
        self.clients[owner] = client;
        let let_in = self.links[index].welcomed && !was_welcomed;
        result
            .and_then(|()| if let_in { self.check_standing(index, true) } else { Ok(()) })
            .map_err(|violation| format!("client {owner}, link {index}: {violation}"))
    }

    /// Section 3: nobody stands on what was revoked, least of all who was let in `afterwards`.
    fn check_standing(&self, index: usize, afterwards: bool) -> Result<(), String> {
        let (link, now_ms) = (&self.links[index], self.now.wall_ms);
        let ticket_of = link.ticket_of.iter().filter(|_| link.resumed && afterwards);
        let since = afterwards.then_some(index);
        for standing in link.standing.iter().chain(ticket_of) {
            let forbids = |it: &&Revocation| it.forbids(standing, since, now_ms);
            if let Some(revocation) = self.revoked.iter().find(forbids) {
                return Err(format!("section 3: {standing:?} is in, though {revocation:?}"));
            }
        }
        Ok(())
    }

    // Workers.

    /// One turn of a worker, with as much input as chance gives it.
    fn turn(&mut self, worker: usize) -> Result<(), String> {
        let now = self.now;
        self.take_input(worker)?;
        self.take_mail(worker);
        let (shard, driver) = &mut self.nodes[worker];
        for mail in std::mem::take(&mut driver.late_answers) {
            if self.quiet || self.rng.chance(50) {
                shard.on_mail(mail, now, driver);
            } else {
                driver.late_answers.push(mail);
            }
        }
        if shard.next_deadline().is_some_and(|due_us| due_us <= now.mono_us) {
            shard.on_tick(now, driver);
        }
        self.finish_turn(worker);
        let submitted = std::mem::take(&mut self.nodes[worker].1.submitted);
        for (durable, request) in submitted {
            self.truth.submit(WorkerId(worker as u16), durable, request);
        }
        for (to, mail) in self.truth.work(now, &mut self.rng)? {
            // In order; several in one turn of the worker.
            let (shard, driver) = &mut self.nodes[usize::from(to.0)];
            shard.on_mail(mail, now, driver);
        }
        for worker in 0..self.nodes.len() {
            self.finish_turn(worker);
        }
        self.write(worker);
        self.check_driver(worker)
    }

    fn finish_turn(&mut self, worker: usize) {
        let (shard, driver) = &mut self.nodes[worker];
        loop {
            while let Some(mail) = driver.own.pop_front() {
                shard.on_mail(mail, self.now, driver);
            }
            shard.end_of_turn(self.now, driver);
            if driver.own.is_empty() {
                return;
            }
        }
    }

    fn take_input(&mut self, worker: usize) -> Result<(), String> {
        let now = self.now;
        let sockets: Vec<_> =
            self.nodes[worker].1.sockets.values().map(|s| (s.conn, s.link)).collect();
        for (conn, link) in sockets {
            let (shard, driver) = &mut self.nodes[worker];
            let Some(socket) = driver.sockets.get(&conn.index) else { continue };
            if self.links[link].dead {
                self.closed(worker, conn, link);
                continue;
            }
            if socket.paused || socket.closing.is_some() || self.links[link].outbound.is_empty() {
                continue;
            }
            let have = self.links[link].outbound.len();
            let size = match self.quiet {
                true => have.min(2_000),
                false if self.rng.chance(80) => (1 + self.rng.below(700)).min(have),
                false => (1 + self.rng.below(SLICE)).min(have),
            };
            let mut data: Vec<u8> = self.links[link].outbound.drain(..size).collect();
            shard.on_bytes(conn, &mut data, now, driver);
        }
        Ok(())
    }

    fn take_mail(&mut self, worker: usize) {
        let now = self.now;
        let id = WorkerId(worker as u16);
        for from in 0..self.nodes.len() {
            if from == worker {
                continue;
            }
            let waiting = self.nodes[from].1.outgoing[&id].len();
            let take = match self.quiet {
                true => waiting,
                false => self.rng.below(waiting + 1),
            };
            for _ in 0..take {
                let driver = &mut self.nodes[from].1;
                let mail = driver.outgoing.get_mut(&id).and_then(|mail| mail.pop_front());
                let mail = mail.expect("it was counted");
                if let Mail::Skip { position, .. } = &mail {
                    let log = if position.is_some() { "with" } else { "without" };
                    self.seen.insert(format!("a worker skipped in a room {log} log"));
                }
                let (shard, driver) = &mut self.nodes[worker];
                shard.on_mail(mail, now, driver);
            }
            let bound = self.config.limits.mailbox_bytes;
            let (shard, driver) = &mut self.nodes[from];
            if driver.want_room.contains(&id) && driver.mail_bytes(id) <= bound / 2 {
                driver.want_room.retain(|to| *to != id);
                shard.on_mail_room(id, now, driver);
                self.finish_turn(from);
            }
        }
    }

    /// Short writes, closes, and the marks that were asked for.
    fn write(&mut self, worker: usize) {
        let now = self.now;
        let sockets: Vec<_> =
            self.nodes[worker].1.sockets.values().map(|s| (s.conn, s.link)).collect();
        for (conn, link) in sockets {
            let driver = &mut self.nodes[worker].1;
            let Some(socket) = driver.sockets.get_mut(&conn.index) else { continue };
            let mut room = WINDOW.saturating_sub(self.links[link].inbound.len());
            if !self.quiet && self.rng.chance(30) {
                room = room.min(self.rng.below(300));
            }
            while room > 0
                && let Some(mut chunk) = socket.queue.pop_front()
            {
                let part = chunk.split_to(chunk.len().min(room));
                room -= part.len();
                socket.queued -= part.len();
                self.links[link].inbound.extend_from_slice(&part);
                if !chunk.is_empty() {
                    socket.queue.push_front(chunk);
                }
            }
            let done = socket.closing.is_some_and(|flush| !flush || socket.queue.is_empty());
            if done {
                self.closed(worker, conn, link);
                continue;
            }
            if socket.want_sent.is_some_and(|mark| socket.queued <= mark) {
                socket.want_sent = None;
                let (shard, driver) = &mut self.nodes[worker];
                shard.on_sent(conn, now, driver);
                self.finish_turn(worker);
            }
        }
    }

    /// The server's end of a connection is gone.
    fn closed(&mut self, worker: usize, conn: ConnId, link: usize) {
        let (shard, driver) = &mut self.nodes[worker];
        shard.on_close(conn, self.now, driver);
        driver.release(conn);
        self.finish_turn(worker);
        // What the kernel has, the client can still read; after that it sees the end.
        let link = &mut self.links[link];
        if link.closed.is_none() {
            link.dead = true;
        }
    }

    fn check_driver(&mut self, worker: usize) -> Result<(), String> {
        let bound = self.config.limits.outbox_bytes + OUTBOX_SLACK;
        let driver = &mut self.nodes[worker].1;
        if let Some(misuse) = driver.misuse.take() {
            return Err(misuse);
        }
        if let Some(socket) = driver.sockets.values().find(|socket| socket.queued > bound) {
            return Err(format!("promise 6: {} bytes are queued for one client", socket.queued));
        }
        for (api, answer) in std::mem::take(&mut driver.answers) {
            self.answered(api, &answer)?;
        }
        Ok(())
    }
}

/// What a connection and its client agreed on: nothing, the usual, or one of the rarer things.
fn agreed(rng: &mut Rng) -> Option<deflate::Agreed> {
    let usual = deflate::Config::default();
    let config = match rng.below(5) {
        0 | 1 => return None,
        2 => usual,
        3 => deflate::Config { server_window_bits: 9, client_window_bits: 10, ..usual },
        _ => deflate::Config { server_takeover: true, client_takeover: true, ..usual },
    };
    let bits = ("client_max_window_bits", None);
    let offer = Extension { name: "permessage-deflate", parameters: vec![bits] };
    deflate::accept(&config, &[offer]).map(|answer| answer.agreed)
}

/// All rooms that have a log.
fn logged_rooms() -> impl Iterator<Item = String> {
    let users = (0..3).map(|user| format!("$user/u{user}"));
    let groups = GROUPS.iter().map(|group| format!("$group/{group}"));
    LOGGED.into_iter().map(str::to_owned).chain(users).chain(groups)
}

/// Whether the store of a run loses logs: in one of four it only fails.
fn loses(plan: &Plan) -> bool {
    !plan.seed.is_multiple_of(4)
}

/// Small bounds, so that all of them are met.
pub(crate) fn config(workers: u16, seed: u64, durable: bool) -> Config {
    let small = LogLimits { size: 12, key_window_ms: 3_600_000, ..LogLimits::default() };
    let kept = |pattern: &str| {
        let log = Some(LogLimits { size: 40, ..small });
        let presence = !pattern.starts_with('$');
        let settings = RoomSettings { log, durable, presence, ..RoomSettings::default() };
        let pattern = Pattern::parse(pattern).expect("patterns of the simulation are valid");
        RoomRule { pattern, settings }
    };
    let rule = |pattern: &str, log, presence| RoomRule {
        pattern: Pattern::parse(pattern).expect("patterns of the simulation are valid"),
        settings: RoomSettings { log, presence, ..RoomSettings::default() },
    };
    let mut rooms = vec![
        rule(UNLOGGED, None, true),
        rule("**", Some(small), true),
        rule("$user/*", Some(small), false),
        rule("$group/*", Some(small), false),
    ];
    if durable {
        // As `is_durable` says.
        rooms.splice(0..0, ["a", "b/c", "$user/*", "$group/*"].map(kept));
    }
    Config {
        workers,
        limits: Limits {
            message_bytes: 4_096,
            delivery_bytes: 4_096,
            outbox_bytes: 6_000,
            mailbox_bytes: 4_000,
            rooms: 10,
            commands: 8,
            publish_per_s: 0,
            commands_per_s: 0,
            bytes_per_s: 0,
            page: 10,
            slow_grace_ms: 4_000,
            revocations: 6,
            ..Limits::default()
        },
        heartbeat: Heartbeat::default(),
        session: Session { ttl_ms: 60_000 },
        presence: Presence { interval_ms: 250, detail_max: 3 },
        deflate: Deflate {
            threshold_bytes: 60,
            // Both ways of compressing, one for rooms and the other for single connections.
            level: if seed.is_multiple_of(8) { 1 } else { 3 },
            unicast_level: if seed.is_multiple_of(8) { 3 } else { 1 },
            unshared: if seed.is_multiple_of(4) { Unshared::Plain } else { Unshared::Own },
        },
        rooms,
        ticket_key: [9; 32],
        // In half of all runs.
        groups_durable: seed.is_multiple_of(2),
        hash_seed: seed,
    }
}
