//! Cases about logs: their places, their ends, what is read and what is trimmed.

use super::Subject;
use super::ask::{
    WIDE, ack, all, append, appended, epoch, offsets, open, put, read, read_request, room, texts,
    try_read,
};
use crate::{Completion, LogLimits, Range, Request, Standing, StoreError};

/// Offsets count from 1, over batches of any size.
pub fn offsets_are_consecutive<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let mut expected = 0;
    for size in [1, 2, 64, 1] {
        let batch = (0..size).map(|n| append(n, "a", "1", WIDE, 0)).collect();
        for completion in store.apply(batch, 0) {
            expected += 1;
            let Completion::Appended { result: Ok(appended), .. } = completion else {
                panic!("{completion:?}");
            };
            assert_eq!((appended.offset, appended.duplicate), (expected, false));
            assert_eq!(appended.epoch, epoch("e-a"));
        }
    }
    assert_eq!(offsets(&all(&mut store, "a")), (1..=68).collect::<Vec<_>>());
}

/// Every request is answered once, with its own mark and in its place.
pub fn batches_are_answered_in_order<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    assert!(store.apply(Vec::new(), 0).is_empty());
    let mut batch = Vec::new();
    for token in 0..50 {
        let to = ["a", "b", "c"][token as usize % 3];
        batch.push(match token % 5 {
            4 => Request::Ack { token, room: room(to), epoch: epoch("no"), offset: 1 },
            3 => Request::Revoke { token, subject: to.into(), at_ms: 1, until_ms: 9 },
            _ => append(token, to, "1", WIDE, 0),
        });
    }
    let completions = store.apply(batch, 0);
    let tokens: Vec<u64> = completions.iter().map(Completion::token).collect();
    assert_eq!(tokens, (0..50).collect::<Vec<_>>());
    assert!(completions.iter().all(|completion| completion.error().is_none()));
}

/// Opening or reading a log that is not there makes none.
pub fn asking_leaves_nothing_behind<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let nothing = |fresh| Standing { epoch: epoch(fresh), head: 0, first: 1, acked: 0 };
    let own = open(&mut store, "a", "e1").epoch;
    // As it was asked, or by the store's own name for what is not there.
    let named = |standing: Standing, fresh| {
        let own = Standing { epoch: own.clone(), ..nothing(fresh) };
        standing == nothing(fresh) || own.epoch != epoch("e1") && standing == own
    };
    assert!(named(open(&mut store, "a", "e2"), "e2"), "the first one was not kept");
    let request = read_request("a", Range::After(0), 9, 99);
    assert_eq!(try_read(&mut store, request, 0), Err(StoreError::Unavailable));
    let Request::Read { token, room, range, limit, bytes, age_ms, .. } =
        read_request("a", Range::Before(9), 9, 99)
    else {
        unreachable!("a read is one");
    };
    let fresh = Some(epoch("e3"));
    let request = Request::Read { token, room, range, limit, bytes, age_ms, fresh };
    let page = try_read(&mut store, request, 0).expect("an empty page");
    assert_eq!((page.standing, page.publications.len(), page.more), (nothing("e3"), 0, false));
    assert_eq!(ack(&mut store, "a", "e1", 5), 0);
    store.restart();
    assert!(named(open(&mut store, "a", "e4"), "e4"));
}

/// The log's epoch is what its first append brought, whatever later ones bring.
pub fn first_append_makes_the_log<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    for (n, fresh) in ["mine", "yours", "theirs"].into_iter().enumerate() {
        let Request::Append { token, room, publication, key, limits, .. } =
            append(1, "a", "1", WIDE, 0)
        else {
            unreachable!("an append is one");
        };
        let fresh = epoch(fresh);
        let request = Request::Append { token, room, publication, key, limits, fresh };
        let appended = appended(&mut store, request, 0);
        assert_eq!((appended.epoch, appended.offset), (epoch("mine"), n as u64 + 1));
    }
    assert_eq!(open(&mut store, "a", "other").epoch, epoch("mine"));
}

/// What was appended is there after a restart, and offsets go on in the same epoch.
pub fn log_survives_restart<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    for text in ["1", "2", "3"] {
        put(&mut store, "a", text);
    }
    let before = all(&mut store, "a");
    store.restart();
    assert_eq!(all(&mut store, "a"), before);
    let standing = open(&mut store, "a", "other");
    assert_eq!(standing, Standing { epoch: epoch("e-a"), head: 3, first: 1, acked: 0 });
    assert_eq!(put(&mut store, "a", "4"), 4);
    store.restart();
    assert_eq!(texts(&all(&mut store, "a")), ["1", "2", "3", "4"]);
}

