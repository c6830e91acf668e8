//! A room's log, as its home reads it: pages for commands and for members that are behind, where it
//! stands, and what the store answers.
//!
//! What is appended is in `room.rs`.

use crate::effects::Effects;
use crate::home::{Home, Log, PendingRead};
use crate::id::{Now, WorkerId};
use crate::mail::{JoinBy, Mail, Origin, Outcome, RoomCommand, What};
use crate::room::{asker, new_epoch};
use crate::shard::Shard;
use crate::timers::{HomeId, Rejoin, Timer};
use clarion_protocol::{Epoch, Offset, Position, Refusal, RoomName};
use clarion_store::{Completion, Page, Range, Request, Standing, StoreError};

/// Publications in one read for members that are behind.
pub(crate) const FETCH_LIMIT: u32 = 512;
/// How long a join of the server's waits after the log could not be read, microseconds.
const RETRY_US: u64 = 1_000_000;

impl Shard {
    pub(crate) fn history(&mut self, id: HomeId, command: RoomCommand, fx: &mut impl Effects) {
        let (page, bytes) = (self.config.limits.page, self.config.limits.delivery_bytes);
        let Some(home) = self.home(id) else { return };
        let What::History { after, before, limit } = &command.what else { return };
        let room = home.name.clone();
        let Log::Open { epoch, head } = &home.log else {
            let refusal = Refusal::no_history("metadata.room");
            return self.tell(asker(&command), &room, Outcome::Refused(refusal), fx);
        };
        let bound = after.as_ref().or(before.as_ref());
        if bound.is_some_and(|bound| bound.epoch != *epoch) {
            let refusal = Refusal::epoch_changed(Position::new(epoch.clone(), *head));
            return self.tell(asker(&command), &room, Outcome::Refused(refusal), fx);
        }
        let range = match (after, before) {
            (Some(after), _) => Range::After(after.offset),
            (None, Some(before)) => Range::Before(before.offset.min(head + 1)),
            (None, None) => Range::Before(head + 1),
        };
        let request = read(id, home, range, (*limit).min(page), bytes);
        if let Origin::Connection { conn, .. } = &command.origin {
            home.busy.entry(*conn).or_default().reads += 1;
        }
        home.reads.push_back(PendingRead::Command(Box::new(command)));
        fx.submit(home.settings.durable, request);
    }

    /// Bytes in one read for members that are behind: a part of an outbox, so that it has room.
    pub(crate) fn fetch_bytes(&self) -> usize {
        (self.config.limits.outbox_bytes / 4).clamp(1 << 10, 64 << 10)
    }

    /// Reads the log for members on a worker.
    pub(crate) fn on_fetch(
        &mut self,
        room: RoomName,
        worker: WorkerId,
        epoch: &Epoch,
        after: Offset,
        fx: &mut impl Effects,
    ) {
        let id = self.find_home(&room);
        let bytes = self.fetch_bytes();
        if let Some(id) = id
            && let Some(home) = self.home(id)
            && matches!(&home.log, Log::Open { epoch: own, .. } if own == epoch)
        {
            home.reads.push_back(PendingRead::Fetch(worker, after));
            let request = read(id, home, Range::After(after), FETCH_LIMIT, bytes);
            return fx.submit(home.settings.durable, request);
        }
        fx.post(worker, Mail::Page { room, after, page: None });
    }

    /// The store answered a read.
    fn on_read(
        &mut self,
        id: HomeId,
        result: Result<Page, StoreError>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.home(id) else { return };
        let Some(read) = home.reads.pop_front() else { return };
        let Log::Open { epoch, head } = &home.log else { return };
        let (epoch, head) = (epoch.clone(), *head);
        let room = home.name.clone();
        // A page of another log is of no use: the home learns of it with the next append.
        let page = result.ok().filter(|page| page.standing.epoch == epoch);
        let page = page.map(|page| clip(page, head));
        match read {
            PendingRead::Fetch(worker, after) => {
                self.flush(id, fx);
                fx.post(worker, Mail::Page { room, after, page });
            }
            PendingRead::Command(mut command) => {
                let origin = command.origin.clone();
                match (&mut command.what, page) {
                    (_, None) => self.refuse_unread(*command, now, fx),
                    (What::Join { join, .. }, Some(page)) => {
                        // It may have been trimmed, or be another log, since the read was asked for.
                        let lost = join.after.as_ref().is_some_and(|after| {
                            after.epoch != epoch || page.standing.first > after.offset + 1
                        });
                        if lost && join.last.is_some() {
                            // The log no longer reaches back: `last` decides, unless it is less.
                            join.after = None;
                            self.join(id, &command, now, fx);
                        } else {
                            let page = (!lost).then_some(page);
                            self.admit(id, &command, page, now, fx);
                        }
                    }
                    (_, Some(page)) => {
                        self.tell(asker(&command), &room, Outcome::History { page }, fx);
                    }
                }
                self.settle(id, &origin, |busy| &mut busy.reads, now, fx);
            }
        }
        self.check_idle(id, now);
    }

