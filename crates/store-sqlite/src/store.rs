//! The handle to a store, and what it is started with.

use crate::FILE;
use crate::error::OpenError;
use crate::health::{Counters, Health, Meter};
use crate::queue::Queue;
use crate::schema;
use crate::threads::{ReadSide, WriteSide};
use clarion_store::{Completion, Request};
use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The file that says whose the data directory is, by a lock on it.
const LOCK: &str = "clarion.lock";

/// Wall time, Unix milliseconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where completions go.
///
/// It is called by the store's threads, and should do no more than pass on.
pub trait Sink: Send + Sync + 'static {
    /// What came of requests that were submitted for `to`, in their order; one call for each batch
    /// and `to`.
    fn complete(&self, to: u32, completions: Vec<Completion>);
}

impl<F: Fn(u32, Vec<Completion>) + Send + Sync + 'static> Sink for F {
    fn complete(&self, to: u32, completions: Vec<Completion>) {
        self(to, completions);
    }
}

/// How a store works.
#[derive(Clone)]
pub struct Options {
    /// The directory, which must exist.
    pub dir: PathBuf,
    /// Requests in one transaction at most. Default 4,096.
    pub batch_count: usize,
    /// Bytes of requests in one transaction, about. Default 8 MiB. It is also what a commit that fails
    /// can leave undecided.
    pub batch_bytes: usize,
    /// Bytes of requests that may wait, for each of the two threads; above it they are refused. Default
    /// 64 MiB.
    pub queue_bytes: usize,
    /// How long a lock of another process is waited for, milliseconds. Default 1,000. Nothing is
    /// answered meanwhile.
    pub busy_ms: u64,
    /// The longest pause between two attempts to get a store to work again, milliseconds. The first
    /// is a 64th of it. Default 2,000.
    pub retry_ms: u64,
    /// How often some rooms are looked at for what has become too old, milliseconds; 64 rooms each
    /// time. Default 10,000.
    pub sweep_ms: u64,
    /// Pages of 4 KiB that the write-ahead log may have before it is copied into the file. Default
    /// 4,096: 16 MiB.
    pub wal_pages: u64,
    /// Page cache of the writing connection, KiB; the reading one has a quarter. Default 32,768.
    pub cache_kib: u32,
    /// By which ages and windows are counted. Default the system's.
    pub clock: Clock,
}

impl Options {
    /// The defaults, for a directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            batch_count: 4_096,
            batch_bytes: 8 << 20,
            queue_bytes: 64 << 20,
            busy_ms: 1_000,
            retry_ms: 2_000,
            sweep_ms: 10_000,
            wal_pages: 4_096,
            cache_kib: 32_768,
            clock: Arc::new(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                since.as_millis() as u64
            }),
        }
    }

    pub(crate) fn busy(&self) -> Duration {
        Duration::from_millis(self.busy_ms)
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// An open store. Dropping it [closes](Self::close) it.
pub struct SqliteStore {
    writes: Arc<Queue>,
    reads: Arc<Queue>,
    meter: Arc<Meter>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held while the store is open.
    _lock: File,
}

impl SqliteStore {
    /// Opens the file, or makes it, brings it up to date, and starts the threads.
    ///
    /// # Errors
    /// A sentence for whoever starts a server. What fails later is no error but [`Health`].
    pub fn start(options: Options, sink: impl Sink) -> Result<Self, OpenError> {
        let lock = lock(&options.dir)?;
        schema::prepare(&options.dir, options.busy())?;
        let (options, sink) = (Arc::new(options), Arc::new(sink) as Arc<dyn Sink>);
        let meter = Arc::new(Meter::default());
        let writes = Arc::new(Queue::new(options.queue_bytes));
        let reads = Arc::new(Queue::new(options.queue_bytes));
        let path = options.dir.join(FILE);
        let open = |error| OpenError::sqlite(&path, &error);
        let write_side = WriteSide::open(Arc::clone(&options), Arc::clone(&meter)).map_err(open)?;
        let read_side = ReadSide::open(Arc::clone(&options), Arc::clone(&meter)).map_err(open)?;
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.into())
                .spawn(run)
                .map_err(|error| OpenError::file(&path, &error))
        };
        // Made first, so that what has been started ends if the second cannot be.
        let store = Self {
            writes: Arc::clone(&writes),
            reads: Arc::clone(&reads),
            meter,
            threads: Mutex::default(),
            _lock: lock,
        };
        let to = Arc::clone(&sink);
        let write = spawn("store-write", Box::new(move || write_side.run(&writes, &*to)))?;
        store.threads().push(write);
        let read = spawn("store-read", Box::new(move || read_side.run(&reads, &*sink)))?;
        store.threads().push(read);
        Ok(store)
    }

    /// Lets a request wait for its turn; the completion goes to the [`Sink`], always, and in order: of
    /// one room's requests that write among themselves, and of those that read.
    ///
    /// It never blocks. If as many bytes wait as may, the completion is
    /// [`Unavailable`](clarion_store::StoreError::Unavailable): at once, but for those before it.
    pub fn submit(&self, to: u32, request: Request) {
        let queue = if request.writes() { &self.writes } else { &self.reads };
        if !queue.push(to, request) {
            self.meter.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    /// Takes no request any more, does those that wait, and returns when the file is closed.
    ///
    /// It may take as long as the disk does; the lock of the directory is given up with the store.
    pub fn close(&self) {
        self.writes.close();
        self.reads.close();
        for thread in std::mem::take(&mut *self.threads()) {
            // If it panicked, that was said already.
            let _ = thread.join();
        }
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // Nothing in here can panic halfway.
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it works now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.meter.health()
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.meter.counters((self.writes.bytes() + self.reads.bytes()) as u64)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.close();
    }
}

/// Makes the directory ours, or says that it is another's.
///
/// Two servers on one file would give places twice over, as far as their members can see.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = dir.join(LOCK);
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = open.map_err(|error| OpenError::file(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: dir.join(FILE) }),
        Err(TryLockError::Error(error)) => Err(OpenError::file(&path, &error)),
    }
}
