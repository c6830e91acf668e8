//! What an operator can set: the settings, their defaults and what each is checked for.
//!
//! Where the values come from is in [`layers`]; what the engine gets of them in [`engine`].

mod auth;
mod engine;
mod layers;
mod secret;
mod span;
mod tls;

pub(crate) use auth::{Auth, AuthKey, Guests};
pub(crate) use layers::{Flag, Sources, load};
pub(crate) use secret::Secret;
pub(crate) use span::Span;
pub(crate) use tls::{Proxies, ProxyHeader, Tls};

use clarion_protocol::Pattern;
use clarion_protocol::command::TYPE_SIZE_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything that can be set. The names here are the names in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Where to listen for HTTP and WebSocket.
    pub(crate) listen: Vec<SocketAddr>,
    /// Allows to listen where other machines can reach us although nothing protects us there.
    pub(crate) insecure: bool,
    /// Where keys are kept, and later logs.
    pub(crate) data_dir: PathBuf,
    /// What keeps durable rooms, groups and revocations.
    pub(crate) store: Store,
    /// Threads that serve connections, 1 to 1,024. Default: one per core.
    pub(crate) workers: u16,
    /// Whether `/echo` is there, for conformance tools.
    pub(crate) echo: bool,
    /// What this process calls itself in `/stats`. Default: the host's name.
    pub(crate) node: String,
    /// A key for the HTTP API that may do everything, beside those of the data directory. Empty: the
    /// first start makes one.
    pub(crate) api_key: Secret,
    pub(crate) audit: Audit,
    pub(crate) tls: Tls,
    pub(crate) proxies: Proxies,
    pub(crate) auth: Auth,
    pub(crate) origins: Origins,
    pub(crate) limits: Limits,
    pub(crate) bans: Bans,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) session: Session,
    pub(crate) presence: Presence,
    pub(crate) deflate: Deflate,
    pub(crate) shutdown: Shutdown,
    pub(crate) log: Log,
    /// Settings by room; the first match wins.
    pub(crate) rooms: Vec<Room>,
}

/// What keeps durable rooms, groups that the API made, and revocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    /// A file in the data directory.
    Sqlite,
    /// Nothing: no room can be durable, and groups and revocations end with the process.
    Memory,
}

/// Pages of which other origins may connect.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Origins {
    /// `https://example.com`, `https://*.example.com` (any name below it), or `*`.
    pub(crate) allowed: Vec<String>,
}

/// Bounds; [`clarion_engine::config::Limits`] says what happens at each that is passed on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    pub(crate) message_bytes: usize,
    pub(crate) fragments: u32,
    pub(crate) delivery_bytes: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) slow_grace: Span,
    pub(crate) mailbox_bytes: usize,
    pub(crate) rooms: usize,
    pub(crate) commands: u32,
    pub(crate) publish_per_s: u32,
    pub(crate) commands_per_s: u32,
    pub(crate) bytes_per_s: u32,
    pub(crate) violations_per_min: u32,
    pub(crate) connections_per_user: usize,
    pub(crate) members: usize,
    pub(crate) graces: usize,
    pub(crate) page: u32,
    pub(crate) log_bytes: usize,
    /// The store's write-ahead log; over it, it is copied into the file.
    pub(crate) wal_bytes: usize,
    pub(crate) homes: usize,
    pub(crate) group_users: usize,
    pub(crate) revocations: usize,
    /// From the accepted socket to the `$welcome`; the front gives it to the HTTP headers, too.
    pub(crate) handshake: Span,
    pub(crate) close: Span,
    pub(crate) echo_message_bytes: usize,
    pub(crate) echo_fragments: u32,
    /// WebSocket connections of this process; over it the handshake is refused with 503.
    pub(crate) connections: usize,
    /// HTTP connections, those included that are still shaking hands; over it 503 at once.
    pub(crate) http_connections: usize,
    /// Memory of this process, bytes, as the kernel counts it (resident); over it handshakes are refused
    /// with 503. 0: no limit. Default: four fifths of the machine's, or of its control group's.
    pub(crate) memory_bytes: u64,
    /// Body of an HTTP request, bytes; over it 413.
    pub(crate) http_body_bytes: usize,
    /// WebSocket connections of one address (IPv6: of one /64); over it 429. 0: no limit.
    pub(crate) connections_per_ip: u32,
    /// WebSocket handshakes a second, with bursts of as many; over it 429. 0: no limit.
    pub(crate) handshakes_per_s: u32,
    /// The same of one address.
    pub(crate) handshakes_per_s_per_ip: u32,
    /// HTTP requests a second of one address that are neither handshakes nor probes, with bursts of
    /// as many; over it 429. 0: no limit.
    pub(crate) requests_per_s_per_ip: u32,
    /// HTTP requests a second with one API key, with bursts of as many; over it 429. 0: no limit.
    pub(crate) requests_per_s_per_key: u32,
    /// Networks to which nothing applies that is per address, nor bans: `10.0.0.0/8`.
    pub(crate) exempt: Vec<String>,
}

