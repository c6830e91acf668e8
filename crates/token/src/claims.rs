//! What a good token says.

use crate::refused::Refused;
use crate::verify::Verifier;
use clarion_protocol::codec::json::object::{Object, depth_within, entries, string};
use clarion_protocol::command::PAYLOAD_DEPTH_MAX;
use clarion_protocol::{Pattern, UserId};
use serde_json::value::RawValue;
use std::collections::BTreeSet;

/// The longest `info`, with `name` in it: bytes of JSON. Every member of a room is told it.
pub const INFO_SIZE_MAX: usize = 1_024;

/// The most patterns in `rooms`: each is looked at for every command.
pub const ROOMS_MAX: usize = 100;

/// The longest `jti`, bytes: what is revoked is kept in memory.
pub const JTI_SIZE_MAX: usize = 128;

/// How a token's user may not begin: guests' ids do.
const GUEST_PREFIX: &str = "guest:";

/// The last second that an instant of the protocol can name, the end of the year 9999. It also finds
/// the common mistake of writing milliseconds.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// What a token says. Claims that are not here are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// `sub`: whom the session speaks for; one segment of at most 96 bytes that is no guest's.
    pub user: Box<str>,
    /// `info` as JSON text, with `name` as its first member if it has none of that name.
    pub info: Option<Box<str>>,
    /// `groups`: each one segment of at most 96 bytes, none twice.
    pub groups: Vec<Box<str>>,
    /// `rooms`: what may be done where; `None` if the token does not say.
    pub rooms: Option<Vec<(Pattern, Vec<Action>)>>,
    /// `limits`.
    pub limits: Limits,
    /// When the token ends, Unix milliseconds: `exp` and the leeway.
    pub expires_at_ms: u64,
    /// `iat`, Unix milliseconds.
    pub issued_at_ms: Option<u64>,
    /// `jti`, at most [`JTI_SIZE_MAX`] bytes.
    pub jti: Option<Box<str>>,
}

/// What `rooms` can allow; the names are those of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `join`.
    Join,
    /// `publish`.
    Publish,
    /// `history`.
    History,
    /// `members`.
    Members,
    /// `state`.
    State,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Join, Self::Publish, Self::History, Self::Members, Self::State];

    /// Its name in `rooms`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Publish => "publish",
            Self::History => "history",
            Self::Members => "members",
            Self::State => "state",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }
}

/// `limits`: what a session may do at most, instead of the server's settings of the same names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Publications a second.
    pub publish_per_s: Option<u32>,
    /// Other messages a second.
    pub commands_per_s: Option<u32>,
    /// Rooms at a time.
    pub rooms: Option<u32>,
}

/// Reads the claims of a token whose signature is good.
pub(crate) fn read(text: &str, rules: &Verifier, now_ms: u64) -> Result<Claims, Refused> {
    let claims = Object::read(
        text,
        [
            "sub", "exp", "nbf", "iat", "aud", "iss", "name", "groups", "info", "rooms", "limits",
            "jti",
        ],
    )
    .map_err(|_| Refused::Malformed("the token's claims are not a JSON object"))?;
    if claims.duplicate().is_some() {
        return Err(Refused::Malformed("the token has a claim twice"));
    }
    let [sub, exp, nbf, iat, aud, iss, name, groups, info, rooms, limits, jti] = claims.members;

    let expires_at_ms = exp.and_then(date_ms).ok_or(claim(
        "the token needs `exp`: seconds since 1970, a number, before the year 10000",
    ))? + rules.leeway_ms;
    let soon_ms = now_ms.saturating_add(rules.leeway_ms);
    let not_before_ms = nbf
        .map(|raw| {
            date_ms(raw).ok_or(claim("the token's `nbf` is not a number of seconds since 1970"))
        })
        .transpose()?;
    let issued_at_ms = iat
        .map(|raw| {
            date_ms(raw).ok_or(claim("the token's `iat` is not a number of seconds since 1970"))
        })
        .transpose()?;
    if expires_at_ms <= now_ms {
        return Err(Refused::Expired);
    }
    if not_before_ms.is_some_and(|at_ms| at_ms > soon_ms) {
        return Err(Refused::NotYetValid);
    }
    // Else a token could outlive the revocation of all that were issued up to now.
    if issued_at_ms.is_some_and(|at_ms| at_ms > soon_ms) {
        return Err(claim("the token's `iat` is in the future"));
    }
    check_audience(aud, &rules.audience)?;
    if let Some(issuer) = &rules.issuer
        && iss.and_then(string).as_deref() != Some(&**issuer)
    {
        return Err(Refused::Issuer);
    }
    Ok(Claims {
        user: user(sub)?,
        info: merged_info(info, name)?,
        groups: groups.map(read_groups).transpose()?.unwrap_or_default(),
        rooms: rooms.map(read_rooms).transpose()?,
        limits: limits.map(read_limits).transpose()?.unwrap_or_default(),
        expires_at_ms,
        issued_at_ms,
        jti: jti.map(read_jti).transpose()?,
    })
}

fn claim(rule: &'static str) -> Refused {
    Refused::Claim(rule)
}

/// A NumericDate (RFC 7519 section 2): "the number of seconds from 1970-01-01T00:00:00Z UTC", of which
/// "non-integer values can be represented".
fn date_ms(raw: &str) -> Option<u64> {
    let seconds: f64 = serde_json::from_str(raw).ok()?;
    (0.0..=SECONDS_MAX).contains(&seconds).then_some((seconds * 1_000.0) as u64)
}

