//! The end of a run: everything finishes, and is looked at.

use super::{GROUPS, World, logged_rooms, loses};
use crate::client::Link;
use crate::disk::Kept;
use crate::driver::Driver;
use crate::journal::{self, is_durable};
use clarion_engine::Shard;
use clarion_protocol::RoomName;
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Lets everything finish, with nothing failing any more, and looks whether all is as promised.
    pub(super) fn come_to_rest(&mut self) -> Result<(), String> {
        self.quiet = true;
        self.truth.behave();
        for (_, driver) in &mut self.nodes {
            driver.late = false;
        }
        for link in &mut self.links {
            link.deaf_until_us = 0;
        }
        if loses(&self.plan) {
            // A publication everywhere tells the homes of whatever the store lost; until then members
            // that were reading a lost log try again and again.
            self.publish_everywhere();
        }
        // What the store kept and did not acknowledge is seen without that.
        self.settle()?;
        self.check_links()?;
        if self.plan.kills {
            // Whatever was acknowledged is on the disk, and all of it was.
            self.kill()?;
        }
        // Who finds its token void comes with another, and the next may be void as well; the disk refuses
        // what is too much at once. Neither for ever.
        for _ in 0..10 {
            for client in 0..self.clients.len() {
                match self.current(client) {
                    Some(link) => self.clients[client].repeat_all(&mut self.links[link]),
                    None => self.connect(client),
                }
            }
            self.repeat_by_api();
            self.settle()?;
            let connected = (0..self.clients.len()).all(|client| self.current(client).is_some());
            let acknowledged = self.clients.iter().all(|client| client.unacked.is_empty());
            if connected && acknowledged && self.again.is_empty() {
                break;
            }
        }
        self.publish_everywhere();
        self.settle()?;
        if self.plan.kills {
            self.check_journal()?;
        }
        if let Some((api, _)) = self.api.first_key_value() {
            return Err(format!("request {api} of the API was never answered"));
        }
        self.check_links()?;
        let mut sessions = BTreeSet::new();
        for client in 0..self.clients.len() {
            if self.current(client).is_none() {
                let closed = self.clients[client].current.and_then(|link| self.links[link].closed);
                return Err(format!("client {client} is not connected: {closed:?}"));
            }
            sessions.extend(self.clients[client].client.clone());
        }
        for (index, link) in self.links.iter().enumerate() {
            let older = self.clients[link.owner].current != Some(index);
            if older && !link.dead && link.closed.is_none() {
                return Err(format!("link {index} was replaced and is still open"));
            }
        }
        match sessions.len() == self.clients.len() {
            true => Ok(()),
            false => Err("two clients have one session".into()),
        }
    }

    /// Looks whether all that anybody was told fits together and is kept.
    fn check_journal(&mut self) -> Result<(), String> {
        for (index, client) in self.clients.iter().enumerate() {
            if let Some(unacked) = client.unacked.first() {
                return Err(format!("client {index}: {unacked:?} was never acknowledged"));
            }
        }
        if let Some(unacked) = self.again.first() {
            return Err(format!("the API: {unacked:?} was never acknowledged"));
        }
        let mut endings = BTreeMap::new();
        for room in logged_rooms().filter(|room| is_durable(room)) {
            let name = RoomName::parse(&room).expect("rooms of the simulation are valid");
            endings.extend(self.truth.read(&name, true).map(|kept| (room, kept)));
        }
        journal::check(&self.journal.borrow(), &endings)
    }

    /// Looks at every client that is connected.
    fn check_links(&mut self) -> Result<(), String> {
        let links = (0..self.clients.len()).filter_map(|it| Some((it, self.current(it)?)));
        let links: Vec<_> = links.collect();
        links.into_iter().try_for_each(|(client, link)| self.check_link(client, link))
    }

    fn check_link(&mut self, client: usize, index: usize) -> Result<(), String> {
        self.check_standing(index, false)?;
        let link = &self.links[index];
        if !link.welcomed {
            return Err(format!("client {client} was never welcomed"));
        }
        if let Some((id, asked)) = link.asked.iter().next() {
            return Err(format!("client {client}: {asked:?} ({id}) was never answered"));
        }
        if let Some(room) = link.wanted.keys().next() {
            return Err(format!("promise 8: client {client} never heard of {room}"));
        }
        for group in GROUPS {
            let owner = &self.clients[client];
            let id = owner.client.clone().unwrap_or_default();
            let user = owner.user.clone().unwrap_or_else(|| format!("guest:{id}"));
            let wanted = self.grouped.get(&(group, user)).copied().unwrap_or(Some(false));
            let Some(wanted) = wanted else { continue };
            if wanted != link.joined.contains_key(&format!("$group/{group}")) {
                return Err(format!("client {client}: to be in group {group}: {wanted}"));
            }
        }
        for (room, joined) in &link.joined {
            let Some((epoch, next)) = &joined.next else { continue };
            let name = RoomName::parse(room).expect("rooms of the simulation are valid");
            let kept = self.truth.read(&name, is_durable(room));
            let Some(Kept { epoch: of, head, .. }) = kept else { continue };
            if of != *epoch || *next != head + 1 {
                return Err(format!(
                    "promise 1: client {client} is at {next}@{epoch} in {room}, which ends with {head}@{of}"
                ));
            }
        }
        Ok(())
    }

    /// Turns until nothing moves, with time going on a little.
    fn settle(&mut self) -> Result<(), String> {
        /// More than anything here takes.
        const ROUNDS: usize = 5_000;
        let mut still = 0;
        for _ in 0..ROUNDS {
            self.now.mono_us += 20_000;
            self.now.wall_ms += 20;
            for worker in 0..self.nodes.len() {
                self.turn(worker)?;
            }
            for client in 0..self.clients.len() {
                self.read_some(client)?;
            }
            still = if self.restless().is_none() { still + 1 } else { 0 };
            // Long enough for what is tried again after a second.
            if still > 60 {
                return Ok(());
            }
        }
        Err(format!("it never comes to rest: {}", self.restless().unwrap_or_default()))
    }

    /// What is still under way, if anything is.
    fn restless(&self) -> Option<String> {
        let link = |(index, link): (usize, &Link)| {
            let heard = link.inbound.is_empty();
            let said = link.closed.is_some() || link.outbound.is_empty();
            (!(link.dead || heard && said)).then(|| format!("link {index} of {}", link.owner))
        };
        let driver = |(_, driver): &(Shard, Driver)| {
            let mail = driver.outgoing.values().any(|mail| !mail.is_empty());
            let mut sockets = driver.sockets.values();
            let socket = sockets.find(|s| !s.queue.is_empty() || s.closing.is_some());
            let late = !driver.late_answers.is_empty();
            (mail || socket.is_some() || late)
                .then(|| format!("worker {}: mail {mail}, late {late}, {socket:?}", driver.id.0))
        };
        let store = (!self.truth.is_idle()).then(|| "the store".to_owned());
        let link = self.links.iter().enumerate().find_map(link);
        link.or_else(|| self.nodes.iter().find_map(driver)).or(store)
    }
}
