//! Rooms by slot and by name: those whose home a worker is, and those with members on it.

use clarion_protocol::RoomName;
use clarion_store::Shrink;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use slab::Slab;
use std::ops::Index;

/// A room's memory goes with it, and the slots, of 16 bytes each, with most of the rooms: see
/// [`Rooms::shrink`]. In one block of all rooms, 24,000 that were left kept 15 MiB.
#[derive(Debug)]
pub(crate) struct Rooms<T> {
    slots: Slab<Box<T>>,
    by_name: HashMap<RoomName, u32, FixedState>,
}

impl<T> Rooms<T> {
    pub(crate) fn new(hasher: FixedState) -> Self {
        Self { slots: Slab::new(), by_name: HashMap::with_hasher(hasher) }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn find(&self, name: &RoomName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize).map(|room| &**room)
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize).map(|room| &mut **room)
    }

    pub(crate) fn insert(&mut self, name: RoomName, room: T) -> u32 {
        let slot = self.slots.insert(Box::new(room)) as u32;
        self.by_name.insert(name, slot);
        slot
    }

    pub(crate) fn remove(&mut self, name: &RoomName) {
        if let Some(slot) = self.by_name.remove(name) {
            self.slots.remove(slot as usize);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().map(|(slot, room)| (slot as u32, &**room))
    }

    /// Gives back what many rooms left that are gone, and has each give back what its members left.
    pub(crate) fn shrink(&mut self, mut each: impl FnMut(&mut T)) {
        self.by_name.shrink();
        if self.slots.len() < self.slots.capacity() / 8 {
            self.slots.shrink_to_fit();
        }
        self.slots.iter_mut().for_each(|(_, room)| each(room));
    }
}

impl<T> Index<u32> for Rooms<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.slots[slot as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u32) -> RoomName {
        RoomName::parse(&format!("room/{n}")).unwrap()
    }

    #[test]
    fn many_rooms_that_came_and_went_leave_little() {
        let mut rooms = Rooms::new(FixedState::default());
        let slots: Vec<u32> = (0..10_000).map(|n| rooms.insert(name(n), n)).collect();
        (0..10_000).filter(|n| *n != 50).for_each(|n| rooms.remove(&name(n)));
        rooms.shrink(|_| {});
        assert!(rooms.slots.capacity() <= 64 && rooms.by_name.capacity() <= 64);
        assert_eq!((rooms.len(), rooms.find(&name(50))), (1, Some(slots[50])));
        assert_eq!((rooms[slots[50]], rooms.get(slots[51])), (50, None));
        rooms.insert(name(7), 7);
        assert_eq!(rooms.find(&name(7)).map(|slot| rooms[slot]), Some(7));
    }

    /// It cannot move; but a slot is small, whatever a room takes.
    #[test]
    fn a_room_that_stays_keeps_no_more_than_slots() {
        let mut rooms = Rooms::new(FixedState::default());
        (0..10_000).for_each(|n| _ = rooms.insert(name(n), [n; 100]));
        (0..9_999).for_each(|n| rooms.remove(&name(n)));
        rooms.shrink(|_| {});
        assert_eq!(rooms.iter().next(), Some((9_999, &[9_999; 100])));
        assert!(rooms.by_name.capacity() <= 64);
    }
}
