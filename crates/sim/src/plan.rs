//! What a run does, and how a failing one is made smaller.

use clarion_engine::fault::Fault;
use std::fmt;

/// Everything that determines a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed of all chance.
    pub seed: u64,
    /// Steps before the world is left to come to rest.
    pub steps: usize,
    /// Workers, 1 or more.
    pub workers: u16,
    /// Clients, 1 or more.
    pub clients: usize,
    /// Connections break.
    pub drops: bool,
    /// Clients stop reading for a while.
    pub slow: bool,
    /// Appends, reads, verdicts and authentications complete late.
    pub late: bool,
    /// The store fails, and loses logs.
    pub store_faults: bool,
    /// Clients resume while their old connection is alive.
    pub races: bool,
    /// Some connections agree to compression, each its own way.
    pub deflate: bool,
    /// The node is killed, or loses its power, and starts again on what its disk kept.
    pub kills: bool,
    /// Sessions, users and tokens are revoked, and tokens refreshed.
    pub revokes: bool,
    /// A planted bug.
    pub fault: Option<Fault>,
    /// A planted bug of the store.
    pub sabotage: Option<Sabotage>,
}

/// One way in which a store, or what it makes of its disk, is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sabotage {
    /// A request is answered when it is written, not when it is synced.
    AckBeforeSync,
    /// Keys are kept by another transaction than the publication's.
    KeysApart,
    /// A restart finds one transaction less than was committed, under the same epoch.
    TailDropped,
    /// A log that went with the process goes on under the epoch that it had.
    EpochKept,
    /// A log that is whole goes on under another epoch.
    NewEpoch,
    /// Acknowledged offsets of inboxes are not kept.
    AcksForgotten,
    /// Revocations are not kept.
    RevocationsForgotten,
    /// A transaction is read although its checksum is wrong.
    TornTaken,
    /// What a failed `fsync` or the last process left is believed, and not written once more.
    NoCheckpoint,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::AckBeforeSync,
        Self::KeysApart,
        Self::TailDropped,
        Self::EpochKept,
        Self::NewEpoch,
        Self::AcksForgotten,
        Self::RevocationsForgotten,
        Self::TornTaken,
        Self::NoCheckpoint,
    ];
}

impl Plan {
    /// The whole of what can happen, under a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            steps: 600,
            workers: 1 + (seed % 3) as u16,
            clients: 3 + (seed % 4) as usize,
            drops: true,
            slow: true,
            late: true,
            store_faults: true,
            races: true,
            deflate: seed.is_multiple_of(2),
            kills: false,
            revokes: false,
            fault: None,
            sabotage: None,
        }
    }

    /// The same with durable rooms on a disk, and a node that is killed now and then.
    #[must_use]
    pub fn crash(seed: u64) -> Self {
        Self { kills: true, steps: 1_000, ..Self::new(seed) }
    }

    /// Plans that do a little less than this one.
    fn smaller(&self) -> Vec<Self> {
        let mut plans = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            if plan != *self {
                plans.push(plan);
            }
        };
        with(&|plan| plan.steps /= 2);
        with(&|plan| plan.steps = plan.steps * 9 / 10);
        with(&|plan| plan.steps = plan.steps.saturating_sub(1));
        with(&|plan| plan.clients = (plan.clients - 1).max(1));
        with(&|plan| plan.workers = (plan.workers - 1).max(1));
        with(&|plan| plan.drops = false);
        with(&|plan| plan.slow = false);
        with(&|plan| plan.late = false);
        with(&|plan| plan.store_faults = false);
        with(&|plan| plan.races = false);
        with(&|plan| plan.deflate = false);
        with(&|plan| plan.kills = false);
        with(&|plan| plan.revokes = false);
        plans
    }

    /// The smallest failing plan that can be reached from this failing one in a bounded number of
    /// tries, with what it violates.
    pub fn shrink(
        mut self,
        mut violation: String,
        run: impl Fn(&Self) -> Result<(), String>,
    ) -> (Self, String) {
        const TRIES: usize = 300;
        let mut tries = 0;
        'again: loop {
            for plan in self.smaller() {
                tries += 1;
                if tries > TRIES {
                    return (self, violation);
                }
                if let Err(smaller) = run(&plan) {
                    (self, violation) = (plan, smaller);
                    continue 'again;
                }
            }
            return (self, violation);
        }
    }

    /// Reads what [`Plan`]'s `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut plan = Self::new(parts.next()?.parse().ok()?);
        plan.steps = parts.next()?.parse().ok()?;
        plan.workers = parts.next()?.parse().ok()?;
        plan.clients = parts.next()?.parse().ok()?;
        let what = parts.next()?;
        plan.drops = what.contains('d');
        plan.slow = what.contains('s');
        plan.late = what.contains('l');
        plan.store_faults = what.contains('f');
        plan.races = what.contains('r');
        plan.deflate = what.contains('z');
        plan.kills = what.contains('k');
        plan.revokes = what.contains('v');
        Some(plan)
    }
}

/// `seed,steps,workers,clients,kinds`: what `CLARION_SIM` takes.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{},", self.seed, self.steps, self.workers, self.clients)?;
        for (is, kind) in [
            (self.drops, 'd'),
            (self.slow, 's'),
            (self.late, 'l'),
            (self.store_faults, 'f'),
            (self.races, 'r'),
            (self.deflate, 'z'),
            (self.kills, 'k'),
            (self.revokes, 'v'),
        ] {
            if is {
                write!(f, "{kind}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_what_it_writes() {
        for mut plan in [Plan::new(42), Plan { revokes: true, ..Plan::crash(42) }] {
            plan.late = false;
            assert_eq!(Plan::parse(&plan.to_string()), Some(plan));
        }
    }

    #[test]
    fn shrinking_finds_the_smallest_failing_plan() {
        let run = |plan: &Plan| match plan.steps > 17 && plan.drops {
            true => Err("bad".into()),
            false => Ok(()),
        };
        let (plan, violation) = Plan::new(1).shrink("bad".into(), run);
        assert_eq!((plan.steps, plan.workers, plan.clients), (18, 1, 1));
        assert!(plan.drops && !plan.slow && !plan.late && violation == "bad");
    }
}
