//! What was delivered in `$user/<me>`, and which stream has not handled it yet.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Weak;

use clarion_protocol::Position;

use crate::core::RoomEvent;
use crate::events::Queue;

/// Most deliveries that wait to be handled. When there are more, the oldest counts as one that never
/// is.
const WAITING_MAX: usize = 16_384;

/// What was delivered and is not handled by every stream that has it.
///
/// A stream has handled a publication when its reader asks for what comes after it. What a stream
/// could not keep, or had not handled when it was dropped, is never handled, and neither is what
/// nobody listened to. An acknowledgement being cumulative, there is none of that and of what comes
/// after it, until the application acknowledges by itself.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: VecDeque<Delivery>,
    /// The number of the first of `waiting`.
    first: u64,
    failed: Option<Failed>,
}

/// What never will be handled.
struct Failed {
    /// The number of the oldest of it.
    oldest: u64,
    /// The number of the newest of it, and its position.
    newest: (u64, Position),
}

struct Delivery {
    position: Position,
    /// The streams that have it and have not handled it.
    readers: Vec<Weak<Queue<RoomEvent>>>,
}

impl Inbox {
    /// The number that the next delivery has.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    /// Something was delivered to these streams; `is_whole` is false if another could not keep it.
    pub(crate) fn delivered(
        &mut self,
        position: Position,
        readers: Vec<Weak<Queue<RoomEvent>>>,
        is_whole: bool,
    ) {
        if readers.is_empty() || !is_whole {
            self.fail(self.next_number(), position.clone());
        }
        if !readers.is_empty() {
            self.waiting.push_back(Delivery { position, readers });
        }
        // Streams that are gone. Those of the first are enough: it is what the others wait for.
        while let Some(delivery) = self.waiting.front() {
            let is_orphan = delivery.readers.iter().any(|reader| reader.strong_count() == 0);
            if !is_orphan && self.waiting.len() <= WAITING_MAX {
                break;
            }
            let number = self.first;
            if let Some(Delivery { position, .. }) = self.pop() {
                self.fail(number, position);
            }
        }
    }

    /// A stream has handled the delivery with this number. Returns up to where everything is.
    pub(crate) fn handled(
        &mut self,
        number: u64,
        reader: *const Queue<RoomEvent>,
    ) -> Option<Position> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let readers = &mut self.waiting.get_mut(index)?.readers;
        readers.retain(|it| !ptr::eq(it.as_ptr(), reader));
        let mut newest = None;
        while self.waiting.front().is_some_and(|delivery| delivery.readers.is_empty()) {
            let is_good = self.failed.as_ref().is_none_or(|failed| self.first < failed.oldest);
            let delivery = self.pop();
            if is_good {
                newest = delivery.map(|delivery| delivery.position);
            }
        }
        newest
    }

    /// The application has acknowledged by itself.
    pub(crate) fn acknowledged(&mut self, to: &Position) {
        let is_over = |it: &Position| it.epoch != to.epoch || it.offset <= to.offset;
        self.failed.take_if(|failed| is_over(&failed.newest.1));
        while self.waiting.front().is_some_and(|delivery| is_over(&delivery.position)) {
            self.pop();
        }
    }

    fn fail(&mut self, number: u64, position: Position) {
        let newest = (number, position);
        match &mut self.failed {
            None => self.failed = Some(Failed { oldest: number, newest }),
            Some(failed) => {
                failed.oldest = failed.oldest.min(number);
                if failed.newest.0 <= number {
                    failed.newest = newest;
                }
            }
        }
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?;
        self.first += 1;
        Some(delivery)
    }
}
