//! Who did what to whom: a line for each administrative action, in the log and, if there is one, in a
//! file of its own.
//!
//! The line is in the file before the action is answered. It has names and addresses, and no secret
//! and no payload. What a caller sent is in it as JSON strings of at most [`TEXT_MAX`] bytes, so that
//! it stays one line, whatever was sent, and without what a terminal would obey.

use crate::config;
use crate::worker::Clock;
use clarion_protocol::codec::json::object::{Object, string};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// What marks these lines, so that they are written at every `log.level`.
pub(crate) const TARGET: &str = "audit";
/// Bytes of what a caller sent, for each part of it.
const TEXT_MAX: usize = 128;

/// The audit log.
#[derive(Debug)]
pub(crate) struct Audit {
    clock: Clock,
    file: Option<Arc<Mutex<AuditFile>>>,
    failures: AtomicU64,
}

/// A file that grows to `bytes_max`, and the one before it, which has `.1` behind its name.
#[derive(Debug)]
struct AuditFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
    /// Its last line was cut short, by a full disk or a crash: the next begins with an end of line.
    torn: bool,
}

/// One action. What it does not have is left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Record {
    /// The name of the key it was done with; `None` for what the server did by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<SocketAddr>,
    /// The path without `/v1/`, or what became of a key.
    pub(crate) action: &'static str,
    /// To whom or what.
    #[serde(flatten)]
    pub(crate) subject: Subject,
    /// As HTTP answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    /// How many sessions or memberships it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) affected: Option<u64>,
}

/// What an action was about: rooms, users, and so on, by what each is.
pub(crate) type Subject = BTreeMap<&'static str, String>;

/// How many something was done to; an extension of the answer that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affected(pub(crate) u64);

/// The subject in the body of a request, which may be anything.
pub(crate) fn subject(body: &[u8]) -> Subject {
    const NAMES: [&str; 5] = ["room", "client", "user", "group", "jti"];
    let text = std::str::from_utf8(body).ok();
    let Some(object) = text.and_then(|text| Object::read(text, NAMES).ok()) else {
        return Subject::new();
    };
    let named = NAMES.into_iter().zip(object.members);
    let short = |text: &str| {
        let end = (0..=TEXT_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
        text[..end.unwrap_or_default()].chars().map(shown).collect::<String>()
    };
    named.filter_map(|(name, raw)| Some((name, short(&string(raw?)?)))).collect()
}

/// JSON escapes the controls of ASCII and no others, and a terminal that shows the line obeys some of
/// those. No name that is good has one.
fn shown(c: char) -> char {
    let is_visible = c.is_ascii() || c.escape_debug().len() == 1;
    if is_visible { c } else { char::REPLACEMENT_CHARACTER }
}

impl Audit {
    /// # Errors
    /// The file cannot be opened.
    pub(crate) fn open(settings: &config::Audit, clock: Clock) -> io::Result<Self> {
        let path = &settings.file;
        let file = (!path.as_os_str().is_empty())
            .then(|| AuditFile::open(path.clone(), settings.file_bytes as u64))
            .transpose()?;
        let file = file.map(|file| Arc::new(Mutex::new(file)));
        Ok(Self { clock, file, failures: AtomicU64::new(0) })
    }

    /// Writes a line. When it returns, the file has it.
    pub(crate) async fn record(&self, record: Record) {
        let about = |name: &str| record.subject.get(name).map(String::as_str);
        tracing::info!(
            target: TARGET,
            action = record.action,
            key = record.key,
            address = record.address.map(tracing::field::display),
            room = about("room"),
            client = about("client"),
            user = about("user"),
            group = about("group"),
            jti = about("jti"),
            name = about("name"),
            status = record.status,
            affected = record.affected,
            "audit"
        );
        let Some(file) = self.file.clone() else { return };
        let time = crate::api::rfc3339(self.clock.now().wall_ms);
        // A disk may take its time; the front's threads have more to do.
        let written = tokio::task::spawn_blocking(move || {
            file.lock().unwrap_or_else(PoisonError::into_inner).write(line(&time, &record))
        });
        let error = match written.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("the thread that writes it ended"),
        };
        self.failures.fetch_add(1, Relaxed);
        tracing::error!(%error, "a line of the audit file was lost");
    }

    /// Lines that could not be written to the file.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }
}

