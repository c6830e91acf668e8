//! Many histories of one kind, on all cores.

use clarion_sim::{Plan, check, run};

/// Checks the histories of the first seeds: as many as `variable` says, or `seeds`. With a plan in
/// `CLARION_SIM`, as a violation prints it, only that one.
pub(crate) fn check_all(variable: &str, seeds: u64, plan: fn(u64) -> Plan) {
    if let Some(plan) = std::env::var("CLARION_SIM").ok().and_then(|text| Plan::parse(&text)) {
        run(&plan).unwrap_or_else(|violation| panic!("{violation}"));
        return;
    }
    let wanted = std::env::var(variable).ok().and_then(|n| n.parse().ok());
    let seeds = wanted.unwrap_or(seeds);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..seeds).step_by(threads as usize) {
                    check(&plan(seed)).unwrap_or_else(|violation| panic!("{violation}"));
                }
            });
        }
    });
}
