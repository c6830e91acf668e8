//! Cases about what a publication may hold.

use super::Subject;
use super::ask::{WIDE, all, appended, publication, put, room};
use crate::{Range, Request};
use clarion_protocol::{ClientId, Epoch, Publication, Sender};
use std::sync::Arc;

/// Payloads are JSON texts, and come back byte for byte: nobody parses them on the way.
pub fn payloads_come_back_as_they_went<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let deep = "[".repeat(500) + &"]".repeat(500);
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let payloads = [
        "null",
        "\"\"",
        "",
        " { \"a\" : 1.0e+2 , \"a\" : -0 } ",
        r#""\u0000""#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        "\"\u{0}\u{1}\u{7f}\"",
        "\"\u{2028}ü\u{10ffff}\u{feff}\"",
        "123456789012345678901234567890.000",
        r#"{"'; DROP TABLE rooms; --":"%_?:1"}"#,
        &deep,
        &large,
    ];
    for payload in payloads {
        put(&mut store, "a", payload);
    }
    store.restart();
    let page = all(&mut store, "a");
    assert_eq!(page.publications.len(), payloads.len());
    for ((_, publication), payload) in page.publications.iter().zip(payloads) {
        assert!(publication.payload == payload.as_bytes(), "{payload:.60}");
    }
    let page = super::ask::read(&mut store, "a", Range::After(0), 99, 1 << 19);
    assert_eq!((page.publications.len(), page.more), (payloads.len() - 1, true));
}

/// Who published comes back as it was told, and what was not told stays so.
pub fn senders_come_back<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let client = Some(ClientId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]));
    let senders = [
        None,
        Some(Sender::default()),
        Some(Sender { client, user: Some("ada".into()), info: Some(r#"{"n":"\u0000"}"#.into()) }),
        Some(Sender { client, user: None, info: None }),
        Some(Sender { client: None, user: Some("a".repeat(96).into()), info: None }),
        Some(Sender { client: None, user: None, info: Some("null".into()) }),
    ];
    let mut expected = Vec::new();
    for (n, from) in senders.into_iter().enumerate() {
        let key = (n % 2 == 1).then(|| "k".repeat(64).into());
        let kind = "ü".repeat(32).into();
        let from = from.map(Arc::new);
        let publication = Publication { kind, from, key, ..publication("1", n as u64) };
        expected.push(publication.clone());
        store_one(&mut store, publication);
    }
    store.restart();
    let page = all(&mut store, "a");
    let found: Vec<Publication> = page.publications.iter().map(|(_, p)| (**p).clone()).collect();
    assert_eq!(found, expected);
}

/// The longest names and epochs that there can be.
pub fn names_may_be_long<S: Subject>(make: impl Fn() -> S) {
    let mut store = make();
    let names = ["a".repeat(128), "a".repeat(127), format!("$user/{}", "~".repeat(96))];
    let epoch = Epoch::new(&"ü".repeat(16)).expect("32 bytes");
    for name in &names {
        let request = Request::Append {
            token: u64::MAX,
            room: room(name),
            publication: Arc::new(publication("1", 0)),
            key: None,
            limits: WIDE,
            fresh: epoch.clone(),
        };
        let appended = appended(&mut store, request, 0);
        assert_eq!((appended.offset, appended.epoch), (1, epoch.clone()));
    }
    store.restart();
    for name in &names {
        let standing = all(&mut store, name).standing;
        assert_eq!((standing.epoch, standing.head), (epoch.clone(), 1), "{name}");
    }
}

fn store_one(store: &mut impl Subject, publication: Publication) {
    let request = Request::Append {
        token: 1,
        room: room("a"),
        publication: Arc::new(publication),
        // The publication says which key it had; whether one is in use is the request's.
        key: None,
        limits: WIDE,
        fresh: super::ask::epoch("e"),
    };
    appended(store, request, 0);
}