/// When an address is refused for a while.
///
/// A strike is a handshake that breaks RFC 6455, a wrong API key, a limit per address that was met,
/// and a connection that ended with 1002, 1003, 1007, 1008, 1009, 4004 or 4129.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bans {
    /// Strikes until a ban. 0: nobody is banned.
    pub(crate) after: u32,
    /// The time within which they have to come.
    pub(crate) within: Span,
    /// How long a ban lasts.
    pub(crate) duration: Span,
}

impl Bans {
    pub(crate) fn within_us(&self) -> u64 {
        self.within.as_ms() * 1_000
    }

    pub(crate) fn duration_us(&self) -> u64 {
        self.duration.as_ms() * 1_000
    }
}

/// When the server pings and when it gives up.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Heartbeat {
    pub(crate) interval: Span,
    pub(crate) timeout: Span,
}

/// How long a session outlives its connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Session {
    pub(crate) ttl: Span,
}

/// How presence is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Presence {
    pub(crate) interval: Span,
    pub(crate) detail_max: usize,
}

/// Compression of messages, for clients that offer `permessage-deflate` (RFC 7692).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Deflate {
    /// Whether to agree to it at all.
    pub(crate) enabled: bool,
    /// The largest window for the server's messages, 9 to 15 bits. Below 15 no member takes what is
    /// compressed once for a whole room.
    pub(crate) server_window_bits: u8,
    /// The largest window for the clients' messages, 9 to 15 bits.
    pub(crate) client_window_bits: u8,
    /// Whether the server's messages may refer to earlier ones: smaller, and 140 to 380 KB for each
    /// connection; nor does such a member take what is compressed once for a whole room.
    pub(crate) server_takeover: bool,
    /// Whether the clients' messages may: up to 32 KiB for each connection.
    pub(crate) client_takeover: bool,
    /// The shortest message that is compressed, bytes.
    pub(crate) threshold_bytes: usize,
    /// For what is compressed once for a whole room, and with takeover: from 1, the fastest, to 9,
    /// the smallest.
    pub(crate) level: u8,
    /// The same for what is compressed for one connection alone.
    pub(crate) unicast_level: u8,
    /// What of its rooms a member is sent that cannot take what is compressed once for all.
    pub(crate) unshared: Unshared,
}

/// What of its rooms a member is sent that agreed to compression, but to a smaller window for the
/// server or to context takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unshared {
    /// Everything as it is: bytes instead of time.
    Plain,
    /// Everything compressed for it alone: time instead of bytes.
    Own,
}

/// How the process ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Shutdown {
    /// From the signal to the end, whatever is still open.
    pub(crate) deadline: Span,
}

/// What is written to the standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// The least important level that is written.
    pub(crate) level: Level,
    pub(crate) format: Format,
}

/// What is written of administrative actions beside the lines of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    /// A JSON object a line is appended here. Empty: only the log has them.
    pub(crate) file: PathBuf,
    /// At this size, bytes, it is put aside with `.1` behind its name, where another may have been.
    pub(crate) file_bytes: usize,
}

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Something of ours does not work.
    Error,
    /// Something will soon not work.
    Warn,
    /// Connections come and go.
    Info,
    /// Peers' mistakes.
    Debug,
}

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// `human` on a terminal, else `json`.
    Auto,
    /// One line to read.
    Human,
    /// One JSON object a line.
    Json,
}

