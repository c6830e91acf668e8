//! Cases about idempotency keys.

use super::Subject;
use super::ask::{WIDE, all, append, appended, key, keyed, put, texts};
use crate::{Appended, Completion, LogLimits};

/// The second use is answered with the first's place and time; also within one batch.
pub fn keys_name_one_publication<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    put(&mut store, "a", "0");
    let use_of = |text, now_ms| keyed("a", text, key("u:ada", "k"), WIDE, now_ms);
    let first = appended(&mut store, use_of("1", 5), 5);
    put(&mut store, "a", "2");
    let again = appended(&mut store, use_of("3", 9), 9);
    assert_eq!((first.offset, first.time_ms, first.duplicate), (2, 5, false));
    assert_eq!(again, Appended { duplicate: true, ..first });
    let twice = |text| keyed("a", text, key("u:ada", "in one batch"), WIDE, 9);
    let both = store.apply(vec![twice("4"), append(2, "a", "5", WIDE, 9), twice("6")], 9);
    let places: Vec<_> = both.iter().map(place).collect();
    assert_eq!(places, [(4, false), (5, false), (4, true)]);
    assert_eq!(texts(&all(&mut store, "a")), ["0", "1", "2", "4", "5"]);
}

/// A key may be used again after its window, which counts from its last use that was applied.
pub fn keys_end_with_their_window<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { key_window_ms: 100, ..WIDE };
    let mut use_at = |now_ms| {
        let request = keyed("a", "1", key("u:ada", "k"), limits, now_ms);
        let appended = appended(&mut store, request, now_ms);
        (appended.offset, appended.time_ms, appended.duplicate)
    };
    assert_eq!(use_at(1_000), (1, 1_000, false));
    assert_eq!(use_at(1_100), (1, 1_000, true));
    assert_eq!(use_at(1_101), (2, 1_101, false));
    assert_eq!(use_at(1_201), (2, 1_101, true), "not the first use's window");
    assert_eq!(use_at(1_202), (3, 1_202, false));
}

/// Nor do keys in different rooms, nor a principal and key that spell the same together.
pub fn keys_of_different_principals_never_meet<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let users =
        [("a", "u:ada", "k"), ("a", "u:bob", "k"), ("b", "u:ada", "k"), ("a", "u:ad", "ak")];
    for (room, principal, text) in users {
        let request = keyed(room, "1", key(principal, text), WIDE, 0);
        assert!(!appended(&mut store, request, 0).duplicate, "{principal} {text} in {room}");
    }
    for (room, principal, text) in users {
        let request = keyed(room, "1", key(principal, text), WIDE, 0);
        assert!(appended(&mut store, request, 0).duplicate, "{principal} {text} in {room}");
    }
}

/// A key stays used when its publication is trimmed.
pub fn keys_outlive_their_publication<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { size: 1, ..WIDE };
    let first = appended(&mut store, keyed("a", "1", key("u:ada", "k"), limits, 7), 7);
    for _ in 0..200 {
        appended(&mut store, append(1, "a", "2", limits, 8), 8);
    }
    let again = appended(&mut store, keyed("a", "3", key("u:ada", "k"), limits, 9), 9);
    assert_eq!(again, Appended { duplicate: true, ..first });
}

/// Keys are remembered over a restart, for what is left of their window.
pub fn keys_survive_restart<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { key_window_ms: 100, ..WIDE };
    let used = |now_ms| keyed("a", "1", key("k:shop", "k\u{0}\"ü"), limits, now_ms);
    let first = appended(&mut store, used(1_000), 1_000);
    store.restart();
    let again = appended(&mut store, used(1_100), 1_100);
    assert_eq!(again, Appended { duplicate: true, ..first });
    store.restart();
    let later = appended(&mut store, used(1_101), 1_101);
    assert_eq!((later.offset, later.duplicate), (2, false));
}

fn place(completion: &Completion) -> (u64, bool) {
    match completion {
        Completion::Appended { result: Ok(appended), .. } => (appended.offset, appended.duplicate),
        other => panic!("an append was answered with {other:?}"),
    }
}
