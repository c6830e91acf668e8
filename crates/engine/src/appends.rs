//! The appends of a room that its store has not answered.

use crate::home::PendingAppend;
use clarion_store::{Key, Shrink};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::collections::VecDeque;

/// Oldest first, and by their idempotency keys; bounded by what connections may have under way.
///
/// Without the map each publication with a key would be compared with all that are under way in its
/// room: a tenth of the server's time with 1,024 of them.
#[derive(Debug)]
pub(crate) struct Appends {
    queue: VecDeque<PendingAppend>,
    /// By key: its number, counted from the first append ever.
    keyed: HashMap<Key, u64, FixedState>,
    /// How many were taken from the front.
    taken: u64,
}

impl Appends {
    pub(crate) fn new(hasher: &FixedState) -> Self {
        Self { queue: VecDeque::new(), keyed: HashMap::with_hasher(hasher.clone()), taken: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The append that has this key.
    pub(crate) fn of(&mut self, key: &Key) -> Option<&mut PendingAppend> {
        let number = self.keyed.get(key)?;
        self.queue.get_mut((number - self.taken) as usize)
    }

    pub(crate) fn push(&mut self, append: PendingAppend) {
        if let Some(key) = &append.key {
            self.keyed.insert(key.clone(), self.taken + self.queue.len() as u64);
        }
        self.queue.push_back(append);
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<PendingAppend> {
        let append = self.queue.pop_front()?;
        if let Some(key) = &append.key
            // With a fault planted, another may have the same key.
            && self.keyed.get(key) == Some(&self.taken)
        {
            self.keyed.remove(key);
        }
        self.taken += 1;
        Some(append)
    }

    /// Gives back what appends left that are done.
    pub(crate) fn shrink(&mut self) {
        self.queue.shrink();
        self.keyed.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Asker;
    use crate::id::ApiId;
    use crate::mail::{Origin, Place};
    use clarion_protocol::Publication;
    use std::sync::Arc;

    fn append(time_ms: u64, key: Option<&Key>) -> PendingAppend {
        let publication =
            Publication { kind: "m".into(), payload: "1".into(), time_ms, from: None, key: None };
        let origin = Origin::Api(ApiId(1));
        PendingAppend {
            publication: Arc::new(publication),
            at_us: 0,
            key: key.cloned(),
            asker: Asker { origin, id: None, key: None, command: None, place: Place::Command },
            followers: Vec::new(),
            offers: false,
        }
    }

    #[test]
    fn a_key_is_found_while_its_append_is_under_way_and_no_longer() {
        let key = |name: &str| Key { principal: "u:ada".into(), key: name.into() };
        let (one, two) = (key("one"), key("two"));
        let mut appends = Appends::new(&FixedState::default());
        for round in 0..3 {
            appends.push(append(round, None));
            appends.push(append(round + 10, Some(&one)));
            appends.push(append(round + 20, Some(&two)));
            let mut time_of = |key| appends.of(key).map(|append| append.publication.time_ms);
            assert_eq!((time_of(&one), time_of(&two)), (Some(round + 10), Some(round + 20)));
            assert_eq!(time_of(&key("three")), None);
            assert!(appends.pop().is_some() && appends.pop().is_some());
            assert!(appends.of(&one).is_none() && appends.of(&two).is_some());
            assert_eq!(appends.pop().map(|append| append.publication.time_ms), Some(round + 20));
            assert!(appends.of(&two).is_none() && appends.is_empty() && appends.pop().is_none());
        }
        assert!(appends.keyed.is_empty());
    }
}
