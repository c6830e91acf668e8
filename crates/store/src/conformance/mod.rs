//! What every adapter has to pass, as a library: named cases, and random requests that are also put to
//! the [`MemoryStore`](crate::MemoryStore), every completion compared.
//!
//! An adapter implements [`Subject`] and says [`conformance!`](crate::conformance!) with a function
//! that makes an empty one. The cases fail by panicking. They keep to what the contract promises:
//! what reads is never in one batch with what writes, since no order is promised between them.

mod ask;
mod groups;
mod keys;
mod logs;
mod payloads;
mod random;
mod revocations;

use crate::Store;

pub use groups::{groups_are_listed_in_pages, groups_survive_restart};
pub use keys::{
    keys_end_with_their_window, keys_name_one_publication, keys_of_different_principals_never_meet,
    keys_outlive_their_publication, keys_survive_restart,
};
pub use logs::{
    acks_move_forward_only, asking_leaves_nothing_behind, batches_are_answered_in_order,
    failed_batch_leaves_nothing, first_append_makes_the_log, log_survives_restart,
    logs_are_trimmed_by_age, logs_are_trimmed_by_bytes, logs_are_trimmed_by_size,
    many_rooms_keep_apart, offsets_are_consecutive, pages_end_by_count_and_bytes,
    ranges_read_both_ways, trimmed_log_survives_restart,
};
pub use payloads::{names_may_be_long, payloads_come_back_as_they_went, senders_come_back};
pub use random::behaves_as_memory_does;
pub use revocations::{revocations_are_listed_until_they_end, revocations_survive_restart};

/// A store under test.
pub trait Subject: Store {
    /// Ends in order and starts again on what it keeps. What it does not keep over a restart, it keeps
    /// here all the same: the cases about a restart are for stores that do.
    fn restart(&mut self);

    /// Lets everything that writes fail from now on, or work again. Says whether it can do that; the
    /// case about failure is not held against one that cannot.
    fn fail(&mut self, failing: bool) -> bool {
        let _ = failing;
        false
    }
}

/// Makes a test of each case; takes a function that makes an empty [`Subject`](conformance::Subject).
#[macro_export]
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance!($make;
            acks_move_forward_only
            asking_leaves_nothing_behind
            batches_are_answered_in_order
            behaves_as_memory_does
            failed_batch_leaves_nothing
            first_append_makes_the_log
            groups_are_listed_in_pages
            groups_survive_restart
            keys_end_with_their_window
            keys_name_one_publication
            keys_of_different_principals_never_meet
            keys_outlive_their_publication
            keys_survive_restart
            log_survives_restart
            logs_are_trimmed_by_age
            logs_are_trimmed_by_bytes
            logs_are_trimmed_by_size
            many_rooms_keep_apart
            names_may_be_long
            offsets_are_consecutive
            pages_end_by_count_and_bytes
            payloads_come_back_as_they_went
            ranges_read_both_ways
            revocations_are_listed_until_they_end
            revocations_survive_restart
            senders_come_back
            trimmed_log_survives_restart
        );
    };
    ($make:expr; $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::$case($make);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    use super::Subject;
    use crate::{MemoryStore, Store};

    impl Subject for MemoryStore {
        fn restart(&mut self) {}
    }

    crate::conformance!(|| MemoryStore::new(1));

    /// One that forgets the last publication when it starts again, and gives its place anew.
    struct Forgetful {
        kept: Vec<Vec<crate::Request>>,
        store: MemoryStore,
    }

    impl Store for Forgetful {
        fn apply(&mut self, batch: Vec<crate::Request>, now_ms: u64) -> Vec<crate::Completion> {
            if batch.iter().any(crate::Request::writes) {
                self.kept.push(batch.clone());
            }
            self.store.apply(batch, now_ms)
        }
    }

    impl Subject for Forgetful {
        fn restart(&mut self) {
            self.store = MemoryStore::new(1);
            self.kept.pop();
            for batch in &self.kept {
                self.store.apply(batch.clone(), 0);
            }
        }
    }

    #[test]
    #[should_panic(expected = "assertion")]
    fn a_store_that_forgets_is_found() {
        super::log_survives_restart(|| Forgetful { kept: Vec::new(), store: MemoryStore::new(1) });
    }
}
