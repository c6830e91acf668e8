//! A store with a planted bug, for `tests/blackbox/test_power.py`, which has to find it.
//!
//! `late_keys DIRECTORY COUNT` appends the numbers below `COUNT` to a room, one after the other, each
//! with itself as the key, and says of each where it is.

use clarion_protocol::{Epoch, Publication, RoomName};
use clarion_store::{Completion, Key, LogLimits, Request};
use clarion_store_sqlite::{Options, SqliteStore};
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().expect("a directory"));
    let count: u32 = arguments.next().expect("a count").parse().expect("a number");
    // As the server does it: the name is on the disk before anything is told.
    std::fs::create_dir_all(&dir).expect("a directory can be made");
    File::open(dir.join("..")).and_then(|parent| parent.sync_all()).expect("and be synced");
    let (sender, completions) = channel();
    let sender = Mutex::new(sender);
    let sink = move |_: u32, done: Vec<Completion>| {
        let _ = sender.lock().expect("nobody panics").send(done);
    };
    let store = SqliteStore::start(Options::new(&dir), sink).expect("a store");
    for number in 0..count {
        let text = number.to_string();
        let publication = Publication {
            kind: "m".into(),
            payload: text.clone().into(),
            time_ms: 0,
            from: None,
            key: Some(text.as_str().into()),
        };
        store.submit(
            0,
            Request::Append {
                token: 0,
                room: RoomName::parse("room").expect("a name"),
                publication: Arc::new(publication),
                key: Some(Key { principal: "ada".into(), key: text.into() }),
                limits: LogLimits {
                    size: 1_000,
                    bytes: 1 << 20,
                    age_ms: 1 << 42,
                    key_window_ms: 1 << 42,
                },
                fresh: Epoch::new("epoch").expect("an epoch"),
            },
        );
        let done = completions.recv().expect("an answer").pop();
        let Some(Completion::Appended { result: Ok(at), .. }) = done else { panic!("{done:?}") };
        let (epoch, offset, duplicate) = (at.epoch.as_str(), at.offset, at.duplicate);
        println!(
            "{}",
            serde_json::json!({ "id": number, "epoch": epoch, "offset": offset, "duplicate": duplicate })
        );
    }
}
