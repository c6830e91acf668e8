//! Revocations on random histories: with clients that come and go, resume, refresh, and begin again
//! with another token; with workers that hear of each other late, and nodes that are killed. That they
//! are found to be broken is in `promises.rs` and `crashes.rs`.

use clarion_sim::{Plan, check, run};
use std::collections::BTreeSet;

/// Seeds of either kind that `make test` runs. `CLARION_SIM_REVOKED=10000` runs more.
const SEEDS: u64 = 400;

fn plans(seed: u64) -> [Plan; 2] {
    [Plan::new(seed), Plan::crash(seed)].map(|plan| Plan { revokes: true, ..plan })
}

// [3.revoked.client] [3.revoked.user] [3.revoked.token] [3.revoked.ticket] [3.revoked.closed]
// [3.revoked.at-once] [3.revoked.kept] [3.revoked.limit]
#[test]
fn nobody_is_let_in_by_what_was_revoked() {
    let seeds = std::env::var("CLARION_SIM_REVOKED").ok().and_then(|n| n.parse().ok());
    for seed in 0..seeds.unwrap_or(SEEDS) {
        for plan in plans(seed) {
            check(&plan).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
}

/// A history in which nothing happens keeps every promise: this says what does happen.
#[test]
fn histories_meet_everything() {
    let mut never = vec![
        "a revocation that was not kept",
        "closed with 4001",
        "closed with 4102",
        "error \"unauthenticated\"",
        "one revocation too many",
        "refreshed",
        "resumed false",
        "resumed true",
    ];
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        for plan in plans(seed) {
            seen.extend(run(&plan).unwrap());
        }
        never.retain(|expected| !seen.contains(*expected));
        if never.is_empty() {
            return;
        }
    }
    panic!("never: {never:?}; only {seen:#?}");
}