/// "If the principal processing the claim does not identify itself with a value in the "aud" claim
/// when this claim is present, then the JWT MUST be rejected." RFC 7519 section 4.1.3.
fn check_audience(raw: Option<&str>, ours: &[Box<str>]) -> Result<(), Refused> {
    let Some(raw) = raw else {
        if ours.is_empty() {
            return Ok(());
        }
        return Err(Refused::Audience(
            "the token names no audience (`aud`), and this server wants one",
        ));
    };
    let named = if raw.starts_with('[') { array(raw) } else { Some(vec![raw]) };
    let named: Option<Vec<_>> = named.and_then(|items| items.into_iter().map(string).collect());
    let named = named.ok_or(claim("the token's `aud` is not a string or an array of strings"))?;
    if ours.is_empty() {
        let rule = "the token is for an audience (`aud`), and none is set here: see auth.audience";
        return Err(Refused::Audience(rule));
    }
    if named.iter().any(|name| ours.iter().any(|our| **our == **name)) {
        return Ok(());
    }
    Err(Refused::Audience("the token is for another audience (`aud`)"))
}

fn user(raw: Option<&str>) -> Result<Box<str>, Refused> {
    let user = raw.and_then(string).filter(|user| UserId::validate_segment(user).is_ok());
    let user = user.ok_or(claim(
        "the token needs `sub`: the user's id, a string of 1 to 96 bytes of A-Z a-z 0-9 _ . : @ | + = ~ -",
    ))?;
    if user.starts_with(GUEST_PREFIX) {
        return Err(claim("the token's `sub` begins with `guest:`, as only a guest's id may"));
    }
    Ok(user.into())
}

/// `info`, and `name` in it. Both stay the text that they were.
fn merged_info(info: Option<&str>, name: Option<&str>) -> Result<Option<Box<str>>, Refused> {
    let wrong = claim("the token's `info` is not a JSON object without repeated members");
    if name.is_some_and(|name| string(name).is_none()) {
        return Err(claim("the token's `name` is not a string"));
    }
    let merged = match (info, name) {
        (None, None) => return Ok(None),
        (None, Some(name)) => format!("{{\"name\":{name}}}"),
        (Some(info), name) => {
            let object = Object::read(info, ["name"]).map_err(|_| wrong)?;
            if object.duplicate().is_some() || !depth_within(info, PAYLOAD_DEPTH_MAX) {
                return Err(wrong);
            }
            match (object.members, name) {
                ([None], Some(name)) => {
                    let rest = info[1..].trim_ascii_start();
                    let comma = if rest == "}" { "" } else { "," };
                    format!("{{\"name\":{name}{comma}{rest}")
                }
                _ => info.to_owned(),
            }
        }
    };
    if merged.len() > INFO_SIZE_MAX {
        return Err(claim("the token's `info`, with its `name`, is longer than 1024 bytes"));
    }
    Ok(Some(merged.into()))
}

fn read_groups(raw: &str) -> Result<Vec<Box<str>>, Refused> {
    let wrong = claim(
        "the token's `groups` is not an array of names of 1 to 96 bytes of A-Z a-z 0-9 _ . : @ | + = ~ -",
    );
    let items: Option<Vec<_>> =
        array(raw).and_then(|items| items.into_iter().map(string).collect());
    let mut known = BTreeSet::new();
    let mut groups = Vec::new();
    for group in items.ok_or(wrong)? {
        UserId::validate_segment(&group).map_err(|_| wrong)?;
        let group: Box<str> = group.into();
        if known.insert(group.clone()) {
            groups.push(group);
        }
    }
    Ok(groups)
}

fn read_rooms(raw: &str) -> Result<Vec<(Pattern, Vec<Action>)>, Refused> {
    let entries = entries(raw).map_err(|_| {
        claim("the token's `rooms` is not an object such as {\"chat/**\": [\"join\", \"publish\"]}")
    })?;
    if entries.len() > ROOMS_MAX {
        return Err(claim("the token's `rooms` has more than 100 patterns"));
    }
    let mut known = BTreeSet::new();
    let mut rooms = Vec::with_capacity(entries.len());
    for (pattern, actions) in entries {
        let parsed = Pattern::parse(&pattern)
            .map_err(|_| claim("a name in the token's `rooms` is no pattern of rooms"))?;
        if !known.insert(pattern) {
            return Err(claim("the token's `rooms` has a pattern twice"));
        }
        let actions = array(actions).and_then(|items| {
            items.into_iter().map(|item| Action::named(&string(item)?)).collect::<Option<Vec<_>>>()
        });
        let actions = actions.ok_or(claim(
            "a value in the token's `rooms` is not an array of: join, publish, history, members, state",
        ))?;
        rooms.push((parsed, actions));
    }
    Ok(rooms)
}

fn read_limits(raw: &str) -> Result<Limits, Refused> {
    let wrong = claim(
        "the token's `limits` is not an object of integers: publish_per_s, commands_per_s, rooms",
    );
    let limits =
        Object::read(raw, ["publish_per_s", "commands_per_s", "rooms"]).map_err(|_| wrong)?;
    if limits.duplicate().is_some() {
        return Err(wrong);
    }
    let number = |raw: Option<&str>| raw.map(|raw| raw.parse().map_err(|_| wrong)).transpose();
    let [publish_per_s, commands_per_s, rooms] = limits.members;
    Ok(Limits {
        publish_per_s: number(publish_per_s)?,
        commands_per_s: number(commands_per_s)?,
        rooms: number(rooms)?,
    })
}

fn read_jti(raw: &str) -> Result<Box<str>, Refused> {
    let jti = string(raw).filter(|jti| (1..=JTI_SIZE_MAX).contains(&jti.len()));
    jti.map(Into::into).ok_or(claim("the token's `jti` is not a string of 1 to 128 bytes"))
}

fn array(raw: &str) -> Option<Vec<&str>> {
    let items: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
    Some(items.into_iter().map(RawValue::get).collect())
}
