//! A store that is waited for, in a directory of its own.

// Each test takes what it needs of this.
#![allow(dead_code)]

use bytes::Bytes;
use clarion_protocol::{Epoch, Publication, RoomName};
use clarion_store::conformance::Subject;
use clarion_store::{
    Appended, Completion, Key, LogLimits, Page, Range, Request, Standing, Store, StoreError,
};
use clarion_store_sqlite::{FILE, Health, OpenError, Options, SqliteStore};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A directory that is removed in the end.
pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "clarion-store-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A store whose completions are waited for.
pub(crate) struct Waited {
    store: Option<SqliteStore>,
    completions: Receiver<Vec<Completion>>,
    pub(crate) now_ms: Arc<AtomicU64>,
    dir: Arc<TempDir>,
    /// Another process in the middle of a write.
    blocker: Option<Connection>,
}

/// Quick to give up and to try again, and never sweeping by itself.
pub(crate) fn options(dir: &Path) -> Options {
    Options { busy_ms: 20, retry_ms: 64, sweep_ms: 3_600_000, ..Options::new(dir) }
}

pub(crate) fn start(
    options: Options,
) -> Result<(SqliteStore, Receiver<Vec<Completion>>), OpenError> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let sink = move |_: u32, completions: Vec<Completion>| {
        let _ = sender.lock().unwrap().send(completions);
    };
    Ok((SqliteStore::start(options, sink)?, receiver))
}

impl Waited {
    pub(crate) fn new() -> Self {
        Self::open(Arc::new(TempDir::new())).unwrap()
    }

    pub(crate) fn open(dir: Arc<TempDir>) -> Result<Self, OpenError> {
        let now_ms = Arc::new(AtomicU64::new(0));
        let (store, completions) = start(with_clock(&dir.0, &now_ms))?;
        Ok(Self { store: Some(store), completions, now_ms, dir, blocker: None })
    }

    pub(crate) fn store(&self) -> &SqliteStore {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn wait_until_healthy(&self) {
        wait_for("health", || self.store().health() == Health::Ok);
    }

    pub(crate) fn append(
        &mut self,
        room: &str,
        payload: &str,
        key: Option<&str>,
    ) -> Result<Appended, StoreError> {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        match self.apply(vec![append(1, room, payload, key)], now_ms).pop() {
            Some(Completion::Appended { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stand(&mut self, room: &str) -> Standing {
        let (room, fresh) = (RoomName::parse(room).unwrap(), Epoch::new("none").unwrap());
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        match self.apply(vec![Request::Open { token: 3, room, fresh }], now_ms).pop() {
            Some(Completion::Opened { result, .. }) => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read(&mut self, room: &str) -> Result<Page, StoreError> {
        let request = Request::Read {
            token: 2,
            room: RoomName::parse(room).unwrap(),
            range: Range::After(0),
            limit: u32::MAX,
            bytes: usize::MAX,
            age_ms: 1 << 42,
            fresh: Some(Epoch::new("none").unwrap()),
        };
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        match self.apply(vec![request], now_ms).pop() {
            Some(Completion::Read { result, .. }) => result,
            other => panic!("{other:?}"),
        }
    }
}

fn with_clock(dir: &Path, now_ms: &Arc<AtomicU64>) -> Options {
    let now_ms = Arc::clone(now_ms);
    Options { clock: Arc::new(move || now_ms.load(Ordering::Relaxed)), ..options(dir) }
}

impl Store for Waited {
    fn apply(&mut self, batch: Vec<Request>, now_ms: u64) -> Vec<Completion> {
        self.now_ms.store(now_ms, Ordering::Relaxed);
        let count = batch.len();
        for request in batch {
            self.store().submit(0, request);
        }
        let mut completions = Vec::new();
        while completions.len() < count {
            let more = self.completions.recv_timeout(Duration::from_secs(60));
            completions.extend(more.expect("every request is answered"));
        }
        completions
    }
}

impl Subject for Waited {
    fn restart(&mut self) {
        self.store = None;
        let (store, completions) = start(with_clock(&self.dir.0, &self.now_ms)).unwrap();
        (self.store, self.completions) = (Some(store), completions);
    }

    fn fail(&mut self, failing: bool) -> bool {
        if failing {
            self.blocker = Some(block(&self.dir));
        } else {
            self.blocker = None;
            self.wait_until_healthy();
        }
        true
    }
}

/// What another process would do that writes and does not end.
pub(crate) fn block(dir: &TempDir) -> Connection {
    let blocker = Connection::open(dir.file()).unwrap();
    blocker.busy_timeout(Duration::from_secs(10)).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    blocker
}

pub(crate) fn append(token: u64, room: &str, payload: &str, key: Option<&str>) -> Request {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let publication = Publication {
        kind: "note".into(),
        payload,
        time_ms: 0,
        from: None,
        key: key.map(Into::into),
    };
    Request::Append {
        token,
        room: RoomName::parse(room).unwrap(),
        publication: Arc::new(publication),
        key: key.map(|key| Key { principal: "u:ada".into(), key: key.into() }),
        limits: LogLimits {
            size: 1_000_000,
            bytes: 1 << 40,
            age_ms: 1 << 42,
            key_window_ms: 1 << 40,
        },
        fresh: Epoch::new(&format!("e{token}")).unwrap(),
    }
}

pub(crate) fn texts(page: &Page) -> Vec<String> {
    let text = |(_, publication): &(u64, Arc<Publication>)| {
        String::from_utf8_lossy(&publication.payload).into_owned()
    };
    page.publications.iter().map(text).collect()
}

pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
