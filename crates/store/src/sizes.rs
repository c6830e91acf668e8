//! How much the logs in memory hold together, and which of them holds most.
//!
//! What one log may hold is its own affair ([`LogLimits`](crate::LogLimits)); this is about a thousand
//! logs that each keep to it. Over the bound the largest gives, so that whoever fills a few rooms
//! takes nothing from the others, and no log that is smaller than an equal share.

use clarion_protocol::RoomName;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What a log takes beside its publications and keys, bytes; about.
pub(crate) const LOG_BYTES: usize = 512;
/// What a publication takes beside what it says, bytes; about.
pub(crate) const PUBLICATION_BYTES: usize = 192;
/// What an idempotency key takes beside its text, bytes; about. It is there twice, by name and by age.
pub(crate) const KEY_BYTES: usize = 192;
/// How old the place of a log may be among those of its class, milliseconds.
const STALE_MS: u64 = 60_000;

/// The logs, by size. One entry for each log.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    all: usize,
    order: BTreeSet<(Place, RoomName)>,
}

/// Where a log stands: by size to the next power of two, and of those the one last that was appended to
/// longest ago. That it is no more exact saves nearly every append a step in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    class: u32,
    since_ms: Reverse<u64>,
}

/// What is known of one log here; the log keeps it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    bytes: usize,
    /// `None`: it has no entry.
    place: Option<Place>,
}

impl Sizes {
    /// Bytes of all logs.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// The log that gives next.
    pub(crate) fn largest(&self) -> Option<&RoomName> {
        self.order.last().map(|(_, room)| room)
    }

    /// A log holds `bytes` now; `appended`: since somebody appended to it.
    pub(crate) fn note(
        &mut self,
        room: &RoomName,
        counted: &mut Counted,
        bytes: usize,
        appended: bool,
        now_ms: u64,
    ) {
        self.all = self.all - counted.bytes + bytes;
        counted.bytes = bytes;
        let class = usize::BITS - bytes.leading_zeros();
        let fresh = Place { class, since_ms: Reverse(now_ms) };
        let place = match counted.place {
            None => fresh,
            Some(place) if appended && now_ms >= place.since_ms.0.saturating_add(STALE_MS) => fresh,
            Some(place) => Place { class, ..place },
        };
        if counted.place != Some(place) {
            if let Some(before) = counted.place.replace(place) {
                self.order.remove(&(before, room.clone()));
            }
            self.order.insert((place, room.clone()));
        }
    }

    /// A log is gone.
    pub(crate) fn forget(&mut self, room: &RoomName, counted: Counted) {
        self.all -= counted.bytes;
        if let Some(place) = counted.place {
            self.order.remove(&(place, room.clone()));
        }
    }
}
