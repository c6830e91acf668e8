//! What goes wrong with disks and files: never a false acknowledgement, and it heals by itself.

mod common;

use clarion_store::conformance::Subject;
use clarion_store::{Completion, Store, StoreError};
use clarion_store_sqlite::{Health, OpenError};
use common::{TempDir, Waited, append, options, start, texts, wait_for};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn a_lock_of_another_process_is_unavailable_and_heals() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    assert_eq!(store.append("a", "1", None).unwrap().offset, 1);
    store.fail(true);
    assert_eq!(store.append("a", "2", None), Err(StoreError::Unavailable));
    assert_eq!(texts(&store.read("a").unwrap()), ["1"], "reading goes on");
    let Health::Failing(sentence) = store.store().health() else { panic!("it is failing") };
    assert!(sentence.contains("locked"), "{sentence}");
    assert!(store.store().counters().failed > 0);
    // Nobody asks anything meanwhile.
    store.fail(false);
    assert_eq!(store.append("a", "3", None).unwrap().offset, 2);
    assert!(store.store().counters().reopened > 0);
}

#[test]
fn what_another_process_wrote_is_seen() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    store.append("a", "1", None).unwrap();
    let other = Connection::open(dir.file()).unwrap();
    other
        .execute_batch(
            "BEGIN;
             INSERT INTO publications SELECT room, 2, time_ms, type, payload, sender, client, user,
                 info, key FROM publications;
             UPDATE rooms SET head = 2, bytes = bytes * 2;
             COMMIT;",
        )
        .unwrap();
    assert_eq!(store.append("a", "3", None).unwrap().offset, 3);
    assert_eq!(texts(&store.read("a").unwrap()), ["1", "1", "3"]);
}

#[test]
fn a_damaged_log_keeps_no_other_from_being_written() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    for n in 0..20 {
        store.append(&format!("r{n}"), "1", None).unwrap();
    }
    let other = Connection::open(dir.file()).unwrap();
    other.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    other.execute("UPDATE rooms SET first = head + 5 WHERE name = 'r7'", ()).unwrap();
    other.execute("UPDATE rooms SET head = 0, first = 1 WHERE name = 'r11'", ()).unwrap();
    let batch = (0..40).map(|n| append(n, &format!("r{}", n % 20), "2", None)).collect();
    for completion in store.apply(batch, 0) {
        let Completion::Appended { token, result } = completion else { panic!("{completion:?}") };
        if [7, 11].contains(&(token % 20)) {
            assert_eq!(result, Err(StoreError::Unavailable), "{token}");
        } else {
            assert_eq!(result.unwrap().offset, 2 + token / 20);
        }
    }
}

#[test]
fn over_the_bound_requests_are_refused_in_their_order() {
    let dir = TempDir::new();
    let small = clarion_store_sqlite::Options { queue_bytes: 2_000, ..options(&dir.0) };
    let (store, completions) = start(small).unwrap();
    let blocker = common::block(&dir);
    for token in 0..50 {
        store.submit(0, append(token, "a", "1", None));
    }
    assert!(store.counters().refused > 0);
    drop(blocker);
    let mut found = Vec::new();
    while found.len() < 50 {
        let more = completions.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        found.extend(more.iter().map(Completion::token));
    }
    assert_eq!(found, (0..50).collect::<Vec<_>>());
}

#[test]
fn dropping_the_handle_does_what_waits() {
    let dir = Arc::new(TempDir::new());
    let (store, completions) = start(options(&dir.0)).unwrap();
    for token in 0..500 {
        store.submit(0, append(token, "a", "1", None));
    }
    drop(store);
    let completions: Vec<Completion> = completions.iter().flatten().collect();
    assert_eq!(completions.len(), 500);
    assert!(completions.iter().all(|completion| completion.error().is_none()));
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    assert_eq!(store.read("a").unwrap().standing.head, 500);
    drop(store);
    let wal = std::fs::metadata(dir.0.join("clarion.db-wal"));
    assert!(wal.map_or(0, |wal| wal.len()) == 0, "all of it is in the file");
}

#[test]
fn what_is_too_old_goes_though_nobody_appends() {
    let dir = Arc::new(TempDir::new());
    let now_ms = Arc::new(std::sync::atomic::AtomicU64::new(1));
    let clock = Arc::clone(&now_ms);
    let clock: clarion_store_sqlite::Clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let mut options = clarion_store_sqlite::Options { clock, ..options(&dir.0) };
    options.sweep_ms = 1;
    let (store, completions) = start(options).unwrap();
    for token in 0..200 {
        store.submit(0, append(token, &format!("r{token}"), "1", Some("k")));
    }
    let mut answered = 0;
    while answered < 200 {
        answered += completions.recv_timeout(std::time::Duration::from_secs(60)).unwrap().len();
    }
    let connection = Connection::open(dir.file()).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    let count = |table: &str| {
        let sql = format!("SELECT count(*) FROM {table}");
        connection.query_row(&sql, (), |row| row.get::<_, i64>(0)).unwrap()
    };
    assert_eq!(count("publications"), 200);
    let absent = || {
        connection.query_row("SELECT epoch FROM absent", (), |row| row.get::<_, String>(0)).unwrap()
    };
    let before = absent();
    now_ms.store((1 << 42) + 2, Ordering::Relaxed);
    wait_for("old publications to go", || count("publications") == 0);
    assert_eq!(count("rooms"), 200, "whoever has a position finds its epoch");
    assert_eq!(absent(), before);
    now_ms.store((1 << 44) + 2, Ordering::Relaxed);
    wait_for("empty rooms to go", || count("rooms") + count("keys") == 0);
    assert_ne!(absent(), before, "the next log of a room is another");
    assert_eq!(store.health(), Health::Ok);
}

