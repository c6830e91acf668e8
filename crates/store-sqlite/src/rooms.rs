//! A room's row, and those that are remembered.

use crate::error::damaged;
use clarion_protocol::{Epoch, Offset, RoomName};
use clarion_store::{LogLimits, Standing};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;

/// Rows that are remembered; over it all are forgotten, and read again when they are wanted. About
/// 300 bytes each.
const ROOM_COUNT_MAX: usize = 65_536;

/// A row of `rooms`, and what is known of the log beside it.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) id: i64,
    pub(crate) epoch: Epoch,
    pub(crate) head: Offset,
    pub(crate) first: Offset,
    pub(crate) floor: Offset,
    pub(crate) bytes: u64,
    pub(crate) acked: Offset,
    /// When the oldest publication kept was taken, if that is known: its offset, which is only good
    /// while it is `first`, and the time.
    pub(crate) oldest: Option<(Offset, u64)>,
    /// What the last append of the batch brought, if it has not been applied.
    pub(crate) limits: Option<LogLimits>,
    /// The row is not as it stands here.
    pub(crate) changed: bool,
}

impl Room {
    pub(crate) fn standing(&self) -> Standing {
        let Self { epoch, head, first, acked, .. } = self;
        Standing { epoch: epoch.clone(), head: *head, first: *first, acked: *acked }
    }

    /// The row of a room, if there is one.
    pub(crate) fn load(connection: &Connection, name: &RoomName) -> rusqlite::Result<Option<Self>> {
        connection
            .prepare_cached(
                "SELECT id, epoch, head, first, floor, bytes, acked FROM rooms WHERE name = ?1",
            )?
            .query_row(params![name.as_str()], Self::from_row)
            .optional()
    }

    pub(crate) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let epoch = row.get_ref(1)?.as_str()?;
        let room = Self {
            id: row.get(0)?,
            epoch: Epoch::new(epoch).ok_or_else(|| damaged("an epoch is no epoch"))?,
            head: unsigned(row.get(2)?)?,
            first: unsigned(row.get(3)?)?,
            floor: unsigned(row.get(4)?)?,
            bytes: unsigned(row.get(5)?)?,
            acked: unsigned(row.get(6)?)?,
            oldest: None,
            limits: None,
            changed: false,
        };
        let in_order = 1 <= room.floor && room.floor <= room.first && room.first <= room.head + 1;
        if !in_order || room.acked > room.head || room.head >= i64::MAX as u64 - 1 {
            return Err(damaged("a room's offsets are out of order"));
        }
        Ok(room)
    }

    /// Makes the row of a room that has none.
    pub(crate) fn create(
        connection: &Connection,
        name: &RoomName,
        epoch: &Epoch,
    ) -> rusqlite::Result<Self> {
        connection
            .prepare_cached(
                "INSERT INTO rooms (name, epoch, head, first, floor, bytes, acked, age_ms, touched_ms)
                 VALUES (?1, ?2, 0, 1, 1, 0, 0, 0, 0)",
            )?
            .execute(params![name.as_str(), epoch.as_str()])?;
        Ok(Self {
            id: connection.last_insert_rowid(),
            epoch: epoch.clone(),
            head: 0,
            first: 1,
            floor: 1,
            bytes: 0,
            acked: 0,
            oldest: None,
            limits: None,
            changed: true,
        })
    }

    /// Writes the row; `age_ms` is `None` if there was no append.
    pub(crate) fn save(
        &self,
        connection: &Connection,
        age_ms: Option<u64>,
        now_ms: u64,
    ) -> rusqlite::Result<()> {
        let rows = connection
            .prepare_cached(
                "UPDATE rooms SET head = ?2, first = ?3, floor = ?4, bytes = ?5, acked = ?6,
                 age_ms = ifnull(?7, age_ms), touched_ms = ?8 WHERE id = ?1",
            )?
            .execute(params![
                self.id,
                signed(self.head),
                signed(self.first),
                signed(self.floor),
                signed(self.bytes),
                signed(self.acked),
                age_ms.map(signed),
                signed(now_ms),
            ])?;
        if rows == 1 { Ok(()) } else { Err(damaged("a room's row is gone")) }
    }
}

/// The rows as they were committed last; bounded, see [`ROOM_COUNT_MAX`].
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    known: HashMap<RoomName, Room>,
    /// SQLite's count of what others have committed.
    version: i64,
}

impl Rooms {
    /// Within a transaction: forgets all if another process has written to the file since.
    pub(crate) fn refresh(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let version = connection
            .prepare_cached("PRAGMA data_version")?
            .query_row((), |row| row.get::<_, i64>(0))?;
        if std::mem::replace(&mut self.version, version) != version {
            self.forget_all();
        }
        Ok(())
    }

    pub(crate) fn get(&self, name: &RoomName) -> Option<&Room> {
        self.known.get(name)
    }

    /// Takes over what a transaction has committed.
    pub(crate) fn learn(&mut self, rooms: impl IntoIterator<Item = (RoomName, Room)>) {
        if self.known.len() > ROOM_COUNT_MAX {
            self.known.clear();
        }
        self.known.extend(rooms);
    }

    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }
}

/// As SQLite counts; what is beyond that is as good as its end.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// As we count; the file holds nothing negative.
pub(crate) fn unsigned(value: i64) -> rusqlite::Result<u64> {
    u64::try_from(value).map_err(|_| damaged("a number is negative"))
}