/// Settings of the rooms that a pattern matches.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Room {
    #[serde(rename = "match", deserialize_with = "pattern", serialize_with = "pattern_text")]
    pub(crate) pattern: Pattern,
    #[serde(default)]
    pub(crate) log: RoomLog,
    /// Publications kept. Default 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) size: Option<u32>,
    /// Age at which a publication goes. Default 30 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) age: Option<Span>,
    /// Bytes kept. Default 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<usize>,
    /// How long an idempotency key is remembered. Default 5 minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_window: Option<Span>,
    /// Whether members are told of each other. Default: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) presence: Option<bool>,
    /// Who may join the room and read it. Default: everyone. In `$` rooms it means nothing: those the
    /// server joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) join: Option<Who>,
    /// Who may publish to it beside the HTTP API. Default: everyone, and granted for `$` rooms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publish: Option<Who>,
    /// Who may read its log. Default: as `join`, as for the next two. In `$` rooms none of the three
    /// means anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Who>,
    /// Who may ask who is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) members: Option<Who>,
    /// Who may set a state of its own there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Who>,
    /// The largest payload, bytes. Default: `limits.delivery_bytes` alone holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload_bytes: Option<usize>,
    /// The types that may be published. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) types: Option<Vec<String>>,
}

/// Which clients may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Who {
    /// Whoever was let in, guests included.
    Everyone,
    /// Those with a token.
    Users,
    /// Those with a token that lists it.
    Granted,
    /// None; the HTTP API may all the same.
    Nobody,
}

/// What a room's log is kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RoomLog {
    /// A store that survives the process.
    Durable,
    /// Memory.
    #[default]
    Memory,
    /// Nothing: publications have no offset.
    None,
}

fn pattern<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
    let text = String::deserialize(deserializer)?;
    Pattern::parse(&text).map_err(serde::de::Error::custom)
}

fn pattern_text<S: serde::Serializer>(pattern: &Pattern, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(pattern.as_str())
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            insecure: false,
            data_dir: "data".into(),
            store: Store::Sqlite,
            workers: u16::try_from(cores).unwrap_or(u16::MAX).clamp(1, WORKERS_MAX),
            echo: false,
            node: String::new(),
            api_key: Secret::default(),
            audit: Audit::default(),
            tls: Tls::default(),
            proxies: Proxies::default(),
            auth: Auth::default(),
            origins: Origins::default(),
            limits: Limits::default(),
            bans: Bans::default(),
            heartbeat: Heartbeat::default(),
            session: Session::default(),
            presence: Presence::default(),
            deflate: Deflate::default(),
            shutdown: Shutdown::default(),
            log: Log::default(),
            rooms: Vec::new(),
        }
    }
}

impl Default for Bans {
    fn default() -> Self {
        Self { after: 0, within: Span::from_ms(60_000), duration: Span::from_ms(600_000) }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { deadline: Span::from_ms(10_000) }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { file: PathBuf::new(), file_bytes: 64 << 20 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: Level::Info, format: Format::Auto }
    }
}

const WORKERS_MAX: u16 = 1_024;

/// A value that cannot be, and where it came from. Shown on one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError {
    /// Its full name, as in `limits.publish_per_s`; empty if a file as a whole is at fault.
    pub(crate) setting: String,
    /// The file, the variable or the flag; empty for a default.
    pub(crate) source: String,
    /// The rule it breaks.
    pub(crate) message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, source, message } = self;
        match (setting.is_empty(), source.is_empty()) {
            (true, _) => write!(f, "{source}: {message}"),
            (false, true) => write!(f, "{setting}: {message}"),
            (false, false) => write!(f, "{setting}: {message} (from {source})"),
        }
    }
}

impl Settings {
    /// Every setting that is not its default, as one line of a configuration file; no secret.
    pub(crate) fn changed(&self) -> String {
        let table = |settings: &Self| toml::Table::try_from(settings).expect("they can be written");
        let mut found = Vec::new();
        differences("", &table(self), &table(&Self::default()), &mut found);
        found.join(", ")
    }

