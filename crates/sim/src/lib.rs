//! The simulator: shards, clients and a store in one thread, under a seed, in virtual time.
//!
//! It splits reads, shortens writes, delays and fails the store, reorders what may be reordered,
//! stops reading, breaks connections and resumes sessions from two places at once; it kills the node and
//! starts it on what a failing disk kept; and it checks what every client sees against the promises of
//! the spec's section 5. What it does not cover is
//! the real driver: sockets, threads and wake-ups are for the black-box tests.
//!
//! [`run`] takes a [`Plan`]; everything that happens follows from it. [`calls`] takes bytes, from a
//! fuzzer, and makes calls of them that no client would.

mod calls;
mod client;
mod disk;
mod driver;
mod journal;
mod plan;
mod revoked;
mod rng;
mod truth;
mod world;

pub use calls::calls;
pub use plan::{Plan, Sabotage};
pub use world::run;

/// Runs a plan; if it fails, says how and gives the smallest plan found that fails, too.
///
/// # Errors
/// A text for people: what is broken, and how to see it again.
pub fn check(plan: &Plan) -> Result<(), String> {
    let Err(violation) = run(plan) else { return Ok(()) };
    let (small, first) = plan.clone().shrink(violation.clone(), |plan| run(plan).map(|_| ()));
    Err(format!(
        "{violation}\n  plan  CLARION_SIM={plan}\n  small CLARION_SIM={small}\n  where {first}"
    ))
}
