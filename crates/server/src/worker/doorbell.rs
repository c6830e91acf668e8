//! How a sleeping worker is woken: by whoever brings it something, and only if it sleeps.

use mio::Waker;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// One worker's bell. Ringing it never blocks, and costs a system call only if the worker sleeps.
///
/// Both sides write one flag and then read the other's: who rings sets `pending` and looks at
/// `parked`; who parks sets `parked` and looks at `pending`. In the single order that `SeqCst`
/// gives all four, one of the two readers comes last and sees the other's flag, so a ring between
/// "nothing to do" and "asleep" is never lost.
#[derive(Debug)]
pub(crate) struct Doorbell {
    /// Something was brought since [`Self::answer`].
    pending: AtomicBool,
    /// The worker sleeps, or is about to, and nobody has woken it.
    parked: AtomicBool,
    waker: Waker,
}

impl Doorbell {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { pending: AtomicBool::new(false), parked: AtomicBool::new(false), waker }
    }

    /// Tells the worker that there is something for it. Call it after having put it there.
    pub(crate) fn ring(&self) {
        self.pending.store(true, SeqCst);
        if self.parked.swap(false, SeqCst) {
            let woken: io::Result<()> = self.waker.wake();
            woken.expect("an eventfd takes a wake-up as long as its poll lives");
        }
    }

    /// The worker wants to sleep: whether it may. Whatever comes later wakes it.
    pub(crate) fn park(&self) -> bool {
        self.parked.store(true, SeqCst);
        if self.pending.load(SeqCst) {
            self.parked.store(false, SeqCst);
            return false;
        }
        true
    }

    /// The worker is awake: no wake-up is needed until it parks again.
    pub(crate) fn unpark(&self) {
        self.parked.store(false, SeqCst);
    }

    /// Whether anything was brought since the last call. Call it before looking for what.
    pub(crate) fn answer(&self) -> bool {
        // The load first: an idle bell's cache line then stays shared.
        self.pending.load(SeqCst) && self.pending.swap(false, SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll, Token};
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    /// Three threads bring a thing each time the fourth took the last one, so nearly every ring
    /// meets a worker on its way to sleep. A lost wake-up stops the test for good.
    #[test]
    fn no_ring_is_lost() {
        const ROUNDS: u64 = 30_000;
        const RINGERS: u64 = 3;
        let mut poll = Poll::new().unwrap();
        let bell = Arc::new(Doorbell::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let brought = Arc::new(AtomicU64::new(0));
        let taken = Arc::new(AtomicU64::new(0));
        let ringers: Vec<_> = (0..RINGERS)
            .map(|_| {
                let (bell, brought, taken) = (bell.clone(), brought.clone(), taken.clone());
                std::thread::spawn(move || {
                    for _ in 0..ROUNDS {
                        let before = brought.fetch_add(1, SeqCst);
                        bell.ring();
                        while taken.load(SeqCst) <= before {
                            std::thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut events = Events::with_capacity(8);
        let mut sleeps = 0;
        while taken.load(SeqCst) < ROUNDS * RINGERS {
            if bell.park() {
                sleeps += 1;
                poll.poll(&mut events, None).unwrap();
            }
            bell.unpark();
            if bell.answer() {
                taken.store(brought.load(SeqCst), SeqCst);
            }
        }
        ringers.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(sleeps > 0, "the worker never slept, so nothing was tested");
    }

    #[test]
    fn a_waking_worker_is_woken_once() {
        let mut poll = Poll::new().unwrap();
        let bell = Doorbell::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut events = Events::with_capacity(8);
        let mut woken = || {
            poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
            events.iter().count()
        };
        bell.ring();
        assert_eq!(woken(), 0, "an awake worker needs no wake-up");
        assert!(!bell.park(), "there is something to do");
        assert!(bell.answer() && !bell.answer());
        assert!(bell.park());
        bell.ring();
        assert!(!bell.parked.load(SeqCst), "the second ring finds it woken");
        bell.ring();
        assert_eq!(woken(), 1);
    }
}
