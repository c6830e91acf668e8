//! Any request and any answer, judged by both sides; and offers and answers that really are made.

use std::collections::BTreeSet;

use clarion_websocket::Role;
use clarion_websocket::deflate::{self, Agreed, Config};
use clarion_websocket::handshake::{Accepted, Opening, Request, accept, accept_key};

use crate::input::Input;

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

/// Stands for the one value of `Sec-WebSocket-Accept` that is right, which no fuzzer would find.
const RIGHT_KEY: &[u8] = b"@";

const SUBPROTOCOLS: [&str; 2] = ["clarion.v1.json", "x"];

/// A request or an answer, as lines: `GET /chat 11` or `101`, then `name: value`.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let wanted = config(&mut input);
    let offers_deflate = input.flag();
    let mut lines = input.0.split(|byte| *byte == b'\n');
    let Ok(first) = str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let headers: Headers<'_> = lines.filter_map(header).collect();

    if let Ok(status) = first.parse() {
        answer(status, &headers, offers_deflate.then_some(wanted));
        return;
    }
    let mut words = first.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (method, target, version) = (word(), word(), word().as_bytes());
    let digit = |index: usize| version.get(index).map_or(0, |digit| digit.wrapping_sub(b'0'));
    let request = Request { method, target, version: (digit(0), digit(1)) };
    if let Ok(accepted) = accept(&request, headers.iter().copied()) {
        check_request(&request, &headers, &accepted);
        let answer = deflate::accept(&wanted, &accepted.extensions);
        check_choice(&wanted, &accepted, answer.as_ref());
    }
}

pub(crate) fn config(input: &mut Input<'_>) -> Config {
    let flags = input.byte();
    Config {
        server_takeover: flags & 1 == 1,
        client_takeover: flags & 2 == 2,
        server_window_bits: 8 + (flags >> 2 & 7),
        client_window_bits: 8 + (flags >> 5),
    }
}

/// What two ends that want the same settle on, over a whole opening handshake.
pub(crate) fn agree(config: Config) -> Agreed {
    negotiate(config, config).expect("each accepts what it would offer")
}

/// Lets a client and a server shake hands. Whatever they want, it may not fail.
pub(crate) fn negotiate(client: Config, server: Config) -> Option<Agreed> {
    let opening = Opening::new([3; 16], &SUBPROTOCOLS).with_deflate(client);
    let request = Request { method: "GET", target: "/", version: (1, 1) };
    let headers: Vec<_> = opening
        .headers()
        .map(|(name, value)| (name, value.as_bytes()))
        .chain([("host", &b"localhost"[..])])
        .collect();
    let accepted = accept(&request, headers.iter().copied()).expect("a client asks rightly");
    let answer = deflate::accept(&server, &accepted.extensions);
    check_choice(&server, &accepted, answer.as_ref());
    let extensions = answer.as_ref().map(|answer| ("sec-websocket-extensions", &*answer.header));
    let headers: Vec<_> = accepted
        .headers(Some(SUBPROTOCOLS[1]))
        .chain(extensions)
        .map(|(name, value)| (name, value.as_bytes()))
        .collect();
    let opened = opening.verify_all(101, headers).expect("a server answers rightly");
    assert_eq!(opened.subprotocol, Some(SUBPROTOCOLS[1]));
    assert_eq!(opened.deflate, answer.as_ref().map(|answer| answer.agreed));
    opened.deflate
}

fn header(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((str::from_utf8(&line[..colon]).ok()?, &line[colon + 1..]))
}

fn answer(status: u16, headers: &Headers<'_>, offered: Option<Config>) {
    let opening = Opening::new([3; 16], &SUBPROTOCOLS);
    let opening = match offered {
        Some(config) => opening.with_deflate(config),
        None => opening,
    };
    let (_, key) = opening.headers().find(|(name, _)| *name == "sec-websocket-key").expect("a key");
    let right_key = accept_key(key);
    let headers = headers.iter().map(|(name, value)| {
        (*name, if *value == RIGHT_KEY { right_key.as_bytes() } else { *value })
    });
    let Ok(opened) = opening.verify_all(status, headers.clone()) else { return };
    assert_eq!(status, 101);
    let values = |wanted: &'static str| {
        let headers = headers.clone();
        headers.filter_map(move |(name, value)| name.eq_ignore_ascii_case(wanted).then_some(value))
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
    let accepts: Vec<_> = values("sec-websocket-accept").map(text).collect();
    assert!(accepts == [&*right_key]);
    assert!(values("connection").any(|value| text(value).to_lowercase().contains("upgrade")));
    assert!(values("upgrade").all(|value| text(value).eq_ignore_ascii_case("websocket")));
    assert_eq!(opened.subprotocol.is_some(), values("sec-websocket-protocol").next().is_some());
    assert!(opened.subprotocol.is_none_or(|name| SUBPROTOCOLS.contains(&name)));
    let Some(agreed) = opened.deflate else { return };
    let wanted = offered.expect("nothing is agreed on that was not offered");
    assert!(wanted.server_takeover || !agreed.takeover(Role::Server));
    assert!(wanted.client_takeover || !agreed.takeover(Role::Client));
    assert!(agreed.window_bits(Role::Server) <= wanted.server_window_bits.clamp(9, 15));
    assert!(agreed.window_bits(Role::Client) <= wanted.client_window_bits.clamp(9, 15));
}

