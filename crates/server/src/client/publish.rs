//! `clarion pub`: publishes once, or a line of standard input at a time.

use super::{Connect, Failed, close, connect, run, watch};
use crate::serve::Signals;
use clap::Args;
use clarion_client::{Ack, Call, Json, OutboxLimits, PublishError, Room};
use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::process::ExitCode;
use tokio::sync::mpsc;

/// Most publications on their way at a time.
const WINDOW: usize = 64;
/// Longest line of standard input, in bytes: more than any server takes as one message.
const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Publish to a room, and wait until the server has it.
///
/// With `-` each line of standard input is published, in order; empty lines are passed over. Exits
/// with 0 only if the server has acknowledged all. A connection that is lost on the way comes back,
/// and what has no answer yet is sent again, which the server counts once.
#[derive(Debug, Args)]
pub(crate) struct PubArgs {
    #[command(flatten)]
    connect: Connect,
    /// Room to publish to.
    room: String,
    /// Type of the publication.
    #[arg(value_name = "TYPE")]
    kind: String,
    /// Payload as JSON, or `-` for the lines of standard input [default: null].
    payload: Option<String>,
    /// Take payloads as text, not as JSON.
    #[arg(long)]
    text: bool,
    /// Idempotency key: publications of one user with the same key are one. A guest is another user
    /// each time.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Deliver to who is there now, and keep it nowhere.
    #[arg(long, conflicts_with = "key")]
    ephemeral: bool,
}

pub(crate) fn main(args: PubArgs) -> ExitCode {
    run(publish(args))
}

async fn publish(args: PubArgs) -> Result<(), Failed> {
    let mut signals = Signals::listen().map_err(|error| {
        eprintln!("clarion: signals cannot be caught: {error}");
        Failed
    })?;
    let PubArgs { connect: to, room, kind, payload, text, key, ephemeral } = args;
    let is_stream = payload.as_deref() == Some("-");
    if is_stream && key.is_some() {
        eprintln!("clarion: one --key for all lines would make them one publication");
        return Err(Failed);
    }
    let single = match payload.filter(|_| !is_stream) {
        None => None,
        Some(payload) => Some(json(payload, text).map_err(|why| {
            eprintln!("clarion: the payload {why}");
            Failed
        })?),
    };
    // What the window holds must also fit in the queue while a connection is away.
    let outbox =
        OutboxLimits { messages: 2 * WINDOW, bytes: WINDOW * 1024 * 1024, ..Default::default() };
    let builder = to.builder()?.outbox(outbox);
    let (client, mut events, _) = tokio::select! {
        connected = connect(builder) => connected?,
        _ = signals.next() => return Err(Failed),
    };
    let publisher = Publisher { room: client.room(room), kind, key, ephemeral };
    let work = async {
        if is_stream {
            publisher.lines(text).await
        } else {
            let call = publisher.send(&single.unwrap_or_default());
            call.await.map(drop).map_err(|error| complain(None, &error))
        }
    };
    let result = tokio::select! {
        result = work => result,
        _ = signals.next() => {
            eprintln!("clarion: interrupted; what was not acknowledged may or may not be published");
            Err(Failed)
        }
        reason = watch(&mut events) => {
            eprintln!("clarion: the server ended it: {reason}");
            Err(Failed)
        }
    };
    close(&client).await;
    result
}

struct Publisher {
    room: Room,
    kind: String,
    key: Option<String>,
    ephemeral: bool,
}

type Sent = Call<Result<Ack, PublishError>>;

impl Publisher {
    fn send(&self, payload: &Json) -> Sent {
        let mut publish = self.room.publish(&*self.kind, payload);
        if let Some(key) = &self.key {
            publish = publish.key(key);
        }
        if self.ephemeral {
            publish = publish.ephemeral();
        }
        publish.send()
    }

