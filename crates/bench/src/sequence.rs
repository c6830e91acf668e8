//! Checks that numbers arrive consecutively, each once.
//!
//! The generator would be worthless as evidence if it only counted: a server that drops one message
//! and repeats another has the same rate. So every number that arrives is told apart:
//!
//! - **next**: the one expected;
//! - **ahead**: it skips some, which are missing from now on;
//! - **late**: it was missing and now comes: reordered, not lost;
//! - **duplicate**: it was here before.
//!
//! What is still missing at the end, and what never came behind the last one, is lost.

use std::fmt;
use std::ops::{AddAssign, Range};

/// What is wrong with the answers; all zero is right.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Never arrived.
    pub lost: u64,
    /// Arrived again.
    pub duplicated: u64,
    /// Arrived behind one that follows it.
    pub reordered: u64,
    /// Arrived with other content than was sent, or with a number that nobody sent.
    pub corrupt: u64,
}

impl Verdict {
    /// Whether every answer was right.
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Verdict {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupt += other.corrupt;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lost {}, duplicated {}, reordered {}, corrupt {}",
            self.lost, self.duplicated, self.reordered, self.corrupt
        )
    }
}

/// How one number relates to those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The expected one.
    Next,
    /// Beyond the expected one; those between are missing now.
    Ahead,
    /// One that was missing.
    Late,
    /// One that was here already.
    Duplicate,
}

/// Follows one sequence of consecutive numbers.
///
/// Memory grows by one range for each hole, so only with a broken server.
#[derive(Debug, Clone)]
pub(crate) struct Sequence {
    next: u64,
    /// Ascending, disjoint, all below `next`.
    missing: Vec<Range<u64>>,
    duplicated: u64,
    reordered: u64,
}

impl Sequence {
    /// A sequence that starts with `first`; a smaller number counts as a duplicate.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { next: first, missing: Vec::new(), duplicated: 0, reordered: 0 }
    }

    /// Takes the next number as it arrives.
    pub(crate) fn arrive(&mut self, number: u64) -> Arrival {
        if number == self.next {
            self.next += 1;
            return Arrival::Next;
        }
        if number > self.next {
            self.missing.push(self.next..number);
            self.next = number + 1;
            return Arrival::Ahead;
        }
        self.behind(number)
    }

    /// What was wrong, when every number below `end` should have arrived.
    pub(crate) fn verdict(&self, end: u64) -> Verdict {
        let holes: u64 = self.missing.iter().map(|hole| hole.end - hole.start).sum();
        Verdict {
            lost: holes + end.saturating_sub(self.next),
            duplicated: self.duplicated,
            reordered: self.reordered,
            corrupt: 0,
        }
    }

    fn behind(&mut self, number: u64) -> Arrival {
        let Some(index) = self.missing.iter().position(|hole| hole.contains(&number)) else {
            self.duplicated += 1;
            return Arrival::Duplicate;
        };
        let hole = self.missing[index].clone();
        let rest = [hole.start..number, number + 1..hole.end];
        self.missing.splice(index..=index, rest.into_iter().filter(|part| !part.is_empty()));
        self.reordered += 1;
        Arrival::Late
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, Sequence, Verdict};

    fn verdict_of(history: &[u64], end: u64) -> Verdict {
        let mut sequence = Sequence::starting_at(1);
        for &number in history {
            sequence.arrive(number);
        }
        sequence.verdict(end)
    }

    #[test]
    fn consecutive_history_is_clean() {
        assert!(verdict_of(&[1, 2, 3, 4], 5).is_clean());
    }

    #[test]
    fn hole_is_lost() {
        assert_eq!(verdict_of(&[1, 2, 5], 6), Verdict { lost: 2, ..Verdict::default() });
    }

    #[test]
    fn missing_tail_is_lost() {
        assert_eq!(verdict_of(&[1, 2], 5), Verdict { lost: 2, ..Verdict::default() });
    }

    #[test]
    fn missing_head_is_lost() {
        assert_eq!(verdict_of(&[3, 4], 5), Verdict { lost: 2, ..Verdict::default() });
    }

    #[test]
    fn nothing_at_all_is_lost() {
        assert_eq!(verdict_of(&[], 5).lost, 4);
    }

    #[test]
    fn repeated_number_is_duplicated() {
        let history = [1, 2, 2, 3, 1, 3];
        assert_eq!(verdict_of(&history, 4), Verdict { duplicated: 3, ..Verdict::default() });
    }

    #[test]
    fn swapped_numbers_are_reordered_and_not_lost() {
        assert_eq!(verdict_of(&[1, 3, 2, 4], 5), Verdict { reordered: 1, ..Verdict::default() });
    }

    #[test]
    fn late_number_that_comes_twice_is_reordered_and_duplicated() {
        let expected = Verdict { reordered: 1, duplicated: 1, ..Verdict::default() };
        assert_eq!(verdict_of(&[1, 3, 2, 2], 4), expected);
    }

    #[test]
    fn late_number_splits_its_hole() {
        let expected = Verdict { lost: 3, reordered: 1, ..Verdict::default() };
        assert_eq!(verdict_of(&[1, 6, 4], 7), expected);
    }

    #[test]
    fn arrivals_are_told_apart() {
        let mut sequence = Sequence::starting_at(10);
        assert_eq!(sequence.arrive(10), Arrival::Next);
        assert_eq!(sequence.arrive(12), Arrival::Ahead);
        assert_eq!(sequence.arrive(11), Arrival::Late);
        assert_eq!(sequence.arrive(11), Arrival::Duplicate);
        assert_eq!(sequence.arrive(9), Arrival::Duplicate);
        assert_eq!(sequence.arrive(13), Arrival::Next);
    }

    #[test]
    fn every_single_fault_in_a_random_history_is_found() {
        // A small linear congruential generator; the seed is the test's name for the case.
        for seed in 0..200_u64 {
            let mut state = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below
            };
            let mut history: Vec<u64> = (1..=50).collect();
            let expected = match seed % 3 {
                0 => {
                    history.remove(draw(50) as usize);
                    Verdict { lost: 1, ..Verdict::default() }
                }
                1 => {
                    let from = draw(50) as usize;
                    let to = from + 1 + draw(50 - from as u64) as usize;
                    history.insert(to, history[from]);
                    Verdict { duplicated: 1, ..Verdict::default() }
                }
                _ => {
                    let at = draw(49) as usize;
                    history.swap(at, at + 1);
                    Verdict { reordered: 1, ..Verdict::default() }
                }
            };
            assert_eq!(verdict_of(&history, 51), expected, "seed {seed}");
        }
    }
}
