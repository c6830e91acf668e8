//! What happens, as a stream with a bound.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

/// So many events were not kept, because the stream was not read fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events were not kept", self.0)
    }
}

impl std::error::Error for Lagged {}

/// What happens to a client or in a room, from the moment this was made.
///
/// It holds at most as many events as it was made for (1,024 unless said otherwise) and 16 MiB of
/// payloads. What comes while it is full is counted and not kept, and an `Err(`[`Lagged`]`)` stands
/// in its place: what comes before it is older, what comes after is newer. The room's
/// [position](crate::Room::position) moves on meanwhile; [history](crate::Room::history) has what
/// was not kept.
///
/// In `$user/<me>` a publication counts as handled when its reader asks for the next event, and is
/// acknowledged then; not so what comes after one that was not kept, or that the reader had when it
/// dropped the stream ([`Builder::auto_ack`](crate::Builder::auto_ack)). So a reader that handles
/// one after the other, and stops where it fails, needs to do nothing else; one that reads ahead
/// acknowledges by itself.
///
/// It does not keep the client alive: after the last handle is dropped, and what was held is read,
/// it ends.
pub struct Events<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Events<T> {
    pub(crate) fn new(queue: Arc<Queue<T>>) -> Self {
        Self { queue }
    }

    /// The next event; `None` after the end.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<T, Lagged>> {
        poll_fn(|context| self.queue.poll(context)).await
    }
}

impl<T> Stream for Events<T> {
    type Item = Result<T, Lagged>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll(context)
    }
}

impl<T> fmt::Debug for Events<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// Most bytes of payloads that wait in one stream.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events between the client and one reader.
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    /// Who wants to know when something is handled.
    owner: Option<Owner<T>>,
}

/// Is told which delivery the reader of a queue has handled, by its number.
pub(crate) type Owner<T> = Box<dyn Fn(u64, &Queue<T>) + Send + Sync>;

struct Item<T> {
    event: Result<T, Lagged>,
    /// Of its payload, in bytes.
    size: usize,
    /// The number of its delivery, if its being handled matters.
    number: Option<u64>,
}

struct Inner<T> {
    items: VecDeque<Item<T>>,
    /// The number of what the reader has, and has not asked to go on from.
    reading: Option<u64>,
    bytes: usize,
    capacity: usize,
    /// How many were not kept after the last of `items`.
    lagged: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl<T> Queue<T> {
    pub(crate) fn new(capacity: usize, owner: Option<Owner<T>>) -> Arc<Self> {
        Arc::new(Self {
            owner,
            inner: Mutex::new(Inner {
                items: VecDeque::new(),
                reading: None,
                bytes: 0,
                capacity: capacity.max(1),
                lagged: 0,
                closed: false,
                waker: None,
            }),
        })
    }

    /// Returns whether it was kept.
    pub(crate) fn push(&self, event: T, size: usize, number: Option<u64>) -> bool {
        let mut inner = self.lock();
        let is_kept = inner.items.len() < inner.capacity && inner.bytes + size <= BYTES_MAX;
        if is_kept {
            if inner.lagged > 0 {
                let lagged = Lagged(std::mem::take(&mut inner.lagged));
                inner.items.push_back(Item { event: Err(lagged), size: 0, number: None });
            }
            inner.items.push_back(Item { event: Ok(event), size, number });
            inner.bytes += size;
        } else {
            inner.lagged += 1;
        }
        inner.wake();
        is_kept
    }

    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.wake();
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<T, Lagged>>> {
        let handled = self.lock().reading.take();
        if let (Some(number), Some(owner)) = (handled, &self.owner) {
            // Without the lock: the owner has one that comes first.
            owner(number, self);
        }
        let mut inner = self.lock();
        if let Some(Item { event, size, number }) = inner.items.pop_front() {
            inner.bytes -= size;
            inner.reading = number;
            return Poll::Ready(Some(event));
        }
        if inner.lagged > 0 {
            return Poll::Ready(Some(Err(Lagged(std::mem::take(&mut inner.lagged)))));
        }
        if inner.closed {
            return Poll::Ready(None);
        }
        inner.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Inner<T> {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_kept_leaves_its_number_in_its_place() {
        let queue = Queue::new(2, None);
        let mut events = Events::new(queue.clone());
        (1..=5).for_each(|n| _ = queue.push(n, 0, None));
        assert_eq!(events.next().await, Some(Ok(1)));
        queue.push(6, 0, None);
        assert_eq!(events.next().await, Some(Ok(2)));
        assert_eq!(events.next().await, Some(Err(Lagged(3))));
        assert_eq!(events.next().await, Some(Ok(6)));
        queue.push(7, BYTES_MAX, None);
        queue.push(8, 1, None);
        queue.close();
        assert_eq!(events.next().await, Some(Ok(7)));
        assert_eq!(events.next().await, Some(Err(Lagged(1))));
        assert_eq!(events.next().await, None);
    }

    #[tokio::test]
    async fn reader_that_waits_is_woken() {
        let queue = Queue::new(2, None);
        let mut events = Events::new(queue.clone());
        let reader = tokio::spawn(async move { (events.next().await, events.next().await) });
        tokio::task::yield_now().await;
        queue.push(1, 0, None);
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(reader.await.unwrap(), (Some(Ok(1)), None));
    }
}
