//! `clarion token`: tokens from a shell, for development and to look into one.

use super::fetch::fetch;
use super::{keys, verifier};
use crate::cli::PlaceArgs;
use crate::config::{self, Settings, Span};
use crate::worker::Clock;
use clap::{Args, Subcommand};
use clarion_token::{Key, TOKEN_SIZE_MAX, Verifier};
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Make tokens for development, and say what is in one.
///
/// Keys are those of the settings (--config, environment), else the one that the server made in its
/// data directory.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it.
    Create(CreateArgs),
    /// Verify a token as the server would, and print its claims, or say why it is refused.
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Use the secret in this file, not the keys of the settings.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// The algorithm of --secret-file.
    #[arg(long, value_name = "NAME", default_value = "HS256", requires = "secret_file")]
    alg: String,
    /// The key of this name.
    #[arg(long)]
    kid: Option<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Whom the token is for: `sub`.
    #[arg(long, value_name = "ID")]
    user: String,
    /// Name that others are shown.
    #[arg(long)]
    name: Option<String>,
    /// What else others are shown: a JSON object.
    #[arg(long, value_name = "JSON")]
    info: Option<String>,
    /// A group; can be given several times.
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// What may be done where, as in `chat/**=join,publish`; can be given several times. Without one
    /// the settings of the rooms decide.
    #[arg(long = "room", value_name = "PATTERN=ACTIONS", value_parser = room)]
    rooms: Vec<(String, Vec<String>)>,
    /// How long it is good.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    ttl: Span,
    /// What it can be revoked by.
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// The token; without one it is read from the standard input, which other users of this machine
    /// cannot see.
    token: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

/// Runs the command.
pub(crate) fn main(command: TokenCommand) -> ExitCode {
    let done = match command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::Inspect(args) => inspect(args),
    };
    match done {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("clarion: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(args: CreateArgs) -> Result<String, String> {
    let CreateArgs { user, name, info, groups, rooms, ttl, jti, key } = args;
    let verifier = key.verifier()?;
    let now_ms = Clock::start().now().wall_ms;
    let now_s = now_ms / 1_000;
    let mut claims = Map::new();
    let mut put = |name: &str, value: Value| drop(claims.insert(name.into(), value));
    put("sub", user.into());
    put("iat", now_s.into());
    put("exp", (now_s + ttl.as_ms() / 1_000).into());
    if let Some(audience) = verifier.audience.first() {
        put("aud", (**audience).into());
    }
    if let Some(issuer) = &verifier.issuer {
        put("iss", (**issuer).into());
    }
    if let Some(name) = name {
        put("name", name.into());
    }
    if let Some(info) = info {
        put("info", serde_json::from_str(&info).map_err(|_| "--info is not JSON")?);
    }
    if !groups.is_empty() {
        put("groups", groups.into());
    }
    if !rooms.is_empty() {
        let rooms = rooms.into_iter().map(|(pattern, actions)| (pattern, actions.into()));
        put("rooms", Value::Object(rooms.collect()));
    }
    if let Some(jti) = jti {
        put("jti", jti.into());
    }
    let claims = Value::Object(claims).to_string();
    let token = verifier.keys.iter().find_map(|key| key.sign(&claims)).ok_or(
        "none of the keys can sign: auth.keys has public keys only. Whoever has the private key makes the \
         tokens; for tests, add a secret to auth.keys",
    )?;
    // So that what is wrong with a claim is said here, not at the first connection.
    verifier.verify(&token, now_ms).map_err(|refused| refused.to_string())?;
    Ok(token)
}

fn inspect(args: InspectArgs) -> Result<String, String> {
    let InspectArgs { token, key } = args;
    let token = match token {
        Some(token) => token,
        None => {
            let mut text = String::new();
            let mut stdin = std::io::stdin().take(2 * TOKEN_SIZE_MAX as u64);
            stdin.read_to_string(&mut text).map_err(|error| format!("standard input: {error}"))?;
            text
        }
    };
    let now_ms = Clock::start().now().wall_ms;
    let claims =
        key.verifier_with_remote()?.verify(token.trim(), now_ms).map_err(|it| it.to_string())?;
    let info: Option<Value> = claims.info.and_then(|info| serde_json::from_str(&info).ok());
    let rooms = claims.rooms.map(|rooms| {
        let named = |(pattern, actions): (clarion_protocol::Pattern, Vec<_>)| {
            let actions: Vec<Value> = actions
                .iter()
                .map(|action: &clarion_token::claims::Action| action.name().into())
                .collect();
            (pattern.to_string(), Value::from(actions))
        };
        rooms.into_iter().map(named).collect::<Map<_, _>>()
    });
    let shown = json!({
        "user": claims.user,
        "info": info,
        "groups": claims.groups,
        "rooms": rooms,
        "expires_at": crate::api::rfc3339(claims.expires_at_ms),
        "expires_in_ms": claims.expires_at_ms - now_ms,
        "issued_at": claims.issued_at_ms.map(crate::api::rfc3339),
        "jti": claims.jti,
    });
    Ok(serde_json::to_string_pretty(&shown).expect("strings and numbers can be written"))
}

impl KeyArgs {
    /// What the server with these settings would verify with, but for keys from elsewhere.
    fn verifier(self) -> Result<Verifier, String> {
        self.read().map(|(_, verifier)| verifier)
    }

    /// The same with them.
    fn verifier_with_remote(self) -> Result<Verifier, String> {
        let (settings, mut verifier) = self.read()?;
        let auth = settings.auth;
        if let Ok(source) = auth.jwks_url.parse() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
            let fetched = runtime.block_on(fetch(&source, auth.jwks_timeout.0));
            let fetched = fetched.map_err(|error| format!("auth.jwks_url: {error}"))?;
            verifier.keys.extend(fetched.set.keys.into_iter().map(Arc::new));
        }
        Ok(verifier)
    }

    fn read(self) -> Result<(Settings, Verifier), String> {
        let settings: Settings =
            config::load(&self.place.into_sources()).map_err(|error| error.to_string())?;
        let mut keys = match &self.secret_file {
            Some(path) => {
                let secret = keys::file(path)?;
                let algorithm = keys::algorithm(&self.alg)?;
                let key = Key::secret(algorithm, self.kid.as_deref(), secret.trim().as_bytes());
                vec![Arc::new(key.map_err(|error| format!("{}: {error}", path.display()))?)]
            }
            None => keys::find(&settings.auth, &settings.data_dir)?,
        };
        if let Some(kid) = self.kid {
            keys.retain(|key| key.kid() == Some(&kid));
            if keys.is_empty() {
                return Err(format!("auth.keys has no key with kid = \"{kid}\""));
            }
        }
        let verifier = verifier(&settings.auth, keys);
        Ok((settings, verifier))
    }
}

fn room(text: &str) -> Result<(String, Vec<String>), String> {
    let (pattern, actions) =
        text.rsplit_once('=').ok_or("write the pattern, `=` and actions: chat/**=join,publish")?;
    let actions = actions.split(',').filter(|action| !action.is_empty());
    Ok((pattern.into(), actions.map(Into::into).collect()))
}
