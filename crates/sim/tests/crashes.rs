//! The promises of the spec's section 5 on random histories in which the node is killed, its disk is
//! slow, full, torn and failing, and clients come back; and proof that a store that does not keep them
//! is found.

mod seeds;

use clarion_engine::fault::Fault;
use clarion_sim::{Plan, Sabotage, run};
use std::collections::BTreeSet;

/// Seeds that `make test` runs. `CLARION_SIM_CRASHES=10000` runs more.
const SEEDS: u64 = 500;
/// Within so many of them each planted bug must be found.
const SEEDS_TO_FIND: u64 = SEEDS;

// [5.1.place] [5.1.order] [5.1.gap] [5.2.all] [5.2.seam] [5.3] [5.4.key] [5.5] [5.7.start] [5.7.resume] [5.8]
#[test]
fn promises_hold_although_nodes_are_killed_and_disks_fail() {
    seeds::check_all("CLARION_SIM_CRASHES", SEEDS, Plan::crash);
}

/// Finds a planted bug and says after how many seeds and by what.
fn find(change: impl Fn(&mut Plan)) -> Option<(u64, String)> {
    (0..SEEDS_TO_FIND).find_map(|seed| {
        let mut plan = Plan::crash(seed);
        change(&mut plan);
        run(&plan).err().map(|violation| (seed, violation))
    })
}

#[test]
fn every_store_that_breaks_a_promise_is_found() {
    let missed: Vec<Sabotage> = Sabotage::ALL
        .into_iter()
        .filter(|sabotage| {
            match find(|plan| {
                plan.sabotage = Some(*sabotage);
                plan.revokes = *sabotage == Sabotage::RevocationsForgotten;
            }) {
                Some((seed, violation)) => {
                    println!(
                        "{sabotage:?}: seed {seed}: {}",
                        &violation[..violation.len().min(200)]
                    );
                    false
                }
                None => true,
            }
        })
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_engine_that_breaks_a_promise_is_found() {
    let faults =
        [Fault::EarlyAcknowledgement, Fault::SkippedOffset, Fault::SilentGap, Fault::FalseRecovery];
    for fault in faults {
        let (seed, violation) = find(|plan| plan.fault = Some(fault)).expect("it is found");
        println!("{fault:?}: seed {seed}: {}", &violation[..violation.len().min(200)]);
    }
}

/// A history in which nothing happens keeps every promise: this says what does happen.
#[test]
fn histories_meet_everything() {
    let mut never = vec![
        "a disk that is full",
        "a disk that stalls",
        "a loss of power",
        "a loss of the process",
        "a torn end",
        "a torn end that was whole",
        "a request too many for the disk",
        "an fsync that fails",
        "an inbox acknowledged",
        "an inbox joined with a position",
        "an inbox joined with no position",
        "duplicate true",
        "gone after a doubt",
        "kept after a doubt",
        "published once more",
        "joined with after: recovered true, replay",
        "resumed true",
    ];
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        seen.extend(run(&Plan::crash(seed)).unwrap());
        never.retain(|expected| !seen.contains(*expected));
        if never.is_empty() {
            return;
        }
    }
    panic!("never: {never:?}; only {seen:#?}");
}
