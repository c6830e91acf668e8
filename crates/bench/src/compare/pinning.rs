//! Which CPUs the servers and the generator run on.
//!
//! A scheduler that moves both over the same cores adds noise to every figure, so the generator and a
//! server with one worker get a CPU each, by `taskset`. Without it, or with a single CPU, nothing is
//! pinned and the table says so.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// The CPUs of this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pinning {
    /// Servers on the first, the generator on the second; `all` for servers with more workers.
    Pinned { server: u32, generator: u32, all: String },
    /// Nobody is pinned.
    Free,
}

impl Pinning {
    /// Moves this process to its CPU, if there are two and `taskset` works.
    pub(crate) fn take(is_wanted: bool) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let all = all.unwrap_or_default().trim().to_owned();
        let [Some(server), Some(generator)] = first_two(&all) else { return Self::Free };
        let pinned = is_wanted
            && Command::new("taskset")
                .args(["-cp", &generator.to_string(), &std::process::id().to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if pinned { Self::Pinned { server, generator, all } } else { Self::Free }
    }

    /// A command that runs `program` where a server with so many workers belongs.
    ///
    /// `taskset` replaces itself by the program, so the child's process id is the server's.
    pub(crate) fn command(&self, program: &OsStr, workers: usize) -> Command {
        let cpus = match self {
            Self::Free => return Command::new(program),
            Self::Pinned { server, .. } if workers == 1 => server.to_string(),
            Self::Pinned { all, .. } => all.clone(),
        };
        let mut command = Command::new("taskset");
        command.arg("-c").arg(cpus).arg(program);
        command
    }

    /// One sentence for the head of the table.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Pinned { server, generator, all } => format!(
                "servers with one worker on CPU {server}, generator on CPU {generator}, \
                 servers with more workers on {all}"
            ),
            Self::Free => "nothing pinned".to_owned(),
        }
    }
}

/// The first two CPUs of a list such as `0-3,8`.
fn first_two(list: &str) -> [Option<u32>; 2] {
    let mut cpus = list.split(',').flat_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => first..last.saturating_add(1),
            _ => 0..0,
        }
    });
    [cpus.next(), cpus.next()]
}

#[cfg(test)]
mod tests {
    use super::{Pinning, first_two};

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(first_two("0-1"), [Some(0), Some(1)]);
        assert_eq!(first_two("2,5-7"), [Some(2), Some(5)]);
        assert_eq!(first_two("3"), [Some(3), None]);
        assert_eq!(first_two(""), [None, None]);
    }

    #[test]
    fn servers_with_more_workers_get_every_cpu() {
        let pinning = Pinning::Pinned { server: 0, generator: 1, all: "0-1".to_owned() };
        let cpus = |workers| {
            let command = pinning.command("x".as_ref(), workers);
            command.get_args().nth(1).map(|cpus| cpus.to_os_string())
        };
        assert_eq!(cpus(1), Some("0".into()));
        assert_eq!(cpus(2), Some("0-1".into()));
    }
}