fn line(time: &str, record: &Record) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        time: &'a str,
        #[serde(flatten)]
        record: &'a Record,
    }
    let mut line = serde_json::to_vec(&Line { time, record }).expect("texts can be written");
    line.push(b'\n');
    line
}

impl AuditFile {
    fn open(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        let torn = is_torn(&path);
        Ok(Self { path, file, bytes, bytes_max, torn })
    }

    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            std::fs::rename(&self.path, aside)?;
            *self = Self::open(self.path.clone(), self.bytes_max)?;
        }
        if self.torn {
            line.insert(0, b'\n');
        }
        // In one call, so that a line is whole or not there, but for a full disk.
        let written = self.file.write_all(&line);
        self.torn = written.is_err() && is_torn(&self.path);
        written?;
        self.bytes += line.len() as u64;
        Ok(())
    }
}

/// Whether a file ends within a line, as far as can be seen.
fn is_torn(path: &Path) -> bool {
    let last = || {
        let metadata = std::fs::metadata(path)?;
        let mut last = *b"\n";
        // Whoever opens a pipe waits.
        if metadata.is_file() && metadata.len() > 0 {
            File::open(path)?.read_exact_at(&mut last, metadata.len() - 1)?;
        }
        io::Result::Ok(last)
    };
    last().is_ok_and(|last| last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::tests::directory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn whatever_is_sent_becomes_one_line_of_bounded_length() {
        let long = "ü".repeat(TEXT_MAX);
        let body = format!(
            r#"{{"room":"a\n{{\"time\":1}}\u001b[2J","user":"{long}","client":7,"secret":"s"}}"#
        );
        let subject = subject(body.as_bytes());
        assert_eq!(subject.keys().copied().collect::<Vec<_>>(), ["room", "user"]);
        assert_eq!(subject["user"].len(), TEXT_MAX);
        let odd =
            super::subject("{\"room\":\"\u{9b}2J\u{2028}\u{202e}é\u{85}\u{301}\"}".as_bytes());
        assert_eq!(odd["room"], "\u{fffd}2J\u{fffd}\u{fffd}é\u{fffd}\u{fffd}");
        let record = Record { action: "kick", subject, status: Some(200), ..Record::default() };
        let line = String::from_utf8(line("now", &record)).unwrap();
        assert!(line.ends_with('\n') && line.lines().count() == 1);
        assert!(!line.trim_end().contains(char::is_control));
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["room"], "a\n{\"time\":1}\u{1b}[2J");
        assert_eq!((&back["time"], &back["status"]), (&"now".into(), &200.into()));
        assert!(back.get("secret").is_none() && back.get("key").is_none());
        for body in [&b""[..], b"\xff", b"[]", b"{", br#"{"room":null}"#] {
            assert!(super::subject(body).is_empty());
        }
    }

    #[test]
    fn a_file_is_private_and_there_are_two_at_most() {
        let dir = directory("audit");
        let path = dir.join("audit.jsonl");
        let mut file = AuditFile::open(path.clone(), 10).unwrap();
        for line in ["1234\n", "5678\n", "9\n", "0\n", "a line longer than the bound\n", "b\n"] {
            file.write(line.into()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert_eq!(read("audit.jsonl.1"), "a line longer than the bound\n");
        assert_eq!(read("audit.jsonl"), "b\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A file that is there is continued.
        AuditFile::open(path.clone(), 10).unwrap().write(b"c\n".into()).unwrap();
        assert_eq!(read("audit.jsonl"), "b\nc\n");
        // Also behind a line that a crash cut short.
        std::fs::write(&path, "b\nc").unwrap();
        AuditFile::open(path, 10).unwrap().write(b"d\n".into()).unwrap();
        assert_eq!(read("audit.jsonl"), "b\nc\nd\n");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
