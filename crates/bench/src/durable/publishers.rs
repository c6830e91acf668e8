//! Sessions that publish to durable rooms, and what they were told.

use std::time::Instant;

use mio::{Events, Poll};

use super::disk::{PAYLOAD_BYTES, room_of};
use crate::connection::{Connection, mask_for};
use crate::envelope::{self, Kind};
use crate::error::{BenchError, Doing};
use crate::frame;
use crate::handshake::Target;
use crate::histogram::Histogram;
use crate::run::{Load, Measured, Run, Schedule};
use crate::sequence::Verdict;
use crate::session::{self, Wanted};

/// How much is published at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) publishers: usize,
    pub(super) in_flight: usize,
    pub(super) rooms: usize,
    /// Whether each publication has an idempotency key.
    pub(super) keys: bool,
}

/// The sessions, each with its window, and the rooms as their replies show them.
pub(super) struct Publishers {
    shape: Shape,
    poll: Poll,
    publishers: Vec<Publisher>,
    rooms: Vec<Room>,
    published: u64,
    acknowledged: u64,
    corrupt: u64,
    pub(super) latency: Histogram,
}

struct Publisher {
    connection: Connection,
    /// Number and time of what is not acknowledged yet; no more than the window.
    under_way: Vec<(u64, Instant)>,
}

/// Which offsets of a room were acknowledged; each has to be once, and none left out.
#[derive(Default)]
struct Room {
    published: u64,
    seen: Vec<bool>,
    duplicated: u64,
}

impl Room {
    fn acknowledge(&mut self, offset: u64) {
        let index = offset.saturating_sub(1) as usize;
        if self.seen.len() <= index {
            self.seen.resize(index + 1, false);
        }
        self.duplicated += u64::from(std::mem::replace(&mut self.seen[index], true));
    }

    fn verdict(&self) -> Verdict {
        let expected = self.seen.iter().take(self.published as usize);
        let acknowledged = expected.filter(|seen| **seen).count() as u64;
        let beyond = self.seen.iter().skip(self.published as usize).filter(|seen| **seen).count();
        Verdict {
            lost: self.published - acknowledged,
            duplicated: self.duplicated,
            corrupt: beyond as u64,
            ..Verdict::default()
        }
    }
}

impl Publishers {
    /// Opens the sessions; the rooms must be empty.
    pub(super) fn open(url: &Target, shape: Shape) -> Result<Self, BenchError> {
        let poll = Poll::new().doing(|| "making an epoll".to_owned())?;
        let mut publishers = Vec::with_capacity(shape.publishers);
        for index in 0..shape.publishers {
            let mask = mask_for(index);
            let wanted = Wanted { room: None, members: false, source: None };
            let opened = session::open(url, wanted, mask)?.opened;
            let connection = Connection::register(opened, poll.registry(), index, mask)?;
            publishers.push(Publisher { connection, under_way: Vec::new() });
        }
        Ok(Self {
            shape,
            poll,
            publishers,
            rooms: (0..shape.rooms).map(|_| Room::default()).collect(),
            published: 0,
            acknowledged: 0,
            corrupt: 0,
            latency: Histogram::new(),
        })
    }

    /// Fills the window of a publisher, in one write.
    fn publish(&mut self, index: usize) -> Result<(), BenchError> {
        let publisher = &mut self.publishers[index];
        let now = Instant::now();
        while publisher.under_way.len() < self.shape.in_flight {
            self.published += 1;
            let n = self.published;
            let room = room_of(n, self.shape.rooms);
            self.rooms[room].published += 1;
            publisher.connection.queue(frame::TEXT, text(room, n, self.shape.keys).as_bytes());
            publisher.under_way.push((n, now));
        }
        publisher.connection.flush()
    }

    fn receive(
        &mut self,
        index: usize,
        buffer: &mut Vec<u8>,
        is_measuring: bool,
    ) -> Result<(), BenchError> {
        let Publisher { connection, under_way } = &mut self.publishers[index];
        connection.receive(buffer, |text| {
            match envelope::kind(text) {
                Kind::Answer => {}
                Kind::Error => return Err(session::refused(text)),
                Kind::Push | Kind::Publication | Kind::Unknown => return Ok(()),
            }
            let reply = envelope::reply_id(text).zip(envelope::offset(text));
            let place = reply.and_then(|(n, _)| under_way.iter().position(|(id, _)| *id == n));
            let (Some((n, offset)), Some(place)) = (reply, place) else {
                self.corrupt += 1;
                return Ok(());
            };
            let (_, since) = under_way.swap_remove(place);
            self.rooms[room_of(n, self.shape.rooms)].acknowledge(offset);
            self.acknowledged += 1;
            if is_measuring {
                self.latency.record(since.elapsed());
            }
            Ok(())
        })?;
        connection.flush()
    }
}

impl Load for Publishers {
    fn run(&mut self, schedule: &Schedule) -> Result<Measured, BenchError> {
        let mut run = Run::new(schedule.clone(), Instant::now());
        let mut buffer = Vec::new();
        let mut events = Events::with_capacity(1024);
        (0..self.publishers.len()).try_for_each(|index| self.publish(index))?;
        loop {
            self.poll
                .poll(&mut events, Some(schedule.patience()))
                .doing(|| "waiting for events".to_owned())?;
            for event in &events {
                let index = event.token().0;
                self.receive(index, &mut buffer, run.is_measuring())?;
                if !run.is_draining() {
                    self.publish(index)?;
                }
            }
            let now = Instant::now();
            run.turn(now, self.acknowledged)?;
            if let Some(measured) = run.result(now, self.published - self.acknowledged) {
                return Ok(measured);
            }
        }
    }

    fn verdict(&self) -> Verdict {
        let mut verdict = Verdict { corrupt: self.corrupt, ..Verdict::default() };
        self.rooms.iter().for_each(|room| verdict += room.verdict());
        verdict
    }
}

/// The command that publishes number `n`.
fn text(room: usize, n: u64, with_key: bool) -> String {
    let rest = r#"{"n":,"pad":""}"#.len() + n.to_string().len();
    let mut text = envelope::publish(&format!("bench/{room}"), n, PAYLOAD_BYTES - rest);
    if with_key {
        text.truncate(text.len() - 2);
        text.push_str(&format!(r#","key":"{n:016x}"}}}}"#));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_has_the_size_that_is_compared() {
        for n in [1, 99, 1_234_567] {
            let text = text(7, n, n == 99);
            let payload = &text[text.find(r#"{"n""#).unwrap()..=text.find('}').unwrap()];
            assert_eq!(payload.len(), PAYLOAD_BYTES);
        }
    }

    #[test]
    fn offsets_that_are_missing_twice_or_invented_are_found() {
        let verdict = |published, offsets: &[u64]| {
            let mut room = Room { published, ..Room::default() };
            offsets.iter().for_each(|&offset| room.acknowledge(offset));
            room.verdict()
        };
        assert!(verdict(3, &[2, 1, 3]).is_clean());
        assert_eq!(verdict(3, &[1, 3]), Verdict { lost: 1, ..Verdict::default() });
        let twice = Verdict { lost: 1, duplicated: 1, ..Verdict::default() };
        assert_eq!(verdict(3, &[1, 3, 3]), twice);
        let invented = Verdict { lost: 1, corrupt: 1, ..Verdict::default() };
        assert_eq!(verdict(3, &[1, 2, 4]), invented);
    }
}