/// Section 4.2.1, once more and without looking at how it is done.
fn check_request(request: &Request<'_>, headers: &Headers<'_>, accepted: &Accepted<'_>) {
    assert_eq!(request.method, "GET");
    assert!(request.version >= (1, 1));
    let values = |wanted: &str| -> Vec<String> {
        let wanted = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        wanted.map(|(_, value)| String::from_utf8_lossy(value).trim().to_lowercase()).collect()
    };
    assert_eq!(values("host").len(), 1);
    assert!(values("upgrade").iter().any(|value| value.contains("websocket")));
    assert!(values("connection").iter().any(|value| value.contains("upgrade")));
    assert_eq!(values("sec-websocket-version"), ["13"]);
    let keys = values("sec-websocket-key");
    assert!(keys.len() == 1 && keys[0].len() == 24 && keys[0].ends_with("=="));
    assert!(values("origin").len() <= 1);
    assert_eq!(accepted.accept_key.len(), 28);
    let names: BTreeSet<_> = accepted.subprotocols.iter().collect();
    assert_eq!(names.len(), accepted.subprotocols.len(), "none is there twice");
    assert!(names.len() <= 32 && accepted.extensions.len() <= 32);
    let is_token = |text: &str| {
        let separators = "()<>@,;:\\\"/[]?={} \t";
        !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !separators.contains(c))
    };
    assert!(names.iter().all(|name| is_token(name)));
    for extension in &accepted.extensions {
        assert!(is_token(extension.name) && extension.parameters.len() <= 32);
        for (name, value) in &extension.parameters {
            assert!(is_token(name) && value.as_ref().is_none_or(|value| is_token(value)));
        }
    }
}

/// RFC 7692 section 7.1: some offer there is that this answers.
fn check_choice(config: &Config, accepted: &Accepted<'_>, answer: Option<&deflate::Answer>) {
    let Some(answer) = answer else { return };
    let (server, client) = (Role::Server, Role::Client);
    let agreed = answer.agreed;
    let (server_bits, client_bits) = (agreed.window_bits(server), agreed.window_bits(client));
    assert!(config.server_takeover || !agreed.takeover(server));
    assert!(config.client_takeover || !agreed.takeover(client));
    assert!((9..=config.server_window_bits.clamp(9, 15)).contains(&server_bits));
    assert!((8..=15).contains(&client_bits));
    let answered =
        |name: &str| answer.header.split("; ").any(|it| it.split('=').next() == Some(name));
    assert_eq!(answered("server_no_context_takeover"), !agreed.takeover(server));
    assert_eq!(answered("client_no_context_takeover"), !agreed.takeover(client));
    let fits = accepted.extensions.iter().any(|offer| {
        let of = |name: &str| offer.parameters.iter().find(|(it, _)| *it == name);
        let bits = |name: &str| {
            of(name).map(|(_, value)| value.as_ref().map_or(15, |value| value.parse().unwrap_or(0)))
        };
        let unknown = offer.parameters.iter().any(|(name, _)| {
            !name.ends_with("_no_context_takeover") && !name.ends_with("_max_window_bits")
        });
        let tells_server = bits("server_max_window_bits");
        let tells_client = bits("client_max_window_bits");
        offer.name == "permessage-deflate"
            && !unknown
            && (of("server_no_context_takeover").is_none() || !agreed.takeover(server))
            && (of("client_no_context_takeover").is_none() || !agreed.takeover(client))
            && tells_server.is_none_or(|most| server_bits <= most)
            && (tells_server.is_none() || answered("server_max_window_bits"))
            && (tells_client.is_some() || !answered("client_max_window_bits"))
            && client_bits <= tells_client.unwrap_or(15)
    });
    assert!(fits, "{} answers none of {:?}", answer.header, accepted.extensions);
}