    /// What an operator should know who runs with these.
    pub(crate) fn warnings(&self) -> Vec<&'static str> {
        let public = self.listen.iter().any(|addr| !addr.ip().is_loopback());
        let limits = &self.limits;
        let per_ip = limits.connections_per_ip > 0
            || limits.handshakes_per_s_per_ip > 0
            || limits.requests_per_s_per_ip > 0
            || self.bans.after > 0;
        let loopback_is_exempt = limits.exempt.iter().any(|network| network == "127.0.0.0/8");
        [
            (public, "`insecure`: other machines can reach the server without TLS"),
            (
                public && self.auth.guests() == Guests::Always,
                "`auth.guests`: everybody who reaches the server is let in, and needs no token",
            ),
            (self.echo, "`echo`: /echo sends back whatever anybody sends; it is for tests"),
            (
                self.origins.allowed.iter().any(|origin| origin == "*"),
                "`origins.allowed`: pages of every origin may connect",
            ),
            (
                per_ip && !public && loopback_is_exempt,
                "limits per address and bans apply to nobody: all come from loopback, which is in \
                 `limits.exempt`",
            ),
        ]
        .into_iter()
        .filter_map(|(is, text)| is.then_some(text))
        .collect()
    }

    /// Whether any room is durable, so that the server is of little use while its store fails.
    pub(crate) fn has_durable_rooms(&self) -> bool {
        self.rooms.iter().any(|room| room.log == RoomLog::Durable)
    }

    /// The first setting that cannot be, by name, with the rule it breaks.
    fn check(&self) -> Result<(), (String, String)> {
        let fail = |name: &str, rule: &str| Err((name.to_owned(), rule.to_owned()));
        if self.listen.is_empty() && self.tls.listen.is_empty() {
            return fail("listen", "at least one address is needed, here or in tls.listen");
        }
        let public = self.listen.iter().find(|addr| !addr.ip().is_loopback());
        if let Some(public) = public
            && self.auth.guests() == Guests::Always
            && !self.insecure
        {
            let rule = format!(
                "`always` lets in everybody who can reach {public}: leave it out and give users tokens \
                 (docs/tokens.md), or set `insecure = true` (--insecure)"
            );
            return Err(("auth.guests".into(), rule));
        }
        if let Some(public) = public
            && !self.insecure
        {
            let rule = format!(
                "{public} can be reached from other machines without TLS: move it to tls.listen \
                 with tls.cert and tls.key, listen on 127.0.0.1 behind a proxy, or set \
                 `insecure = true` (--insecure)"
            );
            return Err(("listen".into(), rule));
        }
        self.tls.check()?;
        self.proxies.check()?;
        if !(1..=WORKERS_MAX).contains(&self.workers) {
            return fail("workers", "must be 1 to 1024");
        }
        if !self.api_key.is_empty() && self.api_key.expose().len() < 16 {
            return fail("api_key", "must have at least 16 characters");
        }
        if !self.api_key.expose().bytes().all(|b| b.is_ascii_graphic()) {
            return fail("api_key", "must be visible ASCII without spaces");
        }
        if self.data_dir.as_os_str().is_empty() {
            return fail("data_dir", "must name a directory");
        }
        self.auth.check()?;
        if !self.auth.cookie.is_empty() && self.origins.allowed.iter().any(|origin| origin == "*") {
            let rule =
                "browsers send it for every page, and `origins.allowed` has `*`: name the origins";
            return fail("auth.cookie", rule);
        }
        for (index, text) in self.origins.allowed.iter().enumerate() {
            if let Err(rule) = crate::front::origin::Allowed::parse(text) {
                return Err((format!("origins.allowed[{index}]"), rule));
            }
        }
        let limits = &self.limits;
        for (name, value, min) in [
            ("limits.message_bytes", limits.message_bytes, 125),
            ("limits.delivery_bytes", limits.delivery_bytes, 1_024),
            ("limits.outbox_bytes", limits.outbox_bytes, 4_096),
            ("limits.mailbox_bytes", limits.mailbox_bytes, 65_536),
            ("limits.fragments", limits.fragments as usize, 1),
            ("limits.rooms", limits.rooms, 1),
            ("limits.commands", limits.commands as usize, 1),
            ("limits.members", limits.members, 1),
            ("limits.page", limits.page as usize, 1),
            ("limits.log_bytes", limits.log_bytes, 1 << 20),
            ("limits.wal_bytes", limits.wal_bytes, 1 << 16),
            ("limits.homes", limits.homes, 1),
            ("limits.echo_message_bytes", limits.echo_message_bytes, 125),
            ("limits.echo_fragments", limits.echo_fragments as usize, 1),
            ("limits.connections", limits.connections, 1),
            ("limits.http_connections", limits.http_connections, 1),
            ("limits.http_body_bytes", limits.http_body_bytes, 1_024),
            ("audit.file_bytes", self.audit.file_bytes, 4_096),
        ] {
            if value < min {
                return Err((name.into(), format!("must be at least {min}")));
            }
        }
        for (index, text) in limits.exempt.iter().enumerate() {
            if let Err(rule) = text.parse::<crate::front::Network>() {
                return Err((format!("limits.exempt[{index}]"), rule));
            }
        }
        let (ms, s) = (Span::from_ms(1), Span::from_ms(1_000));
        for (name, value, min) in [
            ("limits.handshake", limits.handshake, Span::from_ms(100)),
            ("limits.close", limits.close, ms),
            ("limits.slow_grace", limits.slow_grace, ms),
            ("heartbeat.interval", self.heartbeat.interval, ms),
            ("heartbeat.timeout", self.heartbeat.timeout, ms),
            ("session.ttl", self.session.ttl, s),
            ("bans.within", self.bans.within, s),
            ("bans.duration", self.bans.duration, s),
        ] {
            if value < min {
                return Err((name.into(), format!("must be at least {min}")));
            }
        }
        let deflate = &self.deflate;
        for (name, value, range) in [
            ("deflate.server_window_bits", deflate.server_window_bits, 9..=15),
            ("deflate.client_window_bits", deflate.client_window_bits, 9..=15),
            ("deflate.level", deflate.level, 1..=9),
            ("deflate.unicast_level", deflate.unicast_level, 1..=9),
        ] {
            if !range.contains(&value) {
                let (first, last) = range.into_inner();
                return Err((name.into(), format!("must be {first} to {last}")));
            }
        }
        for (index, room) in self.rooms.iter().enumerate() {
            if room.log == RoomLog::Durable && self.store == Store::Memory {
                let rule = "`durable` needs a store that survives the process: store = \"sqlite\"";
                return Err((format!("rooms[{index}].log"), rule.into()));
            }
            room.check().map_err(|(name, rule)| (format!("rooms[{index}].{name}"), rule))?;
        }
        Ok(())
    }
}