/// A file system of one megabyte, while it is mounted.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let dir = TempDir::new();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&dir.0);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("skipped: a small file system can be mounted by root only");
        }
        mounted.then_some(Self(dir))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0.0).status();
    }
}

#[test]
fn a_full_disk_is_said_acknowledges_nothing_and_heals() {
    let Some(small) = Small::mount() else { return };
    let options = options(&small.0.0);
    let (store, completions) = start(options.clone()).unwrap();
    let mut acknowledged = Vec::new();
    let payload = "x".repeat(4_000);
    let mut one = |token: u64| {
        store.submit(0, append(token, "a", &format!("\"{token} {payload}\""), None));
        let mut completions = completions.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        match completions.pop() {
            Some(Completion::Appended { result, .. }) => result.map(|appended| {
                acknowledged.push((appended.offset, token));
            }),
            other => panic!("{other:?}"),
        }
    };
    let failed = (0..2_000).find_map(|token| one(token).err());
    // It is the commit that writes, and whether a failed one left its record is not known.
    assert_eq!(failed, Some(StoreError::Unknown), "a megabyte holds less than eight");
    assert!(matches!(store.health(), Health::Failing(_)));
    // Room is made by deleting something else: here, by a larger disk.
    let grown = Command::new("mount")
        .args(["-o", "remount,size=32m"])
        .arg(&small.0.0)
        .status()
        .is_ok_and(|status| status.success());
    assert!(grown);
    wait_for("health", || store.health() == Health::Ok);
    for token in 10_000..10_010 {
        one(token).expect("it works again");
    }
    drop(store);
    let (store, completions) = start(options).unwrap();
    drop((store, completions));
    let connection = Connection::open(small.0.file()).unwrap();
    let mut statement =
        connection.prepare("SELECT offset, CAST(payload AS TEXT) FROM publications").unwrap();
    let kept: BTreeMap<i64, String> = statement
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (offset, token) in acknowledged {
        let text = &kept[&(offset as i64)];
        assert!(text.starts_with(&format!("\"{token} ")), "{token} is at {offset}");
    }
    assert!(clarion_store_sqlite::check(&small.0.0).unwrap().findings.is_empty());
}

#[test]
fn a_file_that_may_not_be_written_is_said_at_start() {
    let Some(small) = Small::mount() else { return };
    drop(start(options(&small.0.0)).unwrap());
    let read_only = Command::new("mount").args(["-o", "remount,ro"]).arg(&small.0.0).status();
    assert!(read_only.is_ok_and(|status| status.success()));
    let error = start(options(&small.0.0)).expect_err("it is refused");
    assert!(matches!(error, OpenError::File { .. }), "{error}");
    assert!(error.to_string().contains("cannot be used"), "{error}");
}

/// Bytes that follow from a seed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn damage_anywhere_is_no_panic_and_no_false_acknowledgement() {
    let original = TempDir::new();
    {
        let mut store = Waited::open(Arc::new(TempDir(original.0.clone()))).unwrap();
        for n in 0..300 {
            let payload = format!("\"{n} {}\"", "x".repeat(n % 200));
            let room = format!("r{}", n % 5);
            store.append(&room, &payload, Some(&n.to_string())).unwrap();
        }
        let bytes = {
            store.restart();
            std::fs::read(original.file()).unwrap()
        };
        drop(store);
        std::fs::create_dir_all(&original.0).unwrap();
        std::fs::File::create(original.file()).unwrap().write_all(&bytes).unwrap();
    }
    let mut noise = Noise(0x5eed_5eed_5eed);
    let mut refused = 0;
    for round in 0..40 {
        let dir = Arc::new(TempDir::new());
        std::fs::copy(original.file(), dir.file()).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(dir.file()).unwrap();
        let size = file.metadata().unwrap().len();
        for _ in 0..1 + round % 8 {
            let place = noise.next() % size;
            let bytes = noise.next().to_le_bytes();
            file.write_all_at(&bytes[..1 + (noise.next() % 8) as usize], place).unwrap();
        }
        drop(file);
        let _ = clarion_store_sqlite::check(&dir.0);
        let mut store = match Waited::open(Arc::clone(&dir)) {
            Ok(store) => store,
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        for n in 0..10 {
            let (room, payload) = (format!("r{}", n % 5), format!("\"new {n}\""));
            let Ok(appended) = store.append(&room, &payload, None) else { continue };
            let Ok(page) = store.read(&room) else { continue };
            let place = page.publications.iter().find(|(offset, _)| *offset == appended.offset);
            let (_, publication) = place.expect("what was acknowledged is there");
            assert_eq!(publication.payload, payload.as_bytes(), "round {round}");
        }
    }
    assert!(refused < 40, "some damage is not seen at the start");
}
