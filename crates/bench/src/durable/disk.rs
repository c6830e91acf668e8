//! What the disk does when nobody is served: a bare loop of SQLite inserts, and a bare file.
//!
//! Both write batches of the same publications, each batch with one `fsync`. They panic where they
//! cannot go on: there is nothing to measure then.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, params};

/// Bytes of a publication's payload, JSON and all.
pub const PAYLOAD_BYTES: usize = 256;
/// Bytes of everything else that is kept of it: room, offset, time, type.
const REST_BYTES: usize = 44;

/// The payload of a publication.
pub fn payload() -> String {
    format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2))
}

/// Inserts into a table like the one of Clarion's store, without all that is around it there:
/// logs and their heads, keys, trimming, checks, answers.
#[derive(Debug)]
pub struct Bare {
    connection: Connection,
    heads: Vec<i64>,
    next: usize,
}

impl Bare {
    /// An empty database in `dir`, for so many rooms.
    pub fn new(dir: &Path, rooms: usize) -> Self {
        let connection = Connection::open(dir.join("bare.db")).expect("a database");
        connection
            .execute_batch(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32768;
                 PRAGMA wal_autocheckpoint=4096;
                 CREATE TABLE publications (room INTEGER NOT NULL, offset INTEGER NOT NULL,
                    time_ms INTEGER NOT NULL, type TEXT NOT NULL, payload BLOB NOT NULL,
                    PRIMARY KEY (room, offset)) STRICT, WITHOUT ROWID;",
            )
            .expect("a table");
        Self { connection, heads: vec![0; rooms], next: 0 }
    }

    /// Commits so many publications.
    pub fn batch(&mut self, count: usize) {
        let payload = payload();
        let transaction = self.connection.transaction().expect("a transaction");
        {
            let mut insert = transaction
                .prepare_cached("INSERT INTO publications VALUES (?1, ?2, ?3, ?4, ?5)")
                .expect("a statement");
            for _ in 0..count {
                self.next += 1;
                let room = room_of(self.next as u64, self.heads.len());
                self.heads[room] += 1;
                insert
                    .execute(params![
                        room as i64,
                        self.heads[room],
                        1_700_000_000_000_i64,
                        "chat_message",
                        payload.as_bytes()
                    ])
                    .expect("an insert");
            }
        }
        transaction.commit().expect("a commit");
    }
}

/// Appends to a file, and has it on the disk.
#[derive(Debug)]
pub struct Raw {
    file: File,
    buffer: Vec<u8>,
}

impl Raw {
    /// An empty file in `dir`.
    pub fn new(dir: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(dir.join("raw"));
        Self { file: file.expect("a file"), buffer: Vec::new() }
    }

    /// Appends so many publications and syncs them.
    pub fn batch(&mut self, count: usize) {
        self.buffer.clear();
        let payload = payload();
        for _ in 0..count {
            self.buffer.extend_from_slice(&[0; REST_BYTES]);
            self.buffer.extend_from_slice(payload.as_bytes());
        }
        self.file.write_all(&self.buffer).expect("a write");
        self.file.sync_data().expect("a sync");
    }
}

/// Which of so many rooms the publication `n` is for: neighbours in time are not in space.
pub fn room_of(n: u64, rooms: usize) -> usize {
    (n * 7_919 % rooms as u64) as usize
}
