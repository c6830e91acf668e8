//! Lines as a store.
//!
//! It is made aside and put into its place when it is whole and on the disk. Whoever is killed
//! before that leaves a directory without a store, and a draft that the next import throws away.

use super::TransferError;
use super::lines::{KeyLine, Line, PublicationLine, RoomLine, Transferred, VERSION, text};
use crate::error::OpenError;
use crate::rooms::{Room, signed};
use crate::{FILE, schema, store, writer};
use clarion_protocol::{ClientId, Epoch, Publication, RoomName, Sender, UserId};
use clarion_store::weight;
use rusqlite::{Connection, TransactionBehavior, params};
use std::io::{BufRead, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The longest line, bytes; far more than a publication that a server would take.
const LINE_SIZE_MAX: u64 = 64 << 20;
/// Lines of one transaction.
const LINES_A_COMMIT: u64 = 4_096;
/// Offsets are below 2^53: protocol, section 2.
const OFFSET_MAX: u64 = (1 << 53) - 1;

/// Under which epochs logs go on.
pub enum Epochs<'a> {
    /// Under new ones: what came after the export is lost, and clients have to know.
    Fresh(&'a mut dyn FnMut() -> Epoch),
    /// Under those they had. Only if nothing was appended since the export, nor ever will be where
    /// it came from: else one place in a log is two publications.
    Kept,
}

/// Makes a store of the lines that [`export`](super::export()) wrote.
///
/// Under new epochs, offsets, acknowledged offsets and idempotency keys stay as they were.
///
/// # Errors
/// If a server uses the directory, if it has a store, or at the first line that is wrong. Then
/// there is none.
pub fn import(
    dir: &Path,
    from: impl BufRead,
    epochs: Epochs<'_>,
) -> Result<Transferred, TransferError> {
    let _lock = store::lock(dir)?;
    let path = dir.join(FILE);
    if path.exists() {
        return Err(TransferError::Occupied { path });
    }
    let draft = dir.join("clarion.import");
    remove(&draft)?;
    std::fs::create_dir(&draft)?;
    let result = fill(&draft, from, epochs);
    if result.is_ok() {
        std::fs::rename(draft.join(FILE), &path)?;
        std::fs::File::open(dir)?.sync_all()?;
    }
    remove(&draft)?;
    result
}

fn remove(draft: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn fill(
    draft: &Path,
    mut from: impl BufRead,
    epochs: Epochs<'_>,
) -> Result<Transferred, TransferError> {
    let sqlite = |error| TransferError::Store(OpenError::sqlite(&draft.join(FILE), &error));
    schema::prepare(draft, Duration::ZERO)?;
    let mut connection = schema::connect(draft, Duration::ZERO).map_err(sqlite)?;
    let mut import =
        Import { epochs, room: None, stage: Stage::Head, done: Transferred::default() };
    let mut number = 0;
    while import.stage != Stage::End {
        let behavior = TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(behavior).map_err(sqlite)?;
        for _ in 0..LINES_A_COMMIT {
            number += 1;
            let wrong = |wrong| match wrong {
                Wrong::Line(what) => TransferError::Line { number, what },
                Wrong::Store(error) => sqlite(error),
            };
            let line = read_line(&mut from)?;
            let line = line.ok_or_else(|| {
                let what = "it ends here, without the line `end`: it was cut short".to_owned();
                TransferError::Line { number, what }
            })?;
            import.line(&transaction, parse(&line).map_err(wrong)?).map_err(wrong)?;
            if import.stage == Stage::End {
                break;
            }
        }
        transaction.commit().map_err(sqlite)?;
    }
    if read_line(&mut from)?.is_some() {
        let what = "nothing may come behind the line `end`".to_owned();
        return Err(TransferError::Line { number: number + 1, what });
    }
    // All of it in one file, on the disk.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())).map_err(sqlite)?;
    Ok(import.done)
}

/// The next line without its end; `None` at the end of the file.
fn read_line(from: &mut impl BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_SIZE_MAX + 1).read_until(b'\n', &mut line)?;
    Ok((!line.is_empty()).then_some(line))
}

fn parse(line: &[u8]) -> Result<Line, Wrong> {
    if line.len() as u64 > LINE_SIZE_MAX {
        return Err(Wrong::Line(format!("it has more than {LINE_SIZE_MAX} bytes")));
    }
    serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        Wrong::Line(format!("column {}: {what}", error.column()))
    })
}

/// Whose fault it is.
enum Wrong {
    Line(String),
    Store(rusqlite::Error),
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error)
    }
}

impl From<&str> for Wrong {
    fn from(what: &str) -> Self {
        Self::Line(what.into())
    }
}

/// What may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Head,
    Rooms,
    Keys,
    Revocations,
    Groups,
    End,
}

struct Import<'a> {
    epochs: Epochs<'a>,
    /// The room that lines are of: as far as it is read, and as it will be.
    room: Option<(Room, RoomLine)>,
    stage: Stage,
    done: Transferred,
}

