//! Mail between workers: one box for each pair of them, and the office that holds all.
//!
//! The mail of a turn is gathered by its sender and put into the box with one lock; the receiver
//! takes all there is with one lock. The boxes are bounded in bytes, but not by refusing mail,
//! which would break the order that the engine rests on: the shard asks
//! [`Outgoing::queued`] first and holds back what it can read from the log again, or stops
//! reading who commands, and [`Outgoing::want_room`] tells it when to go on.

use super::doorbell::Doorbell;
use super::meter::Meter;
use clarion_engine::{Mail, WorkerId};
use clarion_store::Shrink;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All mailboxes and bells of the process.
#[derive(Debug)]
pub(crate) struct PostOffice {
    /// The box from `a` to `b` is at `a * workers + b`.
    boxes: Vec<Mailbox>,
    bells: Vec<Arc<Doorbell>>,
    /// A sender that waits for room is told when so many bytes or fewer are left.
    low_mark: usize,
}

#[derive(Debug, Default)]
struct Mailbox {
    inside: Mutex<Inside>,
    /// Bytes in it. Changed under the lock, read by the sender without.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inside {
    mail: Vec<Mail>,
    /// The sender's bell is to be rung when there is room.
    room_wanted: bool,
}

impl PostOffice {
    /// An office for as many workers as there are bells.
    pub(crate) fn new(bells: Vec<Arc<Doorbell>>, mailbox_bytes: usize) -> Self {
        let boxes = (0..bells.len() * bells.len()).map(|_| Mailbox::default()).collect();
        Self { boxes, bells, low_mark: mailbox_bytes / 2 }
    }

    fn mailbox(&self, from: WorkerId, to: WorkerId) -> &Mailbox {
        &self.boxes[usize::from(from.0) * self.bells.len() + usize::from(to.0)]
    }

    /// Bytes of mail that were not yet taken, over all pairs of workers.
    pub(crate) fn bytes(&self) -> usize {
        self.boxes.iter().map(|mailbox| mailbox.bytes.load(SeqCst)).sum()
    }

