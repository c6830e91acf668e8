//! What reading a masked text and writing it back costs, in our codec and in two others.
//!
//! Each serves the same input from memory: reads of frames as a client sends them, to be answered by
//! the same text. Nobody waits and nothing is written anywhere, so what is measured is frames, masks,
//! UTF-8 and the copies between. It is CPU time of this thread, in rounds that take turns; a ratio is
//! of two neighbours in one round.

mod contestants;
mod wire;

use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::error::Error;

use contestants::{clarion, fastwebsockets, tungstenite};
use wire::{Input, frames};

/// How much one read brings at most, as in the server's workers.
const READ_BYTES: usize = 256 * 1024;

/// How many bytes of payload one input has: no more than a cache holds, since what a socket brings was
/// just put there by the kernel.
const INPUT_BYTES: usize = 1 << 20;

/// How often a contestant echoes the input in its turn of a round.
const REPEAT_COUNT: usize = 16;

/// A contestant reads all of the input and returns how many bytes it wrote.
type Contestant = (&'static str, fn(Input<'_>) -> usize);

const CONTESTANTS: [Contestant; 3] = [
    ("clarion", clarion),
    ("tungstenite 0.30", tungstenite),
    ("fastwebsockets 0.10", fastwebsockets),
];

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = env::args().nth(1).map_or(Ok(31), |rounds| rounds.parse())?;
    println!(
        "| text | codec | ns a message, median (least..greatest) | Clarion is faster by, median (least..greatest) |"
    );
    println!("|---|---|---|---|");
    for (size, is_stream) in [(32, true), (1024, true), (65_536, false), (65_536, true)] {
        let count = INPUT_BYTES / size;
        let bytes = frames(size, count);
        let read_bytes = if is_stream { READ_BYTES } else { bytes.len() / count };
        let input = Input { bytes: &bytes, read_bytes };
        let text = match is_stream {
            true => format!("{size} B"),
            false => format!("{size} B, one a read"),
        };
        let expected = (CONTESTANTS[0].1)(input);
        let mut times = [const { Vec::new() }; CONTESTANTS.len()];
        for round in 0..rounds {
            // Everybody goes first as often as last.
            for turn in 0..CONTESTANTS.len() {
                let index = (turn + round) % CONTESTANTS.len();
                let (name, echo) = CONTESTANTS[index];
                let start = cpu_ns();
                for _ in 0..REPEAT_COUNT {
                    let written = echo(input);
                    if written != expected {
                        return Err(format!("{name} wrote {written} bytes, not {expected}").into());
                    }
                }
                let ns = (cpu_ns() - start) as f64 / (count * REPEAT_COUNT) as f64;
                times[index].push(ns);
            }
        }
        for (index, (name, _)) in CONTESTANTS.iter().enumerate() {
            let ratios = times[index].iter().zip(&times[0]).map(|(other, ours)| other / ours);
            let ratios = match index {
                0 => String::new(),
                _ => spread(ratios.collect(), 2),
            };
            println!("| {text} | {name} | {} | {ratios} |", spread(times[index].clone(), 0));
        }
    }
    Ok(())
}

fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} ({first:.digits$}..{last:.digits$})", values[values.len() / 2])
}
