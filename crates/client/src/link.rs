//! What a connection's task is told: what to send, and to end.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// From so many bytes on that wait for the socket, publications wait in the outbox.
const CONGESTED_BYTES: usize = 256 * 1024;

/// From the client to one connection's task.
///
/// What the application sends is bounded before it comes here: publications by the outbox, which
/// sends none while the link is congested, other commands by their number.
#[derive(Default)]
pub(crate) struct Link {
    inner: Mutex<Inner>,
    notify: Notify,
}

#[derive(Default)]
struct Inner {
    texts: VecDeque<String>,
    bytes: usize,
    congested: bool,
    end: Option<(u16, &'static str)>,
}

impl Link {
    /// Queues a message. Returns true when that made the link congested.
    pub(crate) fn send(&self, text: String) -> bool {
        let mut inner = self.lock();
        inner.bytes += text.len();
        inner.texts.push_back(text);
        let became = inner.bytes >= CONGESTED_BYTES && !inner.congested;
        inner.congested |= became;
        drop(inner);
        self.notify.notify_one();
        became
    }

    /// Ends the connection after what is queued.
    pub(crate) fn end(&self, code: u16, reason: &'static str) {
        self.lock().end.get_or_insert((code, reason));
        self.notify.notify_one();
    }

    /// The next message to send, and whether the link is no longer congested by taking it.
    pub(crate) fn take(&self) -> Option<(String, bool)> {
        let mut inner = self.lock();
        let text = inner.texts.pop_front()?;
        inner.bytes -= text.len();
        let eased = inner.congested && inner.bytes < CONGESTED_BYTES / 2;
        inner.congested &= !eased;
        Some((text, eased))
    }

    /// How to end, once nothing is left to send.
    pub(crate) fn ended(&self) -> Option<(u16, &'static str)> {
        let inner = self.lock();
        inner.end.filter(|_| inner.texts.is_empty())
    }

    /// Whether it is to end, be there something left to send or not.
    pub(crate) fn is_ending(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Waits until there may be something new.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