    /// Moves everything that was brought for `to` into `into`, sender by sender.
    pub(crate) fn take(&self, to: WorkerId, into: &mut Vec<Mail>) {
        for (from, bell) in self.bells.iter().enumerate() {
            let mailbox = self.mailbox(WorkerId(from as u16), to);
            if mailbox.bytes.load(SeqCst) == 0 {
                continue;
            }
            let mut inside = mailbox.lock();
            if into.is_empty() {
                std::mem::swap(into, &mut inside.mail);
            } else {
                into.append(&mut inside.mail);
            }
            mailbox.bytes.store(0, SeqCst);
            let room_wanted = std::mem::take(&mut inside.room_wanted);
            drop(inside);
            if room_wanted {
                bell.ring();
            }
        }
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        // A worker that panics ends the process; until then the mail is as good as ever.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's outgoing mail.
#[derive(Debug)]
pub(crate) struct Outgoing {
    from: WorkerId,
    office: Arc<PostOffice>,
    /// The mail of this turn, by destination.
    gathered: Vec<Gathered>,
    /// Destinations with mail of this turn.
    touched: Vec<WorkerId>,
    /// Destinations whose room the shard waits for.
    waiting: Vec<WorkerId>,
}

#[derive(Debug, Default)]
struct Gathered {
    mail: Vec<Mail>,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn new(from: WorkerId, office: Arc<PostOffice>) -> Self {
        let gathered = office.bells.iter().map(|_| Gathered::default()).collect();
        Self { from, office, gathered, touched: Vec::new(), waiting: Vec::new() }
    }

    /// Keeps `mail` for the end of the turn.
    pub(crate) fn post(&mut self, to: WorkerId, mail: Mail) {
        let gathered = &mut self.gathered[usize::from(to.0)];
        if gathered.mail.is_empty() {
            self.touched.push(to);
        }
        gathered.bytes += mail.size();
        gathered.mail.push(mail);
    }

    /// Bytes on their way to `to`, those of this turn included.
    pub(crate) fn queued(&self, to: WorkerId) -> usize {
        self.gathered[usize::from(to.0)].bytes
            + self.office.mailbox(self.from, to).bytes.load(SeqCst)
    }

    /// Asks to have `to` among what [`Self::rooms`] gives, once, as soon as there is room.
    pub(crate) fn want_room(&mut self, to: WorkerId) {
        if !self.waiting.contains(&to) {
            self.waiting.push(to);
        }
    }

    /// Gives back what a turn with much mail left.
    pub(crate) fn shrink(&mut self) {
        self.gathered.iter_mut().for_each(|gathered| gathered.mail.shrink());
    }

    /// Hands over the mail of this turn.
    pub(crate) fn flush(&mut self, meter: &Meter) {
        for to in self.touched.drain(..) {
            let gathered = &mut self.gathered[usize::from(to.0)];
            let mailbox = self.office.mailbox(self.from, to);
            let mut inside = mailbox.lock();
            if inside.mail.is_empty() {
                std::mem::swap(&mut inside.mail, &mut gathered.mail);
            } else {
                inside.mail.append(&mut gathered.mail);
            }
            let more = std::mem::take(&mut gathered.bytes);
            let before = mailbox.bytes.fetch_add(more, SeqCst);
            drop(inside);
            meter.mailbox_holds(before + more);
            self.office.bells[usize::from(to.0)].ring();
        }
        for &to in &self.waiting {
            let mailbox = self.office.mailbox(self.from, to);
            let mut inside = mailbox.lock();
            if mailbox.bytes.load(SeqCst) > self.office.low_mark {
                inside.room_wanted = true;
            } else {
                // It was emptied while we were busy; we must not sleep over it.
                drop(inside);
                self.office.bells[usize::from(self.from.0)].ring();
            }
        }
    }

    /// Moves those destinations into `into` whose room is waited for and is there now.
    pub(crate) fn rooms(&mut self, into: &mut Vec<WorkerId>) {
        if self.waiting.is_empty() {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&to| {
            let room = self.queued(to) <= self.office.low_mark;
            if room {
                into.push(to);
            }
            !room
        });
        self.waiting = waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use clarion_engine::ConnId;
    use mio::{Events, Poll, Token, Waker};
    use std::time::Duration;

    fn office(workers: usize, mailbox_bytes: usize) -> (Vec<Poll>, Arc<PostOffice>) {
        let polls: Vec<_> = (0..workers).map(|_| Poll::new().unwrap()).collect();
        let bell = |p: &Poll| Arc::new(Doorbell::new(Waker::new(p.registry(), Token(0)).unwrap()));
        let bells = polls.iter().map(bell).collect();
        (polls, Arc::new(PostOffice::new(bells, mailbox_bytes)))
    }

    fn numbered(number: u32) -> Mail {
        let conn = ConnId { index: number, generation: 0 };
        Mail::Unicast { conn, frame: Bytes::from_static(&[0; 100]) }
    }

    fn number(mail: &Mail) -> u32 {
        let Mail::Unicast { conn, .. } = mail else { panic!("{mail:?}") };
        conn.index
    }

    const A: WorkerId = WorkerId(0);
    const B: WorkerId = WorkerId(1);

    #[test]
    fn mail_of_a_turn_arrives_in_order_at_the_flush() {
        let (_polls, office) = office(2, 1 << 20);
        let mut out = Outgoing::new(A, office.clone());
        let mut got = Vec::new();
        out.post(B, numbered(1));
        office.take(B, &mut got);
        assert!(got.is_empty());
        out.flush(&Meter::default());
        out.post(B, numbered(2));
        out.post(B, numbered(3));
        assert_eq!(out.queued(B), 3 * numbered(0).size());
        out.flush(&Meter::default());
        office.take(B, &mut got);
        assert_eq!(got.iter().map(number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((out.queued(B), out.queued(A)), (0, 0));
    }

    #[test]
    fn room_is_told_once_and_rings_the_sender() {
        let size = numbered(0).size();
        let (mut polls, office) = office(2, 4 * size);
        let mut out = Outgoing::new(A, office.clone());
        let mut rooms = Vec::new();
        (0..4).for_each(|n| out.post(B, numbered(n)));
        out.want_room(B);
        out.want_room(B);
        out.flush(&Meter::default());
        out.rooms(&mut rooms);
        assert!(rooms.is_empty());
        assert!(office.bells[0].park(), "nothing happened yet");
        office.take(B, &mut Vec::new());
        let mut events = Events::with_capacity(8);
        polls[0].poll(&mut events, Some(Duration::from_secs(30))).unwrap();
        assert_eq!(events.iter().count(), 1, "the sender is woken");
        out.rooms(&mut rooms);
        out.rooms(&mut rooms);
        assert_eq!(rooms, [B]);
    }

    #[test]
    fn room_that_is_there_already_is_told_too() {
        let (_polls, office) = office(2, 1_000);
        let mut out = Outgoing::new(A, office.clone());
        out.want_room(B);
        out.flush(&Meter::default());
        assert!(!office.bells[0].park(), "the sender must not sleep over it");
        let mut rooms = Vec::new();
        out.rooms(&mut rooms);
        assert_eq!(rooms, [B]);
    }

    /// Two workers send each other numbered mail and sleep whenever there is none; each sends the
    /// next only after the other's came, so a lost wake-up stops the test for good.
    #[test]
    fn no_mail_and_no_wake_up_is_lost() {
        const MAILS: u32 = 50_000;
        let (polls, office) = office(2, 1 << 20);
        let threads: Vec<_> = polls
            .into_iter()
            .enumerate()
            .map(|(id, mut poll)| {
                let office = office.clone();
                std::thread::spawn(move || {
                    let (me, other) = (WorkerId(id as u16), WorkerId(1 - id as u16));
                    let mut out = Outgoing::new(me, office.clone());
                    let (mut events, mut got) = (Events::with_capacity(8), Vec::new());
                    let (mut sent, mut expected) = (0, 0);
                    while expected < MAILS {
                        if sent <= expected {
                            out.post(other, numbered(sent));
                            sent += 1;
                        }
                        out.flush(&Meter::default());
                        let bell = &office.bells[id];
                        if bell.park() {
                            poll.poll(&mut events, None).unwrap();
                        }
                        bell.unpark();
                        if bell.answer() {
                            office.take(me, &mut got);
                        }
                        for mail in got.drain(..) {
                            assert_eq!(number(&mail), expected);
                            expected += 1;
                        }
                    }
                    out.post(other, numbered(sent));
                    out.flush(&Meter::default());
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
