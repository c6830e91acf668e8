//! Where settings come from: defaults, one TOML file, `CLARION_SECTION__NAME`, flags; later wins.
//!
//! A name that is unknown is an error wherever it stands. The defaults serve as the schema: they
//! hold every name with a value of its type, so an environment variable, which is always text, is
//! read as what its setting is.

use super::{ConfigError, Settings};
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::{Table, Value};

const PREFIX: &str = "CLARION_";
/// Names the file itself, so it cannot be a setting.
const FILE_VARIABLE: &str = "CLARION_CONFIG";
/// Not a setting of the server: what `sub` and `pub` show it.
const TOKEN_VARIABLE: &str = "CLARION_TOKEN";

/// One setting given on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Flag {
    /// As it is typed: `--workers`.
    pub(crate) flag: &'static str,
    /// The setting it sets, by its full name.
    pub(crate) setting: &'static str,
    pub(crate) value: Value,
}

/// What to read settings from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) file: Option<PathBuf>,
    /// All variables of the process; those of others are passed over.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) flags: Vec<Flag>,
}

/// Reads all layers and checks the result.
///
/// # Errors
/// The first thing that cannot be, by the name of the setting.
pub(crate) fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let schema = Table::try_from(Settings::default()).expect("the defaults can be written");
    let mut layers = Layers { schema, values: Table::new(), origin: BTreeMap::new() };
    if let Some(path) = &sources.file {
        layers.read_file(path)?;
    }
    for (name, value) in &sources.env {
        layers.read_variable(name, value)?;
    }
    for flag in &sources.flags {
        let path: Vec<_> = flag.setting.split('.').map(str::to_owned).collect();
        layers.put(&path, flag.value.clone(), flag.flag);
    }
    layers.finish()
}

struct Layers {
    schema: Table,
    values: Table,
    /// Where each given setting came from.
    origin: BTreeMap<String, String>,
}

impl Layers {
    fn read_file(&mut self, path: &std::path::Path) -> Result<(), ConfigError> {
        let source = path.display().to_string();
        let whole = |message: String| ConfigError {
            setting: String::new(),
            source: source.clone(),
            message,
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| whole(format!("cannot be read: {error}")))?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            whole(format!("line {line}: {}", one_line(error.message())))
        })?;
        self.read_table(&mut Vec::new(), table, &source)
    }

    fn read_table(
        &mut self,
        path: &mut Vec<String>,
        table: Table,
        source: &str,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            path.push(name);
            match (self.expected(path), value) {
                (None, _) => return Err(unknown(path.join("."), source)),
                (Some(Value::Table(_)), Value::Table(inner)) => {
                    self.read_table(path, inner, source)?;
                }
                (Some(Value::Table(_)), _) => {
                    return Err(ConfigError {
                        setting: path.join("."),
                        source: source.into(),
                        message: format!("is a section: write [{}]", path.join(".")),
                    });
                }
                (Some(_), value) => self.put(path, value, source),
            }
            path.pop();
        }
        Ok(())
    }

    fn read_variable(&mut self, variable: &str, text: &str) -> Result<(), ConfigError> {
        let Some(name) = variable.strip_prefix(PREFIX) else { return Ok(()) };
        if [FILE_VARIABLE, TOKEN_VARIABLE].contains(&variable) || is_service_link(name) {
            return Ok(());
        }
        let path: Vec<String> = name.split("__").map(str::to_ascii_lowercase).collect();
        let fail = |message: String| ConfigError {
            setting: path.join("."),
            source: variable.into(),
            message,
        };
        let value = match self.expected(&path) {
            None => return Err(unknown(path.join("."), variable)),
            Some(Value::Table(_)) => return Err(fail("is a section, not a setting".into())),
            Some(Value::Array(_)) if path == ["rooms"] || path == ["auth", "keys"] => {
                return Err(fail("can only be set in the file".into()));
            }
            Some(Value::Array(_)) => Value::Array(
                text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Value::from).collect(),
            ),
            Some(Value::Integer(_)) => Value::Integer(
                text.parse().map_err(|_| fail(format!("`{text}` is not a whole number")))?,
            ),
            Some(Value::Boolean(_)) => match text {
                "true" | "1" => Value::Boolean(true),
                "false" | "0" => Value::Boolean(false),
                _ => return Err(fail(format!("`{text}` is neither true nor false"))),
            },
            Some(Value::String(_) | Value::Float(_) | Value::Datetime(_)) => Value::from(text),
        };
        self.put(&path, value, variable);
        Ok(())
    }

    /// The default value of a setting, or the section.
    fn expected(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.schema.get(first)?, |value, name| value.get(name))
    }

    fn put(&mut self, path: &[String], value: Value, source: &str) {
        let (last, sections) = path.split_last().expect("a setting has a name");
        let table = sections.iter().fold(&mut self.values, |table, section| {
            let inner = table.entry(section.clone()).or_insert_with(|| Table::new().into());
            inner.as_table_mut().expect("sections are tables in every layer")
        });
        table.insert(last.clone(), value);
        self.origin.insert(path.join("."), source.to_owned());
    }

    fn finish(self) -> Result<Settings, ConfigError> {
        let settings: Settings = serde_path_to_error::deserialize(Value::Table(self.values))
            .map_err(|error| {
                let path = error.path().to_string();
                let message = one_line(error.inner().message());
                named(&self.origin, path, message)
            })?;
        settings.check().map_err(|(name, rule)| named(&self.origin, name, rule))?;
        Ok(settings)
    }
}

