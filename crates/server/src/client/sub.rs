//! `clarion sub`: joins rooms and prints what is published there.

use super::{Connect, Failed, close, connect, run, watch};
use crate::serve::Signals;
use clap::Args;
use clarion_client::{Client, Events, Lagged, Publication, Room, RoomEvent, RoomState, Sender};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many publications of a room wait for standard output before some are not kept.
const EVENTS: usize = 65_536;
/// How many lines wait for it.
const LINES: usize = 1024;
/// How long what was received may take to be printed after the end.
const FLUSH: Duration = Duration::from_secs(2);

/// Join rooms and print what is published there, until Ctrl-C.
///
/// A line per publication: room, offset (`-` if it was not logged), type, payload. Gaps, recovery
/// and changes of state go to standard error. The first connection has to succeed; a connection
/// that is lost later comes back, and what was missed is printed then.
#[derive(Debug, Args)]
pub(crate) struct SubArgs {
    #[command(flatten)]
    connect: Connect,
    /// Rooms to join; those with a $ (`$all`, for example) are only listened to.
    #[arg(required = true, value_name = "ROOM")]
    rooms: Vec<String>,
    /// First print the last so many publications of each room.
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Print publications as they go over the wire, one JSON object per line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: SubArgs) -> ExitCode {
    run(sub(args))
}

async fn sub(args: SubArgs) -> Result<(), Failed> {
    let mut signals = Signals::listen().map_err(|error| {
        eprintln!("clarion: signals cannot be caught: {error}");
        Failed
    })?;
    let SubArgs { connect: to, rooms, last, json } = args;
    let (client, mut events, session) = tokio::select! {
        connected = connect(to.builder()?) => connected?,
        _ = signals.next() => return Ok(()),
    };
    eprintln!("clarion: connected as {}", session.user);
    let (lines, printed) = print_lines();
    let (failed, mut refused) = mpsc::channel(1);
    for name in rooms {
        let (client, lines, failed) = (client.clone(), lines.clone(), failed.clone());
        tokio::spawn(async move {
            if follow(&client, name, last, json, lines).await.is_err() {
                // Another room may have failed before, and one is enough.
                let _ = failed.try_send(());
            }
        });
    }
    drop((lines, failed));
    tokio::pin!(printed);
    let result = tokio::select! {
        _ = signals.next() => Ok(()),
        // Whoever read has gone, as `head` does when it has enough.
        _ = &mut printed => Ok(()),
        Some(()) = refused.recv() => Err(Failed),
        reason = watch(&mut events) => {
            eprintln!("clarion: the server ended it: {reason}");
            Err(Failed)
        }
    };
    close(&client).await;
    drop(client);
    // The rooms' tasks end with the client, and with them the lines.
    let _ = tokio::time::timeout(FLUSH, printed).await;
    result
}

