//! How the members of a room are told of each other: merged, and in bounded numbers.
//!
//! Changes are gathered for `presence.interval` and told once to every worker that has members who
//! asked. In a room of more than `presence.detail_max` only the numbers are told, so that n joins
//! never cost n² entries. Source: spec section 4, `$members`.

use crate::effects::Effects;
use crate::home::Home;
use crate::id::{ConnRef, Now};
use crate::mail::{Mail, Present, Snapshot};
use crate::shard::Shard;
use crate::timers::{HomeId, Timer};
use bytes::Bytes;
use clarion_protocol::{ClientId, Member, MembersChange, RoomName, codec};
use std::collections::BTreeMap;

/// What happened in a room since its members were last told, one entry for each session.
///
/// Bounded by the members and those who left within one interval.
#[derive(Debug, Default)]
pub(crate) struct Changes(BTreeMap<ClientId, Change>);

#[derive(Clone, Debug)]
enum Change {
    Joined,
    Left(Present),
    Changed,
}

impl Home {
    /// Notes that a session came. Says whether that has to be told by timer from now on.
    fn note(&mut self, client: ClientId, change: Change) -> bool {
        if !self.settings.presence || !self.watched() {
            return false;
        }
        let first = self.changes.is_none();
        let changes = &mut self.changes.get_or_insert_default().0;
        match (changes.remove(&client), change) {
            // Came and went before anybody was told.
            (Some(Change::Joined), Change::Left(_)) => {}
            (Some(Change::Joined), _) => {
                changes.insert(client, Change::Joined);
            }
            (Some(Change::Left(_)), Change::Joined) => {
                changes.insert(client, Change::Changed);
            }
            (_, change) => {
                changes.insert(client, change);
            }
        }
        first
    }
}

impl Shard {
    pub(crate) fn note_joined(&mut self, home: HomeId, client: ClientId, now: Now) {
        self.note(home, client, Change::Joined, now);
    }

    pub(crate) fn note_left(&mut self, home: HomeId, left: Present, now: Now) {
        let client = left.sender.client.expect("a member is a session");
        self.note(home, client, Change::Left(left), now);
    }

    pub(crate) fn note_changed(&mut self, home: HomeId, client: ClientId, now: Now) {
        self.note(home, client, Change::Changed, now);
    }

    fn note(&mut self, id: HomeId, client: ClientId, change: Change, now: Now) {
        let interval_us = self.config.presence.interval_ms * 1_000;
        let Some(home) = self.home(id) else { return };
        if home.note(client, change) {
            self.timers.set(now.mono_us + interval_us, Timer::Presence(id));
        }
    }

    /// Tells the members what happened since the last time.
    pub(crate) fn tell_presence(&mut self, id: HomeId, fx: &mut impl Effects) {
        let detail_max = self.config.presence.detail_max;
        let Some(home) = self.home(id) else { return };
        let Some(changes) = home.changes.take() else { return };
        if !home.watched() || changes.0.is_empty() {
            return;
        }
        let (count, users) = (home.count(), home.users());
        let counts_only = home.members.len() > detail_max;
        let was_counts_only = std::mem::replace(&mut home.counts_only, counts_only);
        let name = home.name.clone();
        let frame = if counts_only {
            self.members_frame(&name, &MembersChange::Counts { count, users })
        } else if was_counts_only {
            let all = home.roster();
            self.members_frame(&name, &MembersChange::All { all: &wire(&all), count, users })
        } else {
            let (mut joined, mut left, mut changed) = (Vec::new(), Vec::new(), Vec::new());
            for (client, change) in changes.0 {
                match (change, home.members.get(&client)) {
                    (Change::Joined, Some(member)) => joined.push(member.present()),
                    (Change::Changed, Some(member)) => changed.push(member.present()),
                    (Change::Left(present), _) => left.push(present),
                    // It left; the entry that says so took this one's place.
                    (Change::Joined | Change::Changed, None) => {}
                }
            }
            let (joined, left, changed) = (wire(&joined), wire(&left), wire(&changed));
            let (joined, left, changed) = (&joined[..], &left[..], &changed[..]);
            self.members_frame(
                &name,
                &MembersChange::Changed { joined, left, changed, count, users },
            )
        };
        let taken = self.home(id).is_some_and(|home| home.has_takers());
        let frame = self.frames(frame, taken);
        let Some(home) = self.home(id) else { return };
        for subscriber in home.workers.iter().filter(|subscriber| subscriber.watchers > 0) {
            let (room, frame) = (name.clone(), frame.for_takers(subscriber.takers));
            fx.post(subscriber.worker, Mail::Presence { room, frame });
        }
    }

    /// Who is in the room, for a join or for whoever missed changes.
    pub(crate) fn snapshot(&mut self, id: HomeId) -> Option<Snapshot> {
        let detail_max = self.config.presence.detail_max;
        let home = self.home(id)?;
        let all = (home.members.len() <= detail_max).then(|| home.roster());
        Some(Snapshot { all, count: home.count(), users: home.users() })
    }

    /// Answers [`Mail::Roster`].
    pub(crate) fn send_roster(&mut self, room: &RoomName, conn: ConnRef, fx: &mut impl Effects) {
        let Some(id) = self.find_home(room) else { return };
        let Some(snapshot) = self.snapshot(id) else { return };
        let all = snapshot.all.as_deref().map(wire);
        let frame = self.members_frame(room, &snapshot.change(all.as_deref()));
        let (ConnRef { worker, conn }, room) = (conn, room.clone());
        fx.post(worker, Mail::Members { conn, room, frame });
    }

    fn members_frame(&mut self, room: &RoomName, change: &MembersChange<'_>) -> Bytes {
        self.frame(|out| codec::json::members(out, room.as_str(), change))
    }
}

impl Snapshot {
    /// The snapshot as it goes over the wire; `all` is [`wire`] of its members.
    pub(crate) fn change<'a>(&self, all: Option<&'a [Member<'a>]>) -> MembersChange<'a> {
        let (count, users) = (self.count, self.users);
        match all {
            Some(all) => MembersChange::All { all, count, users },
            None => MembersChange::Counts { count, users },
        }
    }
}

/// Members as the codec takes them.
pub(crate) fn wire(present: &[Present]) -> Vec<Member<'_>> {
    present
        .iter()
        .map(|present| Member {
            client: present.sender.client.expect("a member is a session"),
            user: present.sender.user.as_deref().unwrap_or_default(),
            info: present.sender.info.as_deref(),
            state: present.state.as_deref(),
        })
        .collect()
}