/// So does what was trimmed: where the log begins, and that its offsets are not given again.
pub fn trimmed_log_survives_restart<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { bytes: 10, ..WIDE };
    for text in ["1", "2"] {
        appended(&mut store, append(1, "a", text, limits, 0), 0);
    }
    // Larger than all that is kept, so that nothing is.
    assert_eq!(appended(&mut store, append(1, "a", "12345678", limits, 0), 0).offset, 3);
    let expected = Standing { epoch: epoch("e-a"), head: 3, first: 4, acked: 0 };
    assert_eq!(all(&mut store, "a").standing, expected);
    store.restart();
    assert_eq!(all(&mut store, "a").standing, expected);
    assert_eq!(appended(&mut store, append(1, "a", "3", limits, 0), 0).offset, 4);
}

/// The oldest go when there are more than `size`; the epoch stays.
pub fn logs_are_trimmed_by_size<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { size: 3, ..WIDE };
    let mut told = 0;
    for size in [1, 1, 1, 2, 7, 1, 300, 1] {
        let batch = (0..size).map(|n| append(n, "a", "1", limits, 0)).collect();
        told += store.apply(batch, 0).len() as u64;
        let page = all(&mut store, "a");
        let first = told.saturating_sub(3) + 1;
        assert_eq!((page.standing.first, page.standing.head), (first, told));
        assert_eq!(offsets(&page), (first..=told).collect::<Vec<_>>());
        assert_eq!(page.standing.epoch, epoch("e-a"));
    }
    let none = LogLimits { size: 0, ..WIDE };
    assert_eq!(appended(&mut store, append(1, "a", "1", none, 0), 0).offset, told + 1);
    assert_eq!(all(&mut store, "a").standing.first, told + 2);
}

/// The oldest go when type, payload and sender come to more than `bytes`.
pub fn logs_are_trimmed_by_bytes<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    // The type is four bytes.
    let limits = LogLimits { bytes: 30, ..WIDE };
    let mut append = |text: &str| {
        appended(&mut store, append(1, "a", text, limits, 0), 0);
        offsets(&all(&mut store, "a"))
    };
    assert_eq!(append("123456"), [1]);
    assert_eq!(append("123456"), [1, 2]);
    assert_eq!(append("123456"), [1, 2, 3]);
    assert_eq!(append("1"), [2, 3, 4]);
    assert_eq!(append("12345678901234567890123456"), [5], "exactly as much as there may be");
    assert_eq!(append("123456789012345678901234567"), [0; 0], "one byte more");
    assert_eq!(append("1"), [7]);
}

/// What is too old is not read, and is gone with the next append.
pub fn logs_are_trimmed_by_age<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { age_ms: 50, ..WIDE };
    for now_ms in [100, 110, 120] {
        appended(&mut store, append(1, "a", "1", limits, now_ms), now_ms);
    }
    let Request::Read { token, room, range, limit, bytes, fresh, .. } =
        read_request("a", Range::After(0), 9, 99)
    else {
        unreachable!("a read is one");
    };
    let mut first = |now_ms| {
        let (room, range, fresh) = (room.clone(), range, fresh.clone());
        let request = Request::Read { token, room, range, limit, bytes, age_ms: 50, fresh };
        let page = try_read(&mut store, request, now_ms).expect("the store works");
        let offsets = offsets(&page);
        assert_eq!(offsets, (page.standing.first..=3).collect::<Vec<_>>());
        page.standing.first
    };
    assert_eq!(first(150), 1, "as old as it may be");
    assert_eq!(first(151), 2);
    assert_eq!(first(1_000), 4);
    appended(&mut store, append(1, "a", "1", limits, 1_000), 1_000);
    assert_eq!(open(&mut store, "a", "other").first, 4);
}

/// `After` takes the oldest above, `Before` the newest below, both ascending.
pub fn ranges_read_both_ways<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { size: 6, ..WIDE };
    for _ in 0..10 {
        appended(&mut store, append(1, "a", "1", limits, 0), 0);
    }
    let mut range = |range, limit| {
        let page = read(&mut store, "a", range, limit, usize::MAX);
        assert_eq!((page.standing.first, page.standing.head), (5, 10));
        (offsets(&page), page.more)
    };
    let far = i64::MAX as u64;
    assert_eq!(range(Range::After(0), 9), (vec![5, 6, 7, 8, 9, 10], false));
    assert_eq!(range(Range::After(4), 2), (vec![5, 6], true));
    assert_eq!(range(Range::After(7), 3), (vec![8, 9, 10], false));
    assert_eq!(range(Range::After(8), 1), (vec![9], true));
    for after in [10, 11, far, u64::MAX] {
        assert_eq!(range(Range::After(after), 9), (vec![], false), "after {after}");
    }
    assert_eq!(range(Range::Before(11), 2), (vec![9, 10], true));
    assert_eq!(range(Range::Before(8), 9), (vec![5, 6, 7], false));
    assert_eq!(range(Range::Before(8), 2), (vec![6, 7], true));
    for before in [12, far, u64::MAX] {
        assert_eq!(range(Range::Before(before), 1), (vec![10], true), "before {before}");
    }
    for before in [0, 1, 4, 5] {
        assert_eq!(range(Range::Before(before), 9), (vec![], false), "before {before}");
    }
    assert_eq!(range(Range::After(4), 0), (vec![], true), "nothing was wanted");
    assert_eq!(range(Range::Before(5), 0), (vec![], false));
}