/// The settings of `table` that are not those of `default`, by their full names.
fn differences(prefix: &str, table: &toml::Table, default: &toml::Table, found: &mut Vec<String>) {
    for (name, value) in table {
        let name_in_full = format!("{prefix}{name}");
        match (value, default.get(name)) {
            (toml::Value::Table(inner), Some(toml::Value::Table(default))) => {
                differences(&format!("{name_in_full}."), inner, default, found);
            }
            (value, default) if default != Some(value) => {
                found.push(format!("{name_in_full} = {value}"));
            }
            _ => {}
        }
    }
}

/// Most types that one rule of rooms names: each is compared with every publication's.
const TYPES_MAX: usize = 100;

impl Room {
    fn check(&self) -> Result<(), (&'static str, String)> {
        if self.log == RoomLog::None {
            let given = [
                ("size", self.size.is_some()),
                ("age", self.age.is_some()),
                ("bytes", self.bytes.is_some()),
                ("key_window", self.key_window.is_some()),
            ];
            if let Some((name, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err((name, "has no meaning with log = \"none\"".into()));
            }
        }
        let reading = [
            ("join", self.join),
            ("history", self.history),
            ("members", self.members),
            ("state", self.state),
        ];
        if self.pattern.as_str().starts_with('$')
            && let Some((name, _)) = reading.into_iter().find(|(_, who)| who.is_some())
        {
            return Err((name, "has no meaning for `$` rooms: the server joins them".into()));
        }
        if self.payload_bytes == Some(0) {
            return Err(("payload_bytes", "must be at least 1".into()));
        }
        if let Some(types) = &self.types {
            if types.len() > TYPES_MAX {
                return Err(("types", format!("there are at most {TYPES_MAX}")));
            }
            let fits =
                |kind: &String| (1..=TYPE_SIZE_MAX).contains(&kind.len()) && !kind.starts_with('$');
            if !types.iter().all(fits) {
                let rule = "a type has 1 to 64 bytes and does not begin with `$`";
                return Err(("types", rule.into()));
            }
        }
        if self.size == Some(0) {
            return Err(("size", "must be at least 1; for no log write log = \"none\"".into()));
        }
        Ok(())
    }
}
