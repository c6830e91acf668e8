//! Exports, imports and backups: what goes out comes back, and what is broken is not taken.

mod common;

use clarion_protocol::{ClientId, Epoch, Publication, RoomName, Sender};
use clarion_store::{Completion, Key, LogLimits, Request, Store};
use clarion_store_sqlite::{
    Epochs, OpenError, TransferError, Transferred, backup, check, export, import, repair,
};
use common::{TempDir, Waited, append, options, start, texts};
use proptest::prelude::*;
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

fn exported(dir: &TempDir) -> (String, Transferred) {
    let mut lines = Vec::new();
    let done = export(&dir.0, &mut lines, 7).unwrap();
    (String::from_utf8(lines).unwrap(), done)
}

fn imported(lines: &str) -> Result<(Arc<TempDir>, Transferred), TransferError> {
    let dir = Arc::new(TempDir::new());
    import(&dir.0, lines.as_bytes(), Epochs::Kept).map(|done| (dir, done))
}

/// A number for each, so that no two are the same.
fn fresh() -> impl FnMut() -> Epoch {
    let mut made = 0;
    move || {
        made += 1;
        Epoch::new(&format!("new{made}")).unwrap()
    }
}

/// One of everything.
fn filled() -> Arc<TempDir> {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    for n in 1..=4 {
        store.append("a", &n.to_string(), Some(&n.to_string())).unwrap();
    }
    store.append("$user/ada", "{\"b\": [1,\n2]}", None).unwrap();
    let page = store.read("$user/ada").unwrap();
    let room = RoomName::parse("$user/ada").unwrap();
    let ack = Request::Ack { token: 1, room, epoch: page.standing.epoch, offset: 1 };
    let revoke = Request::Revoke { token: 2, subject: "u:bob".into(), at_ms: 7, until_ms: 1 << 50 };
    store.apply(vec![ack, revoke], 0);
    drop(store);
    let connection = Connection::open(dir.file()).unwrap();
    connection.execute("INSERT INTO groups VALUES ('staff', 'ada')", ()).unwrap();
    dir
}

#[test]
fn what_is_exported_is_imported_and_the_same() {
    let (lines, done) = exported(&filled());
    let expected = Transferred { rooms: 2, publications: 5, keys: 4, revocations: 1, groups: 1 };
    assert_eq!(done, expected);
    let (dir, done) = imported(&lines).unwrap();
    assert_eq!(done, expected);
    assert_eq!(exported(&dir).0, lines);
    assert!(check(&dir.0).unwrap().findings.is_empty());
    let mode = std::fs::metadata(dir.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!dir.0.join("clarion.import").exists());
    let mut store = Waited::open(dir).unwrap();
    assert_eq!(texts(&store.read("$user/ada").unwrap()), ["{\"b\": [1,\n2]}"]);
    assert!(store.append("a", "again", Some("3")).unwrap().duplicate);
    assert_eq!(store.append("a", "5", None).unwrap().offset, 5);
}

#[test]
fn an_import_gives_new_epochs_and_keeps_places_acknowledgements_and_keys() {
    let (lines, _) = exported(&filled());
    let dir = Arc::new(TempDir::new());
    import(&dir.0, lines.as_bytes(), Epochs::Fresh(&mut fresh())).unwrap();
    let mut store = Waited::open(dir).unwrap();
    for (room, head, acked) in [("a", 4, 0), ("$user/ada", 1, 1)] {
        let standing = store.read(room).unwrap().standing;
        assert!(standing.epoch.as_str().starts_with("new"));
        assert_eq!((standing.head, standing.acked), (head, acked), "{room}");
        assert!(!lines.contains(standing.epoch.as_str()));
    }
    let again = store.append("a", "again", Some("3")).unwrap();
    assert_eq!((again.offset, again.duplicate), (3, true));
}

#[test]
fn a_store_in_use_is_exported_as_it_is_at_one_moment() {
    let dir = Arc::new(TempDir::new());
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    store.append("a", "1", None).unwrap();
    let (lines, done) = exported(&dir);
    store.append("a", "2", None).unwrap();
    assert_eq!((done.publications, lines.lines().count()), (1, 4));
    let refused = import(&dir.0, lines.as_bytes(), Epochs::Kept).unwrap_err();
    assert!(matches!(refused, TransferError::Store(OpenError::InUse { .. })));
    drop(store);
    let refused = import(&dir.0, lines.as_bytes(), Epochs::Kept).unwrap_err();
    assert!(matches!(refused, TransferError::Occupied { .. }));
    assert_eq!(check(&dir.0).unwrap().publications, 2, "it was not touched");
}

