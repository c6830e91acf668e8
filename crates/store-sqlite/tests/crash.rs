//! A process that is killed in the middle of its batches: what it acknowledged is there, once, in its
//! place.
//!
//! The process is this test program, started again. Killing keeps the page cache, so this says
//! nothing of power loss.

mod common;

use clarion_store::{Completion, Request};
use common::{TempDir, append, options, start};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

const ROOMS: u64 = 7;
/// Set for the process that is to be killed: its directory, and its number.
const CHILD: &str = "CLARION_STORE_CHILD";
/// How often a process is killed. Default 6.
const ROUNDS: &str = "CLARION_STORE_CRASHES";

/// Not a test by itself: what the process does that is killed.
#[test]
fn child() {
    let Ok(child) = std::env::var(CHILD) else { return };
    let (dir, number) = child.split_once('#').unwrap();
    let (store, completions) = start(options(dir.as_ref())).unwrap();
    let number: u64 = number.parse().unwrap();
    let stdout = std::io::stdout();
    let mut waiting = 0_u64;
    // It ends by itself only if nobody kills it.
    for n in 0..2_000_000_u64 {
        let token = number << 32 | n;
        let named = named(token);
        store.submit(0, request(token, named));
        waiting += 1;
        while waiting > 256 {
            let batch = completions.recv_timeout(Duration::from_secs(60)).unwrap();
            waiting -= batch.len() as u64;
            let mut lines = String::new();
            for completion in batch {
                let Completion::Appended { token, result } = completion else { unreachable!() };
                let appended = result.unwrap();
                let epoch = appended.epoch;
                lines +=
                    &format!("ack {token} {epoch} {} {}\n", appended.offset, appended.duplicate);
            }
            stdout.lock().write_all(lines.as_bytes()).unwrap();
        }
    }
}

/// Which key goes with a request: every fourth repeats one, by turns of this process and of the one
/// before it.
fn named(token: u64) -> u64 {
    match token % 8 {
        3 => token - 1,
        7 => token - 1 - (1 << 32),
        _ => token,
    }
}

/// A publication of `named`, which is its text and its key, and says which room it goes to.
fn request(token: u64, named: u64) -> Request {
    let text = named.to_string();
    append(token, &format!("r{}", named % ROOMS), &text, Some(&text))
}

#[test]
fn what_was_acknowledged_survives_being_killed() {
    let rounds = std::env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6);
    let dir = TempDir::new();
    // By epoch and offset: the text.
    let mut acknowledged: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for round in 1..=rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, format!("{}#{round}", dir.0.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        // Killed after some acknowledgements, at no particular place of what it does then.
        let enough = 300 + 777 * round % 2_000;
        while let Some(Ok(line)) = lines.next() {
            let words: Vec<&str> = line.split(' ').collect();
            let ["ack", token, epoch, offset, duplicate] = words[..] else { continue };
            let token: u64 = token.parse().unwrap();
            let named = named(token);
            let place = (epoch.to_owned(), offset.parse().unwrap());
            match acknowledged.insert(place.clone(), named) {
                None => {}
                Some(before) => {
                    assert_eq!(before, named, "two publications at {place:?}");
                    assert_eq!(duplicate, "true", "{named} was applied twice");
                }
            }
            heard += 1;
            if heard == enough {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(heard >= enough, "the process ended by itself after {heard}");
        check(&dir, &acknowledged);
    }
    println!("{rounds} rounds, {} acknowledged", acknowledged.len());
}

fn check(dir: &TempDir, acknowledged: &BTreeMap<(String, u64), u64>) {
    // Opened as after a crash, by a store, which recovers what there is.
    drop(start(options(&dir.0)).unwrap());
    assert_eq!(clarion_store_sqlite::check(&dir.0).unwrap().findings, [""; 0]);
    let connection = Connection::open(dir.file()).unwrap();
    let mut statement = connection
        .prepare(
            "SELECT epoch, offset, CAST(payload AS TEXT) FROM publications
             JOIN rooms ON rooms.id = publications.room ORDER BY epoch, offset",
        )
        .unwrap();
    let kept = statement.query_map((), |row| {
        Ok(((row.get::<_, String>(0)?, row.get::<_, i64>(1)? as u64), row.get::<_, String>(2)?))
    });
    let kept: BTreeMap<(String, u64), u64> = kept
        .unwrap()
        .map(Result::unwrap)
        .map(|(place, text)| (place, text.parse().unwrap()))
        .collect();
    let texts: BTreeSet<&u64> = kept.values().collect();
    assert_eq!(texts.len(), kept.len(), "a key was applied twice");
    for (place, text) in acknowledged {
        assert_eq!(kept.get(place), Some(text), "acknowledged at {place:?}");
    }
}