    pub(crate) fn on_stored(&mut self, completion: Completion, now: Now, fx: &mut impl Effects) {
        match completion {
            Completion::Opened { token, result } => self.on_opened(home_id(token), result, now, fx),
            Completion::Appended { token, result } => {
                self.on_appended(home_id(token), result, now, fx);
            }
            Completion::Read { token, result } => self.on_read(home_id(token), result, now, fx),
            Completion::Acked { token, result } => self.on_acked(home_id(token), result, now, fx),
            Completion::Grouped { token, result } => self.on_group_stored(token, result, fx),
            Completion::Revoked { token, result } => self.on_revoked(token, result, fx),
            // No shard asks for these.
            Completion::Revocations { .. } | Completion::Groups { .. } => {}
        }
    }

    fn on_opened(
        &mut self,
        id: HomeId,
        result: Result<Standing, StoreError>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.home(id) else { return };
        let Log::Opening(waiting) = &mut home.log else {
            return self.on_checked(id, result, now, fx);
        };
        let waiting = std::mem::take(waiting);
        match result {
            Ok(standing) => {
                home.log = Log::Open { epoch: standing.epoch, head: standing.head };
                home.acked = standing.acked;
                home.starting = true;
                for command in waiting {
                    self.enter(id, command, now, fx);
                }
                if let Some(home) = self.home(id) {
                    home.starting = false;
                }
                self.check_idle(id, now);
            }
            Err(StoreError::Unavailable | StoreError::Unknown) => {
                // Nobody is a member yet; the next command asks again.
                self.drop_home(id);
                for command in waiting {
                    self.refuse_unread(command, now, fx);
                }
            }
        }
    }

    /// The log could not be read for a command. A client tries again by itself; what the server
    /// wanted, it tries again.
    fn refuse_unread(&mut self, command: RoomCommand, now: Now, fx: &mut impl Effects) {
        if matches!(command.what, What::Join { by: JoinBy::Server, .. }) {
            self.timers.set(now.mono_us + RETRY_US, Timer::Rejoin(Box::new(Rejoin(command))));
            return;
        }
        let refusal = Refusal::unavailable("the room's log cannot be read now");
        self.tell(asker(&command), &command.room, Outcome::Refused(refusal), fx);
    }

    /// Asks the store where the log stands: what was appended and not acknowledged is in it, and members
    /// must see it whether or not something is ever appended again.
    pub(crate) fn check_log(&mut self, id: HomeId, fx: &mut impl Effects) {
        let fresh = new_epoch(fx);
        let Some(home) = self.home(id) else { return };
        if !std::mem::replace(&mut home.checking, true) {
            let open = Request::Open { token: token(id), room: home.name.clone(), fresh };
            fx.submit(home.settings.durable, open);
        }
    }

    fn on_checked(
        &mut self,
        id: HomeId,
        result: Result<Standing, StoreError>,
        now: Now,
        fx: &mut impl Effects,
    ) {
        let Some(home) = self.home(id) else { return };
        let Log::Open { epoch, head } = &home.log else { return };
        let Ok(standing) = result else {
            self.timers.set(now.mono_us + RETRY_US, Timer::Check(id));
            return;
        };
        home.checking = false;
        // A log that is not there yet is no news, whatever it would be called.
        let absent = *head == 0 && standing.head == 0;
        if !absent && (standing.epoch != *epoch || standing.head > *head) {
            self.move_to(id, &Position::new(standing.epoch, standing.head), fx);
        }
        self.check_idle(id, now);
    }

    /// The store did not say where the log stands; it is asked again.
    pub(crate) fn recheck(&mut self, id: HomeId, fx: &mut impl Effects) {
        if let Some(home) = self.home(id) {
            home.checking = false;
            self.check_log(id, fx);
        }
    }
}

pub(crate) fn read(id: HomeId, home: &Home, range: Range, limit: u32, bytes: usize) -> Request {
    let age_ms = home.settings.log.map_or(u64::MAX, |log| log.age_ms);
    let (token, room) = (token(id), home.name.clone());
    Request::Read { token, room, range, limit, bytes, age_ms, fresh: home.unmade() }
}

/// Takes off what the home does not know of yet: nobody may see it before its members do.
pub(crate) fn clip(mut page: Page, head: Offset) -> Page {
    let known = page.publications.partition_point(|(offset, _)| *offset <= head);
    page.publications.truncate(known);
    page.standing.head = page.standing.head.min(head);
    page
}

/// A home's id as the store carries it.
pub(crate) fn token(id: HomeId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

fn home_id(token: u64) -> HomeId {
    HomeId { index: token as u32, generation: (token >> 32) as u32 }
}
