//! What the HTTP API asks of the nodes, and what it has to think of them then.

use super::{GROUPS, World, logged_rooms};
use crate::client::{Client, LOGGED, UNLOGGED};
use crate::journal::{Event, What, is_durable};
use crate::revoked::Revocation;
use crate::truth::payload;
use bytes::Bytes;
use clarion_engine::mail::{ApiAnswer, ApiRequest, Target};
use clarion_engine::revoked::{Span, Subject};
use clarion_engine::{ApiId, Mail};
use clarion_protocol::{ClientId, Publication, RoomName};
use std::sync::Arc;

/// A request of the API, and what to think when it is answered.
pub(super) enum Call {
    Publish {
        room: String,
        key: Option<String>,
        payload: String,
    },
    Group {
        key: (&'static str, String),
        member: bool,
    },
    /// Its index.
    Revoke(usize),
    Other,
}

impl World {
    /// Revocations that were kept hold as before, the others are gone.
    pub(super) fn rerevoke(&mut self) -> Result<(), String> {
        let kept = self.truth.revocations().into_iter().map(|kept| {
            let subject = Subject::parse(&kept.subject).expect("a shard revoked it");
            (subject, Span { at_ms: kept.at_ms, until_ms: kept.until_ms })
        });
        let kept: Vec<_> = kept.collect();
        for revocation in &mut self.revoked {
            revocation.restarted(&kept, self.now.wall_ms, self.links.len())?;
        }
        for (shard, _) in &mut self.nodes {
            for (subject, span) in &kept {
                shard.restore_revocation(subject.clone(), *span);
            }
        }
        Ok(())
    }

    /// What becomes of a request of the API that failed, or was never answered.
    pub(super) fn unanswered(&mut self, call: Call) {
        match call {
            Call::Publish { room, key: Some(key), payload } => {
                self.again.push((room, key, payload));
            }
            Call::Group { key, .. } => {
                self.grouped.insert(key, None);
            }
            Call::Publish { .. } | Call::Revoke(_) | Call::Other => {}
        }
    }

    /// Groups that were durable are as they were, the others are gone.
    pub(super) fn regroup(&mut self) -> Result<(), String> {
        let kept = if self.config.groups_durable { self.truth.groups() } else { Vec::new() };
        for ((group, user), known) in &mut self.grouped {
            let is_kept = kept.iter().any(|(of, who)| **of == **group && **who == **user);
            let durable = self.config.groups_durable && !user.starts_with("guest:");
            if durable && known.is_some_and(|known| known != is_kept) {
                return Err(format!("section 4: {user} in {group} is {is_kept}, not {known:?}"));
            }
            *known = Some(is_kept);
        }
        for (group, user) in &kept {
            let room = RoomName::group(group).expect("groups of the simulation are valid");
            self.nodes.iter_mut().for_each(|(shard, _)| shard.restore_group(&room, user));
        }
        Ok(())
    }

    pub(super) fn publish_by_api(&mut self) {
        let room = match self.rng.below(7) {
            0 => "$all".to_owned(),
            6 => format!("$group/{}", GROUPS[self.rng.below(GROUPS.len())]),
            1 => format!("$user/u{}", self.rng.below(3)),
            2 => match &self.clients[self.rng.below(self.clients.len())].client {
                Some(client) => format!("$client/{client}"),
                None => return,
            },
            3 => UNLOGGED.to_owned(),
            n => LOGGED[n % LOGGED.len()].to_owned(),
        };
        self.post_api(&room);
    }

    pub(super) fn publish_everywhere(&mut self) {
        logged_rooms().for_each(|room| self.post_api(&room));
    }

    /// Makes somebody join or leave a room.
    pub(super) fn move_by_api(&mut self) {
        let target = match &self.clients[self.rng.below(self.clients.len())] {
            client if self.rng.chance(50) => {
                Target::User(client.user.clone().unwrap_or_default().into())
            }
            Client { client: Some(client), .. } => {
                Target::Client(ClientId::parse(client).expect("the server names clients validly"))
            }
            _ => return,
        };
        let name = match self.rng.below(4) {
            0 => UNLOGGED,
            n => LOGGED[n % LOGGED.len()],
        };
        let room = RoomName::parse(name).expect("rooms of the simulation are valid");
        if self.rng.chance(50) {
            self.call(0, ApiRequest::Kick { room, target });
            return;
        }
        if self.plan.kills && is_durable(name) {
            // It may come before the session's own join, whose position is of no use then. That is
            // announced, but to the checker it is a log that does not give what it has.
            return;
        }
        self.truth.drafted.insert(name.to_owned());
        for worker in 0..self.nodes.len() {
            self.call(worker, ApiRequest::Join { room: room.clone(), target: target.clone() });
        }
    }

    /// Somebody is revoked, or brings another token.
    pub(super) fn revoke_or_refresh(&mut self, client: usize) {
        let now_ms = self.now.wall_ms;
        if self.rng.chance(50) {
            let link = self.current(client).filter(|link| self.links[*link].welcomed);
            if let Some(link) = link {
                self.clients[client].refresh(&mut self.links[link], now_ms);
            }
            return;
        }
        let Client { user, client: id, .. } = &self.clients[client];
        let Some(id) = id else { return };
        let subject = match self.rng.below(3) {
            0 => Subject::Client(ClientId::parse(id).expect("the server names clients validly")),
            1 => Subject::User(user.clone().unwrap_or_else(|| format!("guest:{id}")).into()),
            // The one it has, or the next.
            _ => Subject::Token(self.clients[client].token_id(self.rng.below(2)).into()),
        };
        let until_ms = now_ms + 1 + self.rng.below(30_000) as u64;
        let span = Span { at_ms: now_ms, until_ms };
        let (index, workers) = (self.revoked.len(), self.nodes.len());
        self.revoked.push(Revocation::new(subject.clone(), span, workers));
        for worker in 0..workers {
            let (subject, keep) = (subject.clone(), worker == 0);
            let request = ApiRequest::Revoke { subject, span, keep };
            self.call_for(worker, request, Call::Revoke(index));
        }
    }

