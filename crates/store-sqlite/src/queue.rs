//! What waits for a thread: requests in order, bounded in bytes.

use clarion_store::{Completion, Request, StoreError, weight};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that a request counts for beside what it holds.
const REQUEST_BYTES: usize = 256;

/// Something that waits.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// To be done.
    Request(u32, Request),
    /// Refused already; it waits only for its place, since answers keep the order of requests.
    Refused(u32, Completion),
}

/// A queue between many that submit and one thread that takes.
///
/// Requests are let in until `bound` bytes wait; after that they are refused at once and only the
/// refusal, which has no payload, takes its place in the order. How many of those may wait is for
/// whoever submits to bound, as it bounds what it has under way.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    bound: usize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(crate) fn new(bound: usize) -> Self {
        Self { inner: Mutex::default(), filled: Condvar::new(), bound }
    }

    /// Lets a request in, or its refusal; says which.
    pub(crate) fn push(&self, to: u32, request: Request) -> bool {
        let bytes = bytes_of(&request);
        let mut inner = self.lock();
        let fits = !inner.closed && (inner.bytes == 0 || inner.bytes + bytes <= self.bound);
        let waiting = if fits {
            inner.bytes += bytes;
            Waiting::Request(to, request)
        } else {
            Waiting::Refused(to, request.refuse(StoreError::Unavailable))
        };
        inner.waiting.push_back(waiting);
        if inner.waiting.len() == 1 {
            self.filled.notify_one();
        }
        fits
    }

    /// Takes the oldest, up to `count` and about `bytes`; waits for something until `until`.
    ///
    /// `None` if the queue was closed and is empty: nothing will come any more.
    pub(crate) fn take(
        &self,
        count: usize,
        bytes: usize,
        until: Option<Instant>,
    ) -> Option<Vec<Waiting>> {
        let mut inner = self.lock();
        while inner.waiting.is_empty() {
            if inner.closed {
                return None;
            }
            inner = match until {
                None => self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        return Some(Vec::new());
                    }
                    let woken = self.filled.wait_timeout(inner, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        let (mut taken, mut taken_bytes) = (Vec::new(), 0);
        while taken.len() < count
            && taken_bytes < bytes
            && let Some(waiting) = inner.waiting.pop_front()
        {
            if let Waiting::Request(_, request) = &waiting {
                taken_bytes += bytes_of(request);
            }
            taken.push(waiting);
        }
        inner.bytes -= taken_bytes;
        Some(taken)
    }

    /// Lets nothing in any more; what waits is still taken.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here can panic halfway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes_of(request: &Request) -> usize {
    REQUEST_BYTES
        + match request {
            Request::Append { publication, .. } => weight(publication),
            Request::Revoke { subject, .. } => subject.len(),
            Request::Group { group, user, .. } => group.len() + user.len(),
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revoke(token: u64, size: usize) -> Request {
        Request::Revoke { token, subject: "x".repeat(size).into(), at_ms: 0, until_ms: 0 }
    }

    fn taken(queue: &Queue, count: usize, bytes: usize) -> Vec<(u64, bool)> {
        let taken = queue.take(count, bytes, None).unwrap_or_default();
        let seen = taken.iter().map(|waiting| match waiting {
            Waiting::Request(_, request) => (request.token(), true),
            Waiting::Refused(_, completion) => (completion.token(), false),
        });
        seen.collect()
    }

    #[test]
    fn what_is_over_the_bound_is_refused_in_its_place() {
        let queue = Queue::new(1_000);
        assert!(queue.push(1, revoke(1, 2_000)), "one fits whatever its size");
        assert!(!queue.push(1, revoke(2, 1)));
        assert_eq!(taken(&queue, 1, 99), [(1, true)]);
        assert!(queue.push(1, revoke(3, 1)));
        assert_eq!(taken(&queue, 9, 99_999), [(2, false), (3, true)]);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn a_batch_ends_by_count_and_by_bytes() {
        let queue = Queue::new(1 << 20);
        for token in 0..6 {
            queue.push(1, revoke(token, 44));
        }
        assert_eq!(taken(&queue, 2, 99_999).len(), 2);
        assert_eq!(taken(&queue, 99, 301).len(), 2, "the one that passes the bound is the last");
        queue.close();
        assert!(!queue.push(1, revoke(6, 1)));
        assert_eq!(taken(&queue, 99, 99_999), [(4, true), (5, true), (6, false)]);
        assert!(queue.take(1, 1, None).is_none());
        assert_eq!(
            Queue::new(1).take(1, 1, Some(Instant::now())).map(|taken| taken.len()),
            Some(0)
        );
    }
}
