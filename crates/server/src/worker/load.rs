//! How many connections a worker has, as the front sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Connections of one worker, those on their way to it included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

/// A place for one connection on a worker; given back when dropped, unless it was taken.
#[derive(Debug)]
pub(crate) struct Seat(Option<Load>);

impl Load {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// Keeps a place for a connection whose handshake is not done yet.
    pub(crate) fn reserve(&self) -> Seat {
        self.0.fetch_add(1, Relaxed);
        Seat(Some(self.clone()))
    }

    /// A connection that took its seat is gone.
    pub(crate) fn leave(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Seat {
    /// The connection has arrived; the worker calls [`Load::leave`] when it ends.
    pub(crate) fn settle(mut self) {
        self.0 = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(load) = &self.0 {
            load.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_back_exactly_once() {
        let load = Load::default();
        drop(load.reserve());
        assert_eq!(load.count(), 0);
        load.reserve().settle();
        assert_eq!(load.count(), 1);
        load.leave();
        assert_eq!(load.count(), 0);
    }
}
