//! The file: who may read it, what is refused, what checking finds and repairing keeps.

mod common;

use clarion_protocol::Epoch;
use clarion_store_sqlite::{OpenError, check, repair};
use common::{TempDir, Waited, options, start, texts};
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn refusal(dir: &TempDir) -> OpenError {
    start(options(&dir.0)).expect_err("it is refused")
}

#[test]
fn only_the_owner_may_read_it() {
    let dir = Arc::new(TempDir::new());
    let mode = |name: &str| {
        let metadata = std::fs::metadata(dir.0.join(name)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    store.append("a", "1", None).unwrap();
    for name in ["clarion.db", "clarion.db-wal", "clarion.db-shm", "clarion.lock"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    drop(store);
    std::fs::set_permissions(dir.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let _store = Waited::open(Arc::clone(&dir)).unwrap();
    assert_eq!(mode("clarion.db"), 0o600);
}

#[test]
fn a_second_server_is_refused() {
    let dir = Arc::new(TempDir::new());
    let store = Waited::open(Arc::clone(&dir)).unwrap();
    assert!(matches!(refusal(&dir), OpenError::InUse { .. }));
    drop(store);
    Waited::open(dir).unwrap();
}

#[test]
fn a_file_of_a_newer_server_is_refused_and_left_alone() {
    let dir = Arc::new(TempDir::new());
    drop(Waited::open(Arc::clone(&dir)).unwrap());
    Connection::open(dir.file()).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = refusal(&dir);
    assert!(matches!(error, OpenError::Newer { found: 99, .. }));
    assert!(error.to_string().contains("newer version of clarion (schema 99"), "{error}");
}

#[test]
fn a_log_that_is_not_there_has_the_same_epoch_after_a_restart_and_in_no_other_store() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    let before = store.stand("a");
    assert_eq!((before.head, before.first, before.acked), (0, 1, 0));
    store.append("b", "1", None).unwrap();
    drop(store);
    assert_eq!(Waited::open(dir).unwrap().stand("a"), before);
    assert_ne!(Waited::new().stand("a").epoch, before.epoch);
}

#[test]
fn a_database_that_is_not_ours_is_refused() {
    let dir = TempDir::new();
    Connection::open(dir.file()).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(refusal(&dir), OpenError::Stranger { .. }));
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let dir = TempDir::new();
    std::fs::remove_dir(&dir.0).unwrap();
    let error = refusal(&dir);
    assert!(matches!(error, OpenError::File { .. }));
    assert!(error.to_string().contains(dir.0.to_str().unwrap()), "{error}");
}

#[test]
fn what_is_no_database_is_refused_with_what_to_do() {
    let dir = TempDir::new();
    std::fs::write(dir.file(), "x".repeat(9_000)).unwrap();
    let error = refusal(&dir).to_string();
    assert!(error.contains("`clarion store check` shows"), "{error}");
    assert!(error.contains("`clarion store check --repair` keeps"), "{error}");
}

#[test]
fn a_check_counts_what_is_there_and_finds_what_is_not() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    for n in 0..5 {
        store.append(["a", "b"][n % 2], "1", None).unwrap();
    }
    let checked = check(&dir.0).unwrap();
    assert_eq!((checked.rooms, checked.publications, checked.findings.len()), (2, 5, 0));
    drop(store);
    let connection = Connection::open(dir.file()).unwrap();
    connection.execute("DELETE FROM publications WHERE room = 1 AND offset = 2", ()).unwrap();
    let findings = check(&dir.0).unwrap().findings;
    let expected = ["room a: offsets 1 to 3 should be there, and 2 from 1 to 3 are"];
    assert_eq!(findings, expected);
}

#[test]
fn repairing_keeps_each_log_up_to_its_damage_under_a_new_epoch() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    for n in 1..=4 {
        store.append("a", &n.to_string(), Some(&n.to_string())).unwrap();
        store.append("b", &n.to_string(), None).unwrap();
    }
    let before = store.read("a").unwrap().standing.epoch;
    drop(store);
    let connection = Connection::open(dir.file()).unwrap();
    connection.execute("DELETE FROM publications WHERE room = 1 AND offset = 3", ()).unwrap();
    drop(connection);
    let mut made = 0;
    let (aside, rescued) = repair(&dir.0, || {
        made += 1;
        Epoch::new(&format!("new{made}")).unwrap()
    })
    .unwrap();
    assert!(aside.exists());
    assert_eq!((rescued.rooms, rescued.publications), (2, 6));
    assert_eq!(rescued.findings, ["room a: a hole before offset 4"]);
    assert!(check(&dir.0).unwrap().findings.is_empty());
    assert!(repair(&dir.0, || before.clone()).is_err(), "nothing is put over what was put aside");
    let mut store = Waited::open(dir).unwrap();
    let page = store.read("a").unwrap();
    assert_eq!(texts(&page), ["1", "2"]);
    assert_ne!(page.standing.epoch, before);
    assert_eq!(store.append("a", "5", Some("1")).unwrap().offset, 3);
    assert_eq!(texts(&store.read("b").unwrap()), ["1", "2", "3", "4"]);
}