#[test]
fn without_any_one_of_its_lines_an_export_is_refused_and_so_is_one_twice() {
    let (lines, _) = exported(&filled());
    let lines: Vec<&str> = lines.lines().collect();
    for at in 0..lines.len() {
        let without = [&lines[..at], &lines[at + 1..]].concat().join("\n");
        let twice = [&lines[..=at], &lines[at..]].concat().join("\n");
        for broken in [without, twice] {
            let dir = TempDir::new();
            let error = import(&dir.0, broken.as_bytes(), Epochs::Kept).unwrap_err();
            assert!(matches!(error, TransferError::Line { .. }), "{error}");
            let left = std::fs::read_dir(&dir.0).unwrap().map(|it| it.unwrap().file_name());
            assert_eq!(left.collect::<Vec<_>>(), ["clarion.lock"], "{error}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_line_is_said_with_its_number() {
    let (lines, _) = exported(&filled());
    let said = |from: &str, to: &str| {
        assert!(lines.contains(from), "{from}");
        imported(&lines.replacen(from, to, 1)).map(|_| ()).unwrap_err().to_string()
    };
    for (from, to, message) in [
        ("{\"export\"", "{\"nonsense\"", "line 1: column 11: unknown variant `nonsense`"),
        ("\"version\":1", "\"version\":2", "line 1: this is version 2 of the format, known is 1"),
        ("\"name\":\"$user/ada\"", "\"name\":\"a//b\"", "line 2: "),
        ("\"acked\":1", "\"acked\":2", "line 2: its offsets are out of order"),
        ("\"head\":1", "\"head\":2", "line 4: offset 2 of the room before is missing"),
        ("\"name\":\"a\"", "\"name\":\"$user/ada\"", "line 4: this room comes twice"),
        (
            "\"offset\":3,\"time_ms\":0,\"type\"",
            "\"offset\":2,\"time_ms\":0,\"type\"",
            "line 7: offset 3 is next",
        ),
        ("\"type\":\"note\"", "\"type\":\"$left\"", "line 3: a type has 1 to 64 bytes"),
        ("\"payload\":2", "\"payload\":2,\"payload_text\":\"2\"", "line 6: it has one payload"),
        ("\"user\":\"ada\"", "\"user\":\"a/b\"", "line 14: "),
        ("\"keys\":4", "\"keys\":5", "line 15: lines are missing"),
        ("}}\n{\"room\":{\"name\":\"a\"", "}\n{\"room\":{\"name\":\"a\"", "line 3: column "),
    ] {
        let error = said(from, to);
        assert!(error.starts_with(message), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let behind = imported(&format!("{lines}{{}}\n")).map(|_| ()).unwrap_err();
    assert_eq!(behind.to_string(), "line 16: nothing may come behind the line `end`");
    assert_eq!(
        imported("").map(|_| ()).unwrap_err().to_string().split(',').next(),
        Some("line 1: it ends here")
    );
}

#[test]
fn a_store_that_is_damaged_is_not_exported() {
    let dir = filled();
    let connection = Connection::open(dir.file()).unwrap();
    connection.execute("DELETE FROM publications WHERE offset = 2", ()).unwrap();
    let error = export(&dir.0, Vec::new(), 0).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(export(&TempDir::new().0, Vec::new(), 0).is_err(), "there is none");
}

#[test]
fn a_backup_of_a_running_store_is_private_and_only_a_store_under_new_epochs() {
    let dir = filled();
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    let before = store.read("a").unwrap().standing.epoch;
    let to = TempDir::new();
    backup(&dir.0, &to.file()).unwrap();
    // It goes on meanwhile, which the copy lacks.
    store.append("a", "5", None).unwrap();
    let mode = std::fs::metadata(to.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(&to.0).unwrap().count(), 1);
    assert!(
        matches!(backup(&dir.0, &to.file()), Err(TransferError::Io(_))),
        "it is not overwritten"
    );
    let refused = start(options(&to.0)).expect_err("no server takes it as it is");
    assert!(matches!(refused, OpenError::Backup { .. }));
    assert!(refused.to_string().contains("--repair"), "{refused}");
    let checked = check(&to.0).unwrap();
    assert_eq!((checked.publications, checked.findings.len()), (5, 0));
    assert_eq!(exported(&to).1.publications, 5);
    repair(&to.0, fresh()).unwrap();
    let mut restored = Waited::open(Arc::new(to)).unwrap();
    let page = restored.read("a").unwrap();
    assert_eq!(texts(&page), ["1", "2", "3", "4"]);
    assert_ne!(page.standing.epoch, before);
    assert_eq!(restored.read("$user/ada").unwrap().standing.acked, 1);
}

#[test]
fn a_backup_of_nothing_leaves_nothing() {
    let (empty, to) = (TempDir::new(), TempDir::new());
    assert!(backup(&empty.0, &to.file()).is_err());
    std::fs::write(empty.file(), "x".repeat(9_000)).unwrap();
    assert!(backup(&empty.0, &to.file()).is_err());
    assert!(!to.file().exists());
}

/// Client, user and info.
type From = (Option<[u8; 16]>, Option<String>, Option<String>);

#[derive(Clone, Debug)]
struct Step {
    room: usize,
    payload: String,
    key: Option<u8>,
    from: Option<From>,
    size: u32,
    ack: bool,
}

fn step() -> impl Strategy<Value = Step> {
    // JSON as people write it: with spaces and ends of lines, escapes, and what no parser keeps.
    let json = prop_oneof![
        Just("null".to_owned()),
        Just(" 1e400".trim().to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("{\"a\" :\r\n1}".to_owned()),
        "\\[[0-9]{1,5}\\]",
        "\"[a-zäöü\u{2028}]{0,9}\"",
    ];
    let from = (
        proptest::option::of(any::<[u8; 16]>()),
        proptest::option::of("[a-z]{1,5}"),
        proptest::option::of(json.clone()),
    );
    (
        0..3_usize,
        json,
        proptest::option::of(0..4_u8),
        proptest::option::of(from),
        1..6_u32,
        any::<bool>(),
    )
        .prop_map(|(room, payload, key, from, size, ack)| Step {
            room,
            payload,
            key,
            from,
            size,
            ack,
        })
}

fn perform(store: &mut Waited, steps: &[Step]) {
    for (n, step) in steps.iter().enumerate() {
        let from = step.from.clone().map(|(client, user, info)| {
            let (user, info) = (user.map(Into::into), info.map(Into::into));
            Arc::new(Sender { client: client.map(ClientId), user, info })
        });
        let key: Option<Box<str>> = step.key.map(|key| key.to_string().into());
        let room = RoomName::parse(["a", "b/c", "$user/ada"][step.room]).unwrap();
        let request = Request::Append {
            token: 1,
            room: room.clone(),
            publication: Arc::new(Publication {
                kind: "note".into(),
                payload: step.payload.clone().into(),
                time_ms: n as u64,
                from,
                key: key.clone(),
            }),
            key: key.map(|key| Key { principal: "u:ada".into(), key }),
            limits: LogLimits { size: step.size, ..LogLimits::default() },
            fresh: Epoch::new(&format!("e{n}")).unwrap(),
        };
        let Some(Completion::Appended { result: Ok(appended), .. }) =
            store.apply(vec![request], n as u64).pop()
        else {
            panic!("an append fails")
        };
        if step.ack {
            let (epoch, offset) = (appended.epoch, appended.offset);
            store.apply(vec![Request::Ack { token: 2, room, epoch, offset }], n as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever was done to a store: its lines make a store with the same lines, which goes on as the
    /// first one does.
    #[test]
    fn any_store_comes_back(before in proptest::collection::vec(step(), 0..24), after in proptest::collection::vec(step(), 1..8)) {
        let first = Arc::new(TempDir::new());
        let mut store = Waited::open(Arc::clone(&first)).unwrap();
        perform(&mut store, &before);
        let (lines, _) = exported(&first);
        let (second, _) = imported(&lines).unwrap();
        prop_assert_eq!(&exported(&second).0, &lines);
        prop_assert!(check(&second.0).unwrap().findings.is_empty());
        let mut other = Waited::open(Arc::clone(&second)).unwrap();
        perform(&mut store, &after);
        perform(&mut other, &after);
        prop_assert_eq!(exported(&second).0, exported(&first).0);
    }
}

#[test]
fn a_file_of_the_first_schema_is_brought_up_to_date_and_can_be_exported_before() {
    let dir = filled();
    let connection = Connection::open(dir.file()).unwrap();
    let older = "DROP TABLE groups; DROP TABLE absent; DELETE FROM revocations;
        ALTER TABLE revocations DROP COLUMN at_ms; PRAGMA user_version = 1";
    connection.execute_batch(older).unwrap();
    drop(connection);
    let (lines, done) = exported(&dir);
    assert_eq!((done.publications, done.revocations, done.groups), (5, 0, 0));
    let mut store = Waited::open(Arc::clone(&dir)).unwrap();
    assert_eq!(store.apply(vec![append(1, "a", "5", None)], 0)[0].error(), None);
    drop(store);
    let connection = Connection::open(dir.file()).unwrap();
    let count: i64 =
        connection.query_row("SELECT count(*) FROM groups", (), |row| row.get(0)).unwrap();
    assert!(
        connection
            .execute("INSERT INTO revocations (subject, at_ms, until_ms) VALUES ('a', 1, 2)", ())
            .is_ok()
    );
    assert_eq!(count, 0);
    assert!(imported(&lines).is_ok());
}