/// An error in the setting `name`, which may be an item of the one that was given.
fn named(origin: &BTreeMap<String, String>, name: String, message: String) -> ConfigError {
    let given = name.split('[').next().unwrap_or(&name);
    let source = origin.get(given).cloned().unwrap_or_default();
    ConfigError { setting: name, source, message }
}

fn unknown(setting: String, source: &str) -> ConfigError {
    ConfigError { setting, source: source.into(), message: "there is no such setting".into() }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Kubernetes sets these in every pod of a namespace that has a service called `clarion`. They are
/// not meant for us, and refusing them would keep the server from starting there.
fn is_service_link(name: &str) -> bool {
    let rest = name.strip_prefix("PORT_").unwrap_or_default();
    name == "PORT"
        || name == "SERVICE_HOST"
        || name == "SERVICE_PORT"
        || name.starts_with("SERVICE_PORT_")
        || rest.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(file: &str, env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let mut layers = Layers {
            schema: Table::try_from(Settings::default()).unwrap(),
            values: Table::new(),
            origin: BTreeMap::new(),
        };
        layers.read_table(&mut Vec::new(), file.parse().unwrap(), "clarion.toml")?;
        for (name, value) in env {
            layers.read_variable(name, value)?;
        }
        layers.finish()
    }

    #[test]
    fn later_layers_win() {
        let file = "workers = 3\n[limits]\npublish_per_s = 7\n[heartbeat]\ninterval = '5s'";
        let env = [("CLARION_LIMITS__PUBLISH_PER_S", "0"), ("PATH", "/bin")];
        let settings = from(file, &env).unwrap();
        assert_eq!(settings.workers, 3);
        assert_eq!(settings.limits.publish_per_s, 0);
        assert_eq!(settings.heartbeat.interval.as_ms(), 5_000);
        assert_eq!(settings.limits.page, Settings::default().limits.page);
    }

    #[test]
    fn flags_win_over_everything() {
        let flags = vec![Flag { flag: "--workers", setting: "workers", value: Value::Integer(9) }];
        let env = vec![("CLARION_WORKERS".to_owned(), "5".to_owned())];
        assert_eq!(load(&Sources { file: None, env, flags }).unwrap().workers, 9);
    }

    #[test]
    fn lists_come_from_the_environment_with_commas() {
        let env = [("CLARION_ORIGINS__ALLOWED", "https://a.example, https://b.example")];
        let settings = from("", &env).unwrap();
        assert_eq!(settings.origins.allowed, ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn every_error_names_its_setting() {
        for (file, name) in [
            ("nonsense = 1", "nonsense"),
            ("[limits]\nnonsense = 1", "limits.nonsense"),
            ("limits = 1", "limits"),
            ("workers = 'two'", "workers"),
            ("workers = 0", "workers"),
            ("workers = 70000", "workers"),
            ("listen = []", "listen"),
            ("listen = ['here']", "listen[0]"),
            ("listen = ['0.0.0.0:80']", "listen"),
            ("[heartbeat]\ninterval = 25", "heartbeat.interval"),
            ("[heartbeat]\ninterval = '25 sec'", "heartbeat.interval"),
            ("[limits]\npublish_per_s = -1", "limits.publish_per_s"),
            ("[limits]\nmessage_bytes = 1", "limits.message_bytes"),
            ("[deflate]\nserver_window_bits = 8", "deflate.server_window_bits"),
            ("[deflate]\nclient_window_bits = 16", "deflate.client_window_bits"),
            ("[deflate]\nunshared = 'never'", "deflate.unshared"),
            ("[deflate]\nlevel = 0", "deflate.level"),
            ("[deflate]\nunicast_level = 10", "deflate.unicast_level"),
            ("[deflate]\nthreshold_bytes = -1", "deflate.threshold_bytes"),
            ("[limits]\nexempt = ['10.0.0.0/40']", "limits.exempt[0]"),
            ("[limits]\nconnections_per_ip = -1", "limits.connections_per_ip"),
            ("[limits]\nwal_bytes = 4096", "limits.wal_bytes"),
            ("[audit]\nfile_bytes = 1", "audit.file_bytes"),
            ("[bans]\nduration = '0s'", "bans.duration"),
            ("[proxies]\ntrusted = ['here']", "proxies.trusted[0]"),
            ("[proxies]\nprotocol = true", "proxies.protocol"),
            ("[proxies]\nheader = 'x-real-ip'", "proxies.header"),
            ("[log]\nlevel = 'loud'", "log.level"),
            ("[auth]\nguests = 'some'", "auth.guests"),
            ("listen = ['0.0.0.0:80']\n[auth]\nguests = 'always'", "auth.guests"),
            ("[auth]\nleeway = '11m'", "auth.leeway"),
            ("[auth]\njwks_url = 'http://id.example/'", "auth.jwks_url"),
            ("[auth]\njwks_cooldown = '0s'", "auth.jwks_cooldown"),
            ("[auth]\ncookie = 'a b'", "auth.cookie"),
            ("[auth]\ncookie = 't'\n[origins]\nallowed = ['*']", "auth.cookie"),
            ("[auth]\naudience = ['']", "auth.audience"),
            ("[[auth.keys]]\nalg = 'HS256'\nsecret = 'short'", "auth.keys[0]"),
            ("api_key = 'short'", "api_key"),
            ("[origins]\nallowed = ['example.com']", "origins.allowed[0]"),
            ("[[rooms]]\nmatch = 'a'\n[[rooms]]\nmatch = 'chat-*'", "rooms[1].match"),
            ("[[rooms]]\nmatch = 'a'\nlog = 'tape'", "rooms[0].log"),
            ("store = 'memory'\n[[rooms]]\nmatch = 'a'\nlog = 'durable'", "rooms[0].log"),
            ("[[rooms]]\nmatch = 'a'\nlog = 'none'\nsize = 5", "rooms[0].size"),
        ] {
            let error = from(file, &[]).expect_err(file);
            assert_eq!(error.setting, name, "{file}: {error}");
            assert_eq!(error.source, "clarion.toml", "{file}: {error}");
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn what_tls_lacks_is_named() {
        for (file, name) in [
            ("[tls]\ncert = 'a'", "tls.key"),
            ("[tls]\nkey = 'a'", "tls.cert"),
            ("[tls]\nlisten = ['0.0.0.0:443']", "tls.cert"),
            ("[tls]\ncert = 'a'\nkey = 'b'", "tls.listen"),
        ] {
            assert_eq!(from(file, &[]).expect_err(file).setting, name, "{file}");
        }
    }

    #[test]
    fn a_span_without_unit_is_told_how_to_write_it() {
        let error = from("[heartbeat]\ninterval = 25", &[]).unwrap_err();
        assert!(error.to_string().contains("such as \"25s\""), "{error}");
    }

    #[test]
    fn an_unknown_member_of_a_room_is_named() {
        let error = from("[[rooms]]\nmatch = 'a'\ncolour = 'red'", &[]).unwrap_err();
        assert!(error.to_string().contains("rooms[0]"), "{error}");
        assert!(error.to_string().contains("colour"), "{error}");
    }

    #[test]
    fn unknown_and_malformed_variables_are_named() {
        for (variable, value, setting) in [
            ("CLARION_LIMITS__NONSENSE", "1", "limits.nonsense"),
            ("CLARION_WORKER", "1", "worker"),
            ("CLARION_LIMITS", "1", "limits"),
            ("CLARION_WORKERS", "many", "workers"),
            ("CLARION_ECHO", "yes", "echo"),
            ("CLARION_ROOMS", "chat", "rooms"),
            ("CLARION_AUTH__KEYS", "secret", "auth.keys"),
            ("CLARION_HEARTBEAT__INTERVAL", "25", "heartbeat.interval"),
        ] {
            let error = from("", &[(variable, value)]).expect_err(variable);
            assert_eq!((error.setting.as_str(), error.source.as_str()), (setting, variable));
        }
    }

    #[test]
    fn variable_of_another_command_is_passed_over() {
        assert!(from("", &[("CLARION_TOKEN", "t.o.k")]).is_ok());
    }

    #[test]
    fn variables_that_kubernetes_makes_are_passed_over() {
        let links = ["CLARION_SERVICE_HOST", "CLARION_PORT", "CLARION_PORT_8080_TCP_ADDR"];
        assert!(from("", &links.map(|name| (name, "tcp://10.0.0.1:80"))).is_ok());
    }

    #[test]
    fn secrets_are_not_printed() {
        let settings = from("api_key = '0123456789abcdef'", &[]).unwrap();
        let shown = format!("{settings:?}{}", toml::to_string(&settings).unwrap());
        assert!(!shown.contains("0123456789abcdef"));
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let file = "[[rooms]]\nmatch = 'chat/**'\nsize = 5\nage = '2d'";
        let printed = toml::to_string(&from(file, &[]).unwrap()).unwrap();
        let again = from(&printed, &[]).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), printed);
    }

    #[test]
    fn what_is_changed_is_said_in_one_line_without_secrets() {
        let file = "api_key = '0123456789abcdef'\nworkers = 3\n[limits]\nrooms = 7\n\
            [[rooms]]\nmatch = 'chat/**'\nsize = 5";
        let changed = from(file, &[]).unwrap().changed();
        assert!(changed.contains("limits.rooms = 7") && changed.contains("chat/**"), "{changed}");
        assert!(!changed.contains("0123456789abcdef") && changed.lines().count() == 1, "{changed}");
        assert_eq!(Settings::default().changed(), "");
    }

    #[test]
    fn what_an_operator_should_know_is_said() {
        let warnings = |file: &str| from(file, &[]).unwrap().warnings().join(" ");
        assert_eq!(warnings(""), "");
        assert!(warnings("echo = true").contains("echo"));
        assert!(warnings("[origins]\nallowed = ['*']").contains("origins.allowed"));
        assert!(warnings("[bans]\nafter = 3").contains("limits.exempt"));
        assert_eq!(warnings("[limits]\nconnections_per_ip = 3\nexempt = []"), "");
        let public = "insecure = true\nlisten = ['0.0.0.0:80']";
        assert!(warnings(public).contains("insecure") && !warnings(public).contains("guests"));
        assert!(warnings(&format!("{public}\n[auth]\nguests = 'always'")).contains("auth.guests"));
    }
}