    /// Publishes the lines of standard input, so many at a time.
    async fn lines(&self, text: bool) -> Result<(), Failed> {
        let mut lines = read_lines();
        let mut sent: VecDeque<(u64, Sent)> = VecDeque::new();
        let mut failures = 0_u64;
        let mut total = 0_u64;
        loop {
            // The oldest answer first: memory is bounded by the window, and order is kept.
            let line = tokio::select! {
                line = lines.recv(), if sent.len() < WINDOW => line,
                true = answered(&mut sent, &mut failures) => continue,
            };
            let Some((number, line)) = line else { break };
            let payload = match line {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => json(line, text),
                Err(why) => Err(why),
            };
            total += 1;
            match payload {
                Ok(payload) => sent.push_back((number, self.send(&payload))),
                Err(why) => {
                    eprintln!("clarion: line {number} {why}");
                    failures += 1;
                }
            }
        }
        while answered(&mut sent, &mut failures).await {}
        eprintln!("clarion: {} of {total} acknowledged", total - failures);
        if failures == 0 { Ok(()) } else { Err(Failed) }
    }
}

/// Waits for the oldest answer; false if nothing is on its way.
///
/// Nothing is lost if the future is dropped: what is not answered stays where it is.
async fn answered(sent: &mut VecDeque<(u64, Sent)>, failures: &mut u64) -> bool {
    let Some((number, call)) = sent.front_mut() else { return false };
    if let Err(error) = call.await {
        complain(Some(*number), &error);
        *failures += 1;
    }
    sent.pop_front();
    true
}

fn complain(line: Option<u64>, error: &PublishError) -> Failed {
    let place = line.map(|number| format!("line {number}: ")).unwrap_or_default();
    eprintln!("clarion: {place}{error}");
    Failed
}

fn json(payload: String, text: bool) -> Result<Json, String> {
    if text {
        return Json::new(&payload).map_err(|error| error.to_string());
    }
    Json::from_text(payload)
        .map_err(|error| format!("is not JSON ({error}); --text publishes it as a string"))
}

type Line = (u64, Result<String, String>);

/// Reads standard input in a thread of its own, since a terminal or a pipe may block.
fn read_lines() -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(WINDOW);
    tokio::task::spawn_blocking(move || {
        let mut input = io::stdin().lock();
        for number in 1.. {
            let line = read_line(&mut input);
            let is_last = !matches!(line, Some(Ok(_)));
            if let Some(line) = line
                && sender.blocking_send((number, line)).is_err()
            {
                return;
            }
            if is_last {
                return;
            }
        }
    });
    lines
}

/// One line without its end; `None` after the last.
fn read_line(input: &mut impl BufRead) -> Option<Result<String, String>> {
    let mut line = Vec::new();
    match input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line) {
        Ok(0) => return None,
        Ok(_) if line.len() > LINE_BYTES_MAX => {
            return Some(Err(format!("is longer than {LINE_BYTES_MAX} bytes")));
        }
        Ok(_) => {}
        Err(error) => return Some(Err(format!("cannot be read: {error}"))),
    }
    let line = String::from_utf8(line).map_err(|_| "is not UTF-8".to_owned());
    Some(line.map(|line| line.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_bounded() {
        let mut input = &b"{\"a\": 1}\r\n\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input) {
            lines.push(line.unwrap());
        }
        assert_eq!(lines, ["{\"a\": 1}", "", "last"]);
        let long = vec![b'x'; LINE_BYTES_MAX + 2];
        assert!(read_line(&mut &long[..]).unwrap().is_err());
        assert!(read_line(&mut &b"\xff\n"[..]).unwrap().is_err());
    }

    #[test]
    fn payload_is_json_or_text() {
        assert_eq!(json("{\"a\": 1.0}".to_owned(), false).unwrap().text(), "{\"a\": 1.0}");
        assert!(json("hello".to_owned(), false).unwrap_err().contains("--text"));
        assert_eq!(json("hello".to_owned(), true).unwrap().text(), "\"hello\"");
    }
}
