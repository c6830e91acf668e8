//! What is measured, and what is held against what: the project's speed goals as a table.

use crate::echo::EchoArgs;
use crate::fanout::FanoutArgs;
use crate::handshake::Target;
use crate::run::Schedule;

/// Members of the fan-out.
const MEMBERS: usize = 1000;
/// Connections of the echo.
const CONNECTIONS: usize = 64;
const SMALL: usize = 32;
const LARGE: usize = 64 * 1024;

/// One figure: a kind of traffic against one kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measurement {
    /// The bare echo.
    BareEcho { size: usize, depth: usize },
    /// Clarion's echo, one worker.
    Echo { size: usize, depth: usize },
    /// The bare fan-out, one publication at a time.
    BareFanout,
    /// The bare echo of 32 bytes at depth 1 once more: how far apart are two figures of one thing?
    EchoControl,
    /// The bare fan-out once more.
    FanoutControl,
    /// A room in Clarion.
    Fanout { workers: usize, publishers: usize, in_flight: usize },
}

impl Measurement {
    /// Whether no Clarion is needed for it.
    pub(crate) fn is_bare(self) -> bool {
        match self {
            Self::BareEcho { .. } | Self::BareFanout | Self::EchoControl | Self::FanoutControl => {
                true
            }
            Self::Echo { .. } | Self::Fanout { .. } => false,
        }
    }

    /// Whether the two are held against each other somewhere, so that they should be measured in turn.
    fn is_comparable(self, other: Self) -> bool {
        self.traffic() == other.traffic()
    }

    /// 0 for a fan-out, else the bytes of an echo.
    fn traffic(self) -> usize {
        match self {
            Self::BareEcho { size, .. } | Self::Echo { size, .. } => size,
            Self::EchoControl => SMALL,
            Self::BareFanout | Self::FanoutControl | Self::Fanout { .. } => 0,
        }
    }

    /// How many workers the server has.
    pub(crate) fn workers(self) -> usize {
        match self {
            Self::Fanout { workers, .. } => workers,
            Self::BareEcho { .. }
            | Self::Echo { .. }
            | Self::BareFanout
            | Self::EchoControl
            | Self::FanoutControl => 1,
        }
    }

    /// What stands in the table.
    pub(crate) fn title(self) -> String {
        match self {
            Self::BareEcho { size, depth } => format!("bare echo, {}, depth {depth}", bytes(size)),
            Self::Echo { size, depth } => format!("echo, {}, depth {depth}", bytes(size)),
            Self::BareFanout => "bare fan-out, one at a time".to_owned(),
            Self::EchoControl => "control: bare echo again".to_owned(),
            Self::FanoutControl => "control: bare fan-out again".to_owned(),
            Self::Fanout { workers, publishers, in_flight } => {
                let traffic = match (publishers, in_flight) {
                    (1, 1) => "one at a time".to_owned(),
                    (1, _) => format!("{in_flight} in flight from one publisher"),
                    (_, 1) => format!("{publishers} publishers, one in flight each"),
                    _ => format!("{publishers} publishers, {in_flight} in flight each"),
                };
                let workers = if workers == 1 { "" } else { ", two workers" };
                format!("fan-out, {traffic}{workers}")
            }
        }
    }

    /// The run that measures an echo; `None` for a fan-out.
    pub(crate) fn echo(self, url: &Target, schedule: &Schedule) -> Option<EchoArgs> {
        let (size, depth) = match self {
            Self::BareEcho { size, depth } | Self::Echo { size, depth } => (size, depth),
            Self::EchoControl => (SMALL, 1),
            Self::BareFanout | Self::FanoutControl | Self::Fanout { .. } => return None,
        };
        Some(EchoArgs {
            url: Target { path: "/echo".to_owned(), ..url.clone() },
            connections: CONNECTIONS,
            depth,
            size,
            bare: self.is_bare(),
            schedule: schedule.clone(),
        })
    }