impl Import<'_> {
    fn line(&mut self, to: &Connection, line: Line) -> Result<(), Wrong> {
        match line {
            Line::Export(head) => {
                if self.stage != Stage::Head {
                    return Err("`export` is the first line".into());
                }
                if head.version != VERSION {
                    let version = head.version;
                    let what =
                        format!("this is version {version} of the format, known is {VERSION}");
                    return Err(Wrong::Line(what));
                }
                self.stage = Stage::Rooms;
                Ok(())
            }
            _ if self.stage == Stage::Head => Err("the first line is `export`".into()),
            Line::Room(line) => {
                self.finish_room(to)?;
                self.reach(Stage::Rooms)?;
                self.room(to, line)
            }
            Line::Publication(line) => self.publication(to, line),
            Line::Key(line) => self.key(to, &line),
            Line::Revocation(line) => {
                self.finish_room(to)?;
                self.reach(Stage::Revocations)?;
                self.done.revocations += 1;
                let sql = "INSERT INTO revocations (subject, at_ms, until_ms) VALUES (?1, ?2, ?3)";
                insert(to, sql, params![line.subject, signed(line.at_ms), signed(line.until_ms)])
            }
            Line::Group(line) => {
                self.finish_room(to)?;
                self.reach(Stage::Groups)?;
                for segment in [&line.name, &line.user] {
                    UserId::validate_segment(segment).map_err(|rule| rule.message())?;
                }
                self.done.groups += 1;
                let sql = "INSERT INTO groups (name, user) VALUES (?1, ?2)";
                insert(to, sql, params![line.name, line.user])
            }
            Line::End(counts) => {
                self.finish_room(to)?;
                if counts != self.done {
                    let what = format!(
                        "lines are missing: {counts:?} were written, {:?} are here",
                        self.done
                    );
                    return Err(Wrong::Line(what));
                }
                self.stage = Stage::End;
                Ok(())
            }
        }
    }

    /// Kinds of lines have an order.
    fn reach(&mut self, stage: Stage) -> Result<(), Wrong> {
        if stage == Stage::Rooms && self.stage == Stage::Keys {
            // Of the room before.
            self.stage = stage;
        }
        if stage < self.stage {
            return Err("lines of this kind come earlier".into());
        }
        self.stage = stage;
        Ok(())
    }

    fn room(&mut self, to: &Connection, line: RoomLine) -> Result<(), Wrong> {
        let name = RoomName::parse(&line.name).map_err(|rule| rule.message())?;
        let kept = Epoch::new(&line.epoch).ok_or("an epoch has 1 to 32 bytes")?;
        let epoch = match &mut self.epochs {
            Epochs::Fresh(make) => make(),
            Epochs::Kept => kept,
        };
        let in_order = (1..=line.head.saturating_add(1)).contains(&line.first);
        if !in_order || line.head > OFFSET_MAX || line.acked > line.head {
            return Err("its offsets are out of order".into());
        }
        if Room::load(to, &name)?.is_some() {
            return Err("this room comes twice".into());
        }
        let mut room = Room::create(to, &name, &epoch)?;
        (room.head, room.first, room.floor) = (line.first - 1, line.first, line.first);
        self.done.rooms += 1;
        self.room = Some((room, line));
        Ok(())
    }

    fn publication(&mut self, to: &Connection, line: PublicationLine) -> Result<(), Wrong> {
        let publications = matches!(self.stage, Stage::Rooms);
        let room = self.room.as_mut().filter(|_| publications);
        let (room, wanted) = room.ok_or("a publication comes behind its room")?;
        if line.offset != room.head + 1 || line.offset > wanted.head {
            let next = room.head + 1;
            let what = if next > wanted.head {
                format!("the room ends with offset {}", wanted.head)
            } else {
                format!("offset {next} is next")
            };
            return Err(Wrong::Line(what));
        }
        let publication = publication(line)?;
        room.head += 1;
        room.bytes += weight(&publication) as u64;
        self.done.publications += 1;
        Ok(writer::insert(to, room, &publication)?)
    }

    fn key(&mut self, to: &Connection, line: &KeyLine) -> Result<(), Wrong> {
        let (room, wanted) = self.room.as_ref().ok_or("a key comes behind its room")?;
        if room.head != wanted.head {
            return Err(missing(room));
        }
        if line.offset == 0 || line.offset > wanted.head {
            return Err("its offset is not of this room".into());
        }
        let sql = "INSERT INTO keys (room, principal, key, offset, time_ms, expires_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        insert(
            to,
            sql,
            params![
                room.id,
                line.principal,
                line.key,
                signed(line.offset),
                signed(line.time_ms),
                signed(line.expires_ms),
            ],
        )?;
        self.done.keys += 1;
        self.stage = Stage::Keys;
        Ok(())
    }

    /// The row of the room that lines were of, with what they say in sum.
    fn finish_room(&mut self, to: &Connection) -> Result<(), Wrong> {
        let Some((mut room, wanted)) = self.room.take() else { return Ok(()) };
        if room.head != wanted.head {
            return Err(missing(&room));
        }
        room.acked = wanted.acked;
        Ok(room.save(to, Some(wanted.age_ms), wanted.touched_ms)?)
    }
}

fn missing(room: &Room) -> Wrong {
    Wrong::Line(format!("offset {} of the room before is missing", room.head + 1))
}

/// One row; what is there already is the line's fault.
fn insert(to: &Connection, sql: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), Wrong> {
    match to.prepare_cached(sql)?.execute(values) {
        Err(error)
            if error.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) =>
        {
            Err("this comes twice".into())
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

fn publication(line: PublicationLine) -> Result<Publication, Wrong> {
    if !(1..=64).contains(&line.r#type.len()) || line.r#type.starts_with('$') {
        return Err("a type has 1 to 64 bytes and begins with no $".into());
    }
    let payload = text(line.payload, line.payload_text).ok_or("it has one payload")?;
    let from = line.from.map(|from| {
        let client = from.client.map(|client| ClientId::parse(&client));
        let client = client.transpose().map_err(|rule| rule.message())?;
        if from.info.is_some() && from.info_text.is_some() {
            return Err("it has one info");
        }
        let info = text(from.info, from.info_text);
        let user = from.user.map(Into::into);
        Ok(Arc::new(Sender { client, user, info: info.map(Into::into) }))
    });
    Ok(Publication {
        kind: line.r#type.into(),
        payload: payload.into(),
        time_ms: line.time_ms,
        from: from.transpose()?,
        key: line.key.map(Into::into),
    })
}