/// Joins one room and prints it until the client ends; an error if the room cannot be joined.
async fn follow(
    client: &Client,
    name: String,
    last: Option<u64>,
    json: bool,
    lines: mpsc::Sender<String>,
) -> Result<(), Failed> {
    let room = client.room(name);
    let mut events = room.events_with(EVENTS);
    let mut join = room.join();
    if let Some(last) = last {
        join = join.last(last);
    }
    if room.name().starts_with('$') {
        // The server brings who belongs there; nobody else can be.
        return tell(&room, &mut events, json, &lines).await;
    }
    // A name that cannot be joined never becomes a state. A timeout is none of that: the room is
    // joined as soon as that is possible.
    let refused = async {
        match join.await {
            Err(error) if error.name() == "bad_room" => error,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        told = tell(&room, &mut events, json, &lines) => told,
        error = refused => {
            eprintln!("clarion: {}: {error}", room.name());
            Err(Failed)
        }
    }
}

async fn tell(
    room: &Room,
    events: &mut Events<RoomEvent>,
    json: bool,
    lines: &mpsc::Sender<String>,
) -> Result<(), Failed> {
    let name = room.name();
    while let Some(event) = events.next().await {
        match event {
            Ok(RoomEvent::Publication(publication)) => {
                let line = if json { envelope(&publication) } else { plain(&publication) };
                if lines.send(line).await.is_err() {
                    return Ok(());
                }
            }
            Ok(RoomEvent::State(event)) => match event.status.state {
                RoomState::Joined => match room.position() {
                    Some(position) => eprintln!("clarion: {name}: joined at {}", position.offset),
                    None => eprintln!("clarion: {name}: joined, it keeps no log"),
                },
                RoomState::Left if event.status.reason == "closed" => return Ok(()),
                RoomState::Left => {
                    eprintln!("clarion: {name}: left: {}", event.status.reason);
                    return Err(Failed);
                }
                RoomState::Joining if event.status.code != 0 && !was_lost(event.previous) => {
                    eprintln!("clarion: {name}: {}, trying again", event.status.reason);
                }
                RoomState::Joining => {}
            },
            Ok(RoomEvent::Gap(gap)) => {
                let lost = match (gap.from, gap.to) {
                    (Some(from), Some(to)) => format!(": {from} to {to} are lost"),
                    _ => String::new(),
                };
                eprintln!("clarion: {name}: gap ({}){lost}", gap.reason);
            }
            Ok(RoomEvent::Recovered { from, to }) if to >= from => {
                eprintln!("clarion: {name}: recovered {from} to {to}");
            }
            Ok(RoomEvent::Recovered { .. }) => {
                eprintln!("clarion: {name}: recovered, nothing missed");
            }
            Err(Lagged(count)) => {
                eprintln!("clarion: {name}: {count} not printed, standard output is too slow");
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The client's status tells of a lost connection; once is enough.
fn was_lost(previous: RoomState) -> bool {
    previous == RoomState::Joined
}

/// Prints in a thread of its own: a terminal or a pipe may block. Ends when nobody sends any more,
/// or nobody reads.
fn print_lines() -> (mpsc::Sender<String>, oneshot::Receiver<()>) {
    let (sender, mut lines) = mpsc::channel::<String>(LINES);
    let (ended, printed) = oneshot::channel::<()>();
    tokio::task::spawn_blocking(move || {
        // Told by its drop.
        let _ended = ended;
        let mut out = io::BufWriter::new(io::stdout().lock());
        while let Some(line) = lines.blocking_recv() {
            if writeln!(out, "{line}").is_err() {
                return;
            }
            // What comes in a burst is written together.
            if lines.is_empty() && out.flush().is_err() {
                return;
            }
        }
    });
    (sender, printed)
}

/// `general 42 chat_message {"message":"Hello"}`
fn plain(publication: &Publication) -> String {
    let Publication { room, kind, position, payload, .. } = publication;
    let mut line = format!("{room} ");
    // Writing to a string does not fail.
    let _ = match position {
        Some(position) => write!(line, "{} ", position.offset),
        None => write!(line, "- "),
    };
    // A type may contain anything.
    if kind.chars().all(|c| !c.is_whitespace() && !c.is_control()) {
        line.push_str(kind);
    } else {
        line.push_str(&serde_json::to_string(kind).unwrap_or_default());
    }
    line.push(' ');
    line.push_str(payload.text());
    printable(&line)
}

#[derive(Serialize)]
struct Metadata<'a> {
    room: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a str>,
    time: String,
    #[serde(skip_serializing_if = "is_nobody")]
    from: &'a Sender,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's demand")]
fn is_nobody(from: &&Sender) -> bool {
    from.client.is_none() && from.user.is_none() && from.info.is_none()
}

fn envelope(publication: &Publication) -> String {
    let Publication { room, kind, position, payload, time_ms, from, key, .. } = publication;
    let mut time = Vec::new();
    clarion_protocol::time::write_rfc3339_ms(*time_ms, &mut time);
    let metadata = Metadata {
        room,
        offset: position.as_ref().map(|it| it.offset),
        epoch: position.as_ref().map(|it| it.epoch.as_str()),
        time: String::from_utf8(time).unwrap_or_default(),
        from,
        key: key.as_deref(),
    };
    let kind = serde_json::to_string(kind).unwrap_or_default();
    let metadata = serde_json::to_string(&metadata).unwrap_or_default();
    let payload = payload.text();
    printable(&format!(r#"{{"type":{kind},"payload":{payload},"metadata":{metadata}}}"#))
}

/// One line without control characters, which a terminal might obey. JSON has them as white space
/// between tokens, or (those above ASCII) in strings, where an escape means the same.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if c.is_control() => {
                let _ = write!(line, "\\u{:04x}", c as u32);
            }
            c => line.push(c),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use clarion_client::core::codec::{Incoming, decode};

    fn publication(text: &str) -> Publication {
        match decode(text) {
            Ok(Incoming::Publication(publication)) => *publication,
            _ => panic!("no publication: {text}"),
        }
    }

    #[test]
    fn publication_is_one_line() {
        let it = publication(
            "{\"type\":\"note\",\"payload\":{\n \"a\" : \"b\u{9b}c\"},\"metadata\":{\"room\":\"r\",\
             \"offset\":7,\"epoch\":\"e\",\"time\":\"2026-01-01T12:00:00.000Z\"}}",
        );
        assert_eq!(plain(&it), r#"r 7 note {  "a" : "b\u009bc"}"#);
        assert_eq!(
            envelope(&it),
            "{\"type\":\"note\",\"payload\":{  \"a\" : \"b\\u009bc\"},\"metadata\":{\"room\":\"r\",\
             \"offset\":7,\"epoch\":\"e\",\"time\":\"2026-01-01T12:00:00.000Z\"}}"
        );
    }

    #[test]
    fn type_with_spaces_is_quoted_and_no_log_is_a_dash() {
        let it = publication(r#"{"type":"a b\u001b[2J","payload":1,"metadata":{"room":"r"}}"#);
        assert_eq!(plain(&it), r#"r - "a b\u001b[2J" 1"#);
    }
}
