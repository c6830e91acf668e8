//! A planted bug, which is there only with the feature `__late_keys`: whether a key is free is asked
//! outside the transaction of its publication.
//!
//! A table in memory hides that of the file from whoever says `keys`, and what was taken in it goes to
//! the file after the commit, in a transaction of its own.

use rusqlite::Connection;

pub(crate) fn plant(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA temp_store=MEMORY;
         CREATE TEMP TABLE keys AS SELECT * FROM main.keys;
         CREATE UNIQUE INDEX temp.by_key ON keys (room, principal, key);",
    )
}

pub(crate) fn take(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("INSERT OR IGNORE INTO main.keys SELECT * FROM temp.keys")
}
