//! Tables that give back what a burst left.

use std::collections::{BinaryHeap, VecDeque};
use std::hash::{BuildHasher, Hash};

/// A table that keeps the capacity of its fullest moment until it is told to give it back.
pub trait Shrink {
    /// Gives back capacity of which less than an eighth is used. To be called now and then, and not with
    /// every removal: a table that fills and empties in every turn is not to be made anew in each.
    fn shrink(&mut self);
}

/// Up to so many places are not worth it.
const KEPT_COUNT: usize = 32;

macro_rules! shrink {
    ($([$($bounds:tt)*] $table:ty),* $(,)?) => {$(
        impl<$($bounds)*> Shrink for $table {
            fn shrink(&mut self) {
                if self.capacity() > KEPT_COUNT && self.len() < self.capacity() / 8 {
                    self.shrink_to(2 * self.len());
                }
            }
        }
    )*};
}

shrink! {
    [T] Vec<T>,
    [T] VecDeque<T>,
    [T: Ord] BinaryHeap<T>,
    [K: Eq + Hash, V, S: BuildHasher] std::collections::HashMap<K, V, S>,
    [K: Eq + Hash, V, S: BuildHasher] hashbrown::HashMap<K, V, S>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_burst_left_is_given_back_and_what_is_in_use_is_kept() {
        let mut list: Vec<u32> = (0..10_000).collect();
        let mut map: hashbrown::HashMap<u32, (), foldhash::fast::FixedState> =
            list.iter().map(|n| (*n, ())).collect();
        let full = (list.capacity(), map.capacity());
        list.truncate(5_000);
        map.retain(|n, ()| *n < 5_000);
        list.shrink();
        map.shrink();
        assert!(list.capacity() == full.0 && map.capacity() > full.1 / 2, "half of it is in use");
        list.truncate(100);
        map.retain(|n, ()| *n < 100);
        list.shrink();
        map.shrink();
        assert!(list.capacity() < 400 && map.capacity() < 800);
        assert!(list.len() == 100 && (0..100).all(|n| map.contains_key(&n)));
        list.clear();
        list.shrink();
        assert_eq!(list.capacity(), 0);
    }
}
