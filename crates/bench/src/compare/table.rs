//! Medians, spreads and the table, as Markdown.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use super::plan::{Measurement, Row};

/// The figures of several rounds, in the order of the rounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Adds the figure of the next round.
    pub(crate) fn push(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// The middle one, or the mean of the two in the middle; `None` without any.
    pub(crate) fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }

    /// These, round by round, as multiples of others.
    pub(crate) fn ratios(&self, others: &Self) -> Self {
        Self(self.0.iter().zip(&others.0).map(|(one, other)| one / other).collect())
    }

    fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn greatest(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// The median with the least and the greatest, as `9.04 (8.90..9.31)`.
    pub(crate) fn describe(&self, decimals: usize) -> String {
        self.describe_with(self.median(), decimals)
    }

    fn describe_with(&self, middle: Option<f64>, decimals: usize) -> String {
        match middle {
            None => "not measured".to_owned(),
            Some(middle) => format!(
                "{middle:.decimals$} ({:.decimals$}..{:.decimals$})",
                self.least(),
                self.greatest()
            ),
        }
    }
}

/// The figures of every measurement: microseconds of server CPU per message.
pub(crate) type Figures = BTreeMap<Measurement, Samples>;

/// Whether a goal was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Met,
    Missed,
    /// Without a goal, or without a figure.
    Stated,
}

impl Outcome {
    /// Holds a figure against the greatest that the goal allows.
    pub(crate) fn of(figure: Option<f64>, goal: Option<f64>) -> Self {
        match (figure, goal) {
            (Some(figure), Some(goal)) if figure <= goal => Self::Met,
            (Some(_), Some(_)) => Self::Missed,
            (None, _) | (_, None) => Self::Stated,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "**missed**",
            Self::Stated => "",
        })
    }
}

/// The ratio of the medians; the spread beside it is that of the rounds.
fn ratio(row: &Row, figures: &Figures) -> Option<(f64, Samples)> {
    let (figure, against) = (figures.get(&row.figure)?, figures.get(&row.against)?);
    Some((figure.median()? / against.median()?, figure.ratios(against)))
}

/// Whether the row's goal was reached.
pub(crate) fn outcome(row: &Row, figures: &Figures) -> Outcome {
    Outcome::of(ratio(row, figures).map(|(ratio, _)| ratio), row.goal)
}

/// The table of CPU per message.
pub(crate) fn cpu_table(rows: &[Row], figures: &Figures) -> String {
    let mut table = "| Measurement | Server CPU, us a message | Against | us a message | Ratio of medians | Goal | |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let cell = |measurement| figures.get(measurement).cloned().unwrap_or_default().describe(3);
        let ratio_cell = match ratio(row, figures) {
            Some((middle, rounds)) => rounds.describe_with(Some(middle), 3),
            None => String::new(),
        };
        let goal = row.goal.map_or_else(|| "stated".to_owned(), |goal| format!("<= {goal:.2}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {ratio_cell} | {goal} | {} |",
            row.figure.title(),
            cell(&row.figure),
            row.against.title(),
            cell(&row.against),
            outcome(row, figures)
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Measurement, Row};
    use super::{Figures, Outcome, Samples, cpu_table, outcome};

    fn samples(figures: &[f64]) -> Samples {
        Samples(figures.to_vec())
    }

    #[test]
    fn median_is_not_moved_by_an_outlier() {
        assert_eq!(samples(&[9.0, 50.0, 8.0]).median(), Some(9.0));
        assert_eq!(samples(&[1.0, 2.0, 3.0, 10.0]).median(), Some(2.5));
        assert_eq!(samples(&[]).median(), None);
        assert_eq!(samples(&[9.0, 50.0, 8.0]).describe(1), "9.0 (8.0..50.0)");
        assert_eq!(samples(&[]).describe(1), "not measured");
    }

    #[test]
    fn goal_is_held_against_the_ratio_of_medians() {
        let figure = Measurement::Echo { size: 32, depth: 1 };
        let against = Measurement::BareEcho { size: 32, depth: 1 };
        let row = Row { figure, against, goal: Some(1.10) };
        let with = |own: &[f64]| {
            Figures::from([(figure, samples(own)), (against, samples(&[10.0, 8.0, 12.0]))])
        };
        assert_eq!(outcome(&row, &with(&[10.9, 9.0, 20.0])), Outcome::Met);
        assert_eq!(outcome(&row, &with(&[11.5, 11.2, 11.8])), Outcome::Missed);
        assert_eq!(outcome(&row, &Figures::new()), Outcome::Stated);
        let table = cpu_table(&[row], &with(&[10.9, 9.0, 20.0]));
        assert!(table.contains("| 1.090 (1.090..1.667) | <= 1.10 | met |"), "{table}");
    }

    #[test]
    fn what_was_not_measured_is_said() {
        let figure = Measurement::Echo { size: 32, depth: 1 };
        let row = Row { figure, against: Measurement::BareFanout, goal: Some(1.0) };
        assert!(cpu_table(&[row], &Figures::new()).contains("not measured"));
    }
}