/// Pages stop before the limit is exceeded, but never before the first publication.
pub fn pages_end_by_count_and_bytes<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    for _ in 0..5 {
        put(&mut store, "a", "123456");
    }
    // Ten bytes each, type included.
    for (bytes, count) in [(0, 1), (1, 1), (10, 1), (19, 1), (20, 2), (49, 4), (50, 5)] {
        let page = read(&mut store, "a", Range::After(0), 9, bytes);
        assert_eq!(offsets(&page), (1..=count).collect::<Vec<_>>(), "{bytes} bytes");
        assert_eq!(page.more, count < 5);
        let page = read(&mut store, "a", Range::Before(6), 9, bytes);
        assert_eq!(offsets(&page), (6 - count..=5).collect::<Vec<_>>(), "{bytes} bytes");
        assert_eq!(page.more, count < 5);
    }
}

/// Acknowledgements are cumulative, never go back, and are of one epoch.
pub fn acks_move_forward_only<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let limits = LogLimits { size: 2, ..WIDE };
    for _ in 0..5 {
        appended(&mut store, append(1, "$user/ada", "1", limits, 0), 0);
    }
    let log = open(&mut store, "$user/ada", "other").epoch;
    let log = log.as_str();
    let steps = [(log, 2, 2), (log, 1, 2), ("other", 4, 2), (log, 4, 4), (log, 0, 4)];
    for (of, offset, expected) in steps {
        assert_eq!(ack(&mut store, "$user/ada", of, offset), expected, "{offset} of {of}");
        assert_eq!(open(&mut store, "$user/ada", "other").acked, expected);
    }
    assert_eq!(ack(&mut store, "$user/ada", log, 99), 5, "not beyond what there is");
    appended(&mut store, append(1, "$user/ada", "1", limits, 0), 0);
    store.restart();
    assert_eq!(open(&mut store, "$user/ada", "other").acked, 5);
    assert_eq!(all(&mut store, "$user/ada").standing.acked, 5);
}

/// Rooms do not touch each other's places, whatever their names have in common.
pub fn many_rooms_keep_apart<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let names: Vec<String> = (0..300).map(|n| format!("r{}/{n}", n % 7)).collect();
    for round in 1..=3 {
        let batch = names.iter().enumerate();
        let batch = batch.map(|(n, name)| append(n as u64, name, &format!("{n}"), WIDE, 0));
        for completion in store.apply(batch.collect(), 0) {
            let Completion::Appended { token, result: Ok(appended) } = completion else {
                panic!("{completion:?}");
            };
            assert_eq!(appended.offset, round);
            assert_eq!(appended.epoch, epoch(&format!("e-{}", names[token as usize])));
        }
    }
    store.restart();
    for (n, name) in names.iter().enumerate() {
        assert_eq!(texts(&all(&mut store, name)), vec![n.to_string(); 3], "{name}");
    }
}

/// A batch that failed as `Unavailable` did nothing, and the next one goes on where it would have.
pub fn failed_batch_leaves_nothing<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    put(&mut store, "a", "1");
    if !store.fail(true) {
        return;
    }
    let batch = vec![
        append(1, "a", "2", WIDE, 0),
        append(2, "b", "1", WIDE, 0),
        Request::Ack { token: 3, room: room("a"), epoch: epoch("e-a"), offset: 1 },
        Request::Revoke { token: 4, subject: "ada".into(), at_ms: 1, until_ms: 99 },
    ];
    for completion in store.apply(batch.clone(), 0) {
        assert_eq!(completion.error(), Some(StoreError::Unavailable), "{completion:?}");
    }
    assert!(store.fail(false));
    assert_eq!(all(&mut store, "a").standing.acked, 0);
    assert_eq!(texts(&all(&mut store, "a")), ["1"]);
    assert_eq!(open(&mut store, "b", "other").head, 0);
    for completion in store.apply(batch, 0) {
        assert_eq!(completion.error(), None, "{completion:?}");
    }
    store.restart();
    assert_eq!(texts(&all(&mut store, "a")), ["1", "2"]);
    assert_eq!(texts(&all(&mut store, "b")), ["1"]);
}