    /// Puts a user into a group, or takes it out.
    pub(super) fn group_by_api(&mut self) {
        // The API promises no order of what is asked of two workers, so one is always asked.
        let group = GROUPS[self.rng.below(GROUPS.len())];
        let client = &self.clients[self.rng.below(self.clients.len())];
        let user = match (&client.user, &client.client) {
            (Some(user), _) => user.clone(),
            (None, Some(client)) => format!("guest:{client}"),
            (None, None) => return,
        };
        let member = self.rng.chance(60);
        let key = (group, user.clone());
        self.grouped.insert(key.clone(), None);
        let request = ApiRequest::Group { group: group.into(), user: user.into(), member };
        self.call_for(0, request, Call::Group { key, member });
    }

    pub(super) fn ask_by_api(&mut self) {
        let room = RoomName::parse(LOGGED[0]).expect("rooms of the simulation are valid");
        let limit = self.rng.below(20);
        let request = match self.rng.below(5) {
            0 => ApiRequest::History { room, after: None, before: None, limit: limit as u32 },
            1 => ApiRequest::Members { room, limit: Some(limit as u32), after: None },
            2 => ApiRequest::Rooms { after: None, limit, pattern: None },
            3 => ApiRequest::Clients { after: None, limit, room: Some(room), user: None },
            _ => ApiRequest::GroupUsers { group: GROUPS[0].into(), after: None, limit },
        };
        let worker = self.rng.below(self.nodes.len());
        self.call(worker, request);
    }

    fn call(&mut self, worker: usize, request: ApiRequest) {
        self.call_for(worker, request, Call::Other);
    }

    fn call_for(&mut self, worker: usize, request: ApiRequest, call: Call) {
        self.next_api += 1;
        self.api.insert(self.next_api, call);
        let (shard, driver) = &mut self.nodes[worker];
        shard.on_mail(Mail::Api { api: ApiId(self.next_api), request }, self.now, driver);
    }

    fn post_api(&mut self, room: &str) {
        let number = self.next_api + 1;
        let payload = payload(u64::MAX >> 1, number, 20);
        let logged = room != "$all" && room != UNLOGGED && !room.starts_with("$client/");
        let key = (self.plan.kills && logged).then(|| format!("a{number}"));
        self.say_by_api(room, key, payload);
    }

    /// Publishes what was not acknowledged once more.
    pub(super) fn repeat_by_api(&mut self) {
        for (room, key, payload) in std::mem::take(&mut self.again) {
            self.say_by_api(&room, Some(key), payload);
        }
    }

    fn say_by_api(&mut self, room: &str, key: Option<String>, payload: String) {
        self.note(What::Said { room: room.to_owned(), payload: payload.clone() });
        let call =
            Call::Publish { room: room.to_owned(), key: key.clone(), payload: payload.clone() };
        let publication = Arc::new(Publication {
            kind: "m".into(),
            payload: Bytes::from(payload),
            time_ms: self.now.wall_ms,
            from: None,
            key: key.map(String::into_boxed_str),
        });
        let room = RoomName::parse(room).expect("rooms of the simulation are valid");
        let request =
            ApiRequest::Publish { room, publication, ephemeral: false, principal: "k:sim".into() };
        // Always to one worker: the API promises no order across workers.
        self.call_for(0, request, call);
    }

    /// The API writes down, too, as one connection of each process.
    fn note(&self, what: What) {
        self.journal.borrow_mut().push(Event { link: usize::MAX - self.kills, what });
    }

    /// The API was answered.
    pub(super) fn answered(&mut self, api: ApiId, answer: &ApiAnswer) -> Result<(), String> {
        let Some(call) = self.api.remove(&api.0) else {
            return Err(format!("a second answer to {api:?}: {answer:?}"));
        };
        if let ApiAnswer::Published { position: Some(position), duplicate, .. } = answer {
            if let Call::Publish { room, key, payload } = call {
                self.note(What::Acked {
                    room,
                    key: key.map(|key| (String::new(), key)),
                    payload,
                    place: (position.epoch.as_str().to_owned(), position.offset),
                    duplicate: *duplicate,
                });
            }
            if self.plan.kills {
                return Ok(());
            }
            let known = self.truth.applied.keys();
            let mut places = known.map(|(_, epoch, offset)| (epoch, *offset));
            if !places.any(|place| place == (&position.epoch, position.offset)) {
                return Err("promise 3: acknowledged to the API, but not appended".into());
            }
        } else if let Call::Revoke(index) = call {
            let refused = match answer {
                ApiAnswer::Refused(refusal) => Some(refusal.limit),
                _ => None,
            };
            self.seen.extend(refused.map(|limit| match limit {
                Some(_) => "one revocation too many".to_owned(),
                None => "a revocation that was not kept".to_owned(),
            }));
            let (workers, links) = (self.nodes.len(), self.links.len());
            self.revoked[index].answered(refused, workers, links)?;
        } else if let (ApiAnswer::Count(_), Call::Group { key, member }) = (answer, &call) {
            self.grouped.insert(key.clone(), Some(*member));
        } else if matches!(answer, ApiAnswer::Refused(_)) {
            self.unanswered(call);
        }
        Ok(())
    }
}