    /// The run that measures a fan-out whose deliveries have this size.
    ///
    /// For an echo, it is the simplest fan-out.
    pub(crate) fn fanout(
        self,
        url: &Target,
        schedule: &Schedule,
        delivery_size: usize,
    ) -> FanoutArgs {
        let (publishers, in_flight) = match self {
            Self::Fanout { publishers, in_flight, .. } => (publishers, in_flight),
            Self::BareFanout
            | Self::FanoutControl
            | Self::BareEcho { .. }
            | Self::Echo { .. }
            | Self::EchoControl => (1, 1),
        };
        FanoutArgs {
            url: Target { path: "/ws".to_owned(), ..url.clone() },
            members: MEMBERS,
            publishers,
            in_flight,
            size: 64,
            room: "bench".to_owned(),
            bare: self.is_bare(),
            delivery_size,
            schedule: schedule.clone(),
        }
    }
}

/// One line of the table: a figure as a multiple of another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) figure: Measurement,
    pub(crate) against: Measurement,
    /// The ratio must not be greater; `None` for a ratio that is only stated.
    pub(crate) goal: Option<f64>,
}

/// The rows of the table, in the order in which they are measured.
pub(crate) fn rows() -> Vec<Row> {
    let bare_echo = |size, depth| Measurement::BareEcho { size, depth };
    let echo = |size, depth| Measurement::Echo { size, depth };
    let fanout =
        |workers, publishers, in_flight| Measurement::Fanout { workers, publishers, in_flight };
    let bare = Measurement::BareFanout;
    let row = |figure, against, goal| Row { figure, against, goal };
    vec![
        row(echo(SMALL, 1), bare_echo(SMALL, 1), Some(1.10)),
        row(Measurement::EchoControl, bare_echo(SMALL, 1), None),
        row(echo(SMALL, 16), echo(SMALL, 1), Some(0.09)),
        row(echo(SMALL, 16), bare_echo(SMALL, 1), None),
        row(bare_echo(SMALL, 16), bare_echo(SMALL, 1), None),
        row(echo(LARGE, 1), bare_echo(LARGE, 1), Some(1.15)),
        row(fanout(1, 1, 1), bare, Some(1.10)),
        row(Measurement::FanoutControl, bare, None),
        row(fanout(1, 1, 16), bare, Some(0.10)),
        row(fanout(1, 16, 1), bare, Some(0.10)),
        row(fanout(2, 1, 1), bare, None),
        row(fanout(2, 1, 16), bare, None),
        row(fanout(2, 16, 1), bare, None),
    ]
}

/// Every measurement that the rows need, each once and behind its reference, in groups whose members
/// are measured in turn.
pub(crate) fn groups(rows: &[Row]) -> Vec<Vec<Measurement>> {
    let mut groups: Vec<Vec<Measurement>> = Vec::new();
    for measurement in rows.iter().flat_map(|row| [row.against, row.figure]) {
        let group = groups.iter_mut().find(|group| group[0].is_comparable(measurement));
        match group {
            Some(group) if group.contains(&measurement) => {}
            Some(group) => group.push(measurement),
            None => groups.push(vec![measurement]),
        }
    }
    groups
}

fn bytes(size: usize) -> String {
    if size >= 1024 && size.is_multiple_of(1024) {
        format!("{} KiB", size / 1024)
    } else {
        format!("{size} B")
    }
}

#[cfg(test)]
mod tests {
    use super::{Measurement, groups, rows};

    #[test]
    fn every_measurement_is_taken_once_and_in_turn_with_its_reference() {
        let rows = rows();
        let groups = groups(&rows);
        for row in &rows {
            let holds = |group: &&Vec<Measurement>| group.contains(&row.figure);
            let group = groups.iter().find(holds).unwrap();
            let place = |wanted| group.iter().position(|&one| one == wanted).unwrap();
            assert!(place(row.against) < place(row.figure), "{row:?}");
        }
        let mut all = groups.concat();
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(groups.len(), 3, "small echoes, large echoes, fan-outs");
    }

    #[test]
    fn titles_tell_measurements_apart() {
        let mut titles: Vec<_> =
            groups(&rows()).concat().into_iter().map(Measurement::title).collect();
        let count = titles.len();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), count);
    }
}
