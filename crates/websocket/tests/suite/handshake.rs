//! The opening handshake: one requirement wrong at a time.

use clarion_websocket::handshake::{Opening, Refusal, Request, ResponseError, accept, accept_key};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const GET: Request<'_> = Request { method: "GET", target: "/chat", version: (1, 1) };

/// The request of RFC 6455 section 1.3.
const HEADERS: [(&str, &str); 8] = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Origin", "http://example.com"),
    ("Sec-WebSocket-Protocol", "chat, superchat"),
    ("Sec-WebSocket-Version", "13"),
    ("User-Agent", "example"),
];

type Headers = Vec<(&'static str, &'static str)>;

fn bytes<'a>(headers: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    headers.iter().map(|(name, value)| (*name, value.as_bytes()))
}

fn without(name: &str) -> Headers {
    HEADERS.into_iter().filter(|header| !header.0.eq_ignore_ascii_case(name)).collect()
}

fn with(name: &'static str, values: &[&'static str]) -> Headers {
    let mut headers = without(name);
    headers.extend(values.iter().map(|value| (name, *value)));
    headers
}

#[track_caller]
fn refused(headers: &[(&str, &str)], refusal: Refusal, status: u16) {
    assert_eq!(accept(&GET, bytes(headers)).unwrap_err(), refusal);
    assert_eq!(refusal.status(), status);
}

#[test]
fn the_request_of_the_rfc_is_accepted() {
    let accepted = accept(&GET, bytes(&HEADERS)).unwrap();
    assert_eq!(accepted.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(accepted.host, "server.example.com");
    assert_eq!(accepted.origin, Some("http://example.com"));
    assert_eq!(accepted.subprotocols, ["chat", "superchat"]);
    assert_eq!(accepted.extensions, []);
    let answer: Vec<_> = accepted.headers(Some("chat")).collect();
    assert_eq!(
        answer,
        [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "chat"),
        ]
    );
}

#[test]
fn only_get_over_http_1_1_or_later_opens() {
    for method in ["POST", "HEAD", "get", "CONNECT", ""] {
        let refusal = accept(&Request { method, ..GET }, bytes(&HEADERS)).unwrap_err();
        assert_eq!((refusal, refusal.status()), (Refusal::Method, 405));
        assert_eq!(refusal.headers(), [("allow", "GET")]);
    }
    for version in [(0, 9), (1, 0)] {
        let refusal = accept(&Request { version, ..GET }, bytes(&HEADERS)).unwrap_err();
        assert_eq!((refusal, refusal.status()), (Refusal::HttpVersion, 400));
    }
    assert!(accept(&Request { version: (1, 2), ..GET }, bytes(&HEADERS)).is_ok());
}

#[test]
fn the_target_is_a_path_or_an_absolute_uri() {
    for target in ["/", "/chat?x=1", "http://server.example.com/chat", "HTTPS://a/"] {
        assert!(accept(&Request { target, ..GET }, bytes(&HEADERS)).is_ok(), "{target}");
    }
    for target in ["", "*", "chat", "server.example.com:80", "ftp://a/"] {
        let refusal = accept(&Request { target, ..GET }, bytes(&HEADERS)).unwrap_err();
        assert_eq!((refusal, refusal.status()), (Refusal::Target, 400), "{target}");
    }
}

#[test]
fn host_comes_exactly_once() {
    refused(&without("Host"), Refusal::Host, 400);
    refused(&with("Host", &["a", "a"]), Refusal::Host, 400);
}

#[test]
fn upgrade_names_websocket_in_any_case() {
    for values in [&["WebSocket"][..], &["h2c, WEBSOCKET"], &["h2c", "websocket", "x"]] {
        assert!(accept(&GET, bytes(&with("Upgrade", values))).is_ok(), "{values:?}");
    }
    for values in [&[][..], &[""], &["h2c"], &["websockets"], &["web socket"]] {
        refused(&with("Upgrade", values), Refusal::Upgrade, 426);
    }
}

#[test]
fn connection_names_upgrade_in_any_case() {
    for values in [&["upgrade"][..], &["keep-alive, Upgrade"], &["keep-alive", "UPGRADE", "x"]] {
        assert!(accept(&GET, bytes(&with("Connection", values))).is_ok(), "{values:?}");
    }
    for values in [&[][..], &[""], &["close"], &["upgraded"]] {
        refused(&with("Connection", values), Refusal::Connection, 426);
    }
}

#[test]
fn the_version_is_13_and_comes_once() {
    for values in [&[][..], &["12"], &["8"], &["013"], &["13, 8"], &["13", "13"], &[""]] {
        refused(&with("Sec-WebSocket-Version", values), Refusal::Version, 426);
    }
    assert!(Refusal::Version.headers().contains(&("sec-websocket-version", "13")));
    // Who speaks another version learns of that first.
    let mut other = with("Sec-WebSocket-Version", &["8"]);
    other.retain(|(name, _)| *name != "Sec-WebSocket-Key");
    refused(&other, Refusal::Version, 426);
}

#[test]
fn the_key_is_16_bytes_in_base64_and_comes_once() {
    assert!(
        accept(&GET, bytes(&with("sec-websocket-key", &[" dGhlIHNhbXBsZSBub25jZQ== "]))).is_ok()
    );
    for values in [
        &[][..],
        &[""],
        &[KEY, KEY],
        &["dGhlIHNhbXBsZSBub25jZQ"],       // not padded
        &["dGhlIHNhbXBsZSBub25j"],         // 15 bytes
        &["dGhlIHNhbXBsZSBub25jZSE="],     // 17 bytes
        &["dGhlIHNhbXBsZSBub25jZSEh"],     // 18 bytes
        &["dGhlIHNhbXBsZSBub25jZQ==AAAA"], // more after the end
        &["dGhlIHNhbXBsZSBub2_jZQ=="],     // another alphabet
        &["ключ"],
    ] {
        refused(&with("sec-websocket-key", values), Refusal::Key, 400);
    }
}

#[test]
fn origin_comes_at_most_once() {
    assert_eq!(accept(&GET, bytes(&without("Origin"))).unwrap().origin, None);
    refused(&with("Origin", &["http://a", "http://b"]), Refusal::Origin, 400);
    let bad = HEADERS.iter().map(|(name, value)| {
        (*name, if *name == "Origin" { &[0xff][..] } else { value.as_bytes() })
    });
    assert_eq!(accept(&GET, bad), Err(Refusal::Origin));
}

#[test]
fn subprotocols_are_different_tokens() {
    let name = "Sec-WebSocket-Protocol";
    for (values, list) in [
        (&[][..], &[][..]),
        (&["a"], &["a"]),
        (&["a,B", " c ,, d"], &["a", "B", "c", "d"]),
        (&["a, A"], &["a", "A"]),
    ] {
        assert_eq!(accept(&GET, bytes(&with(name, values))).unwrap().subprotocols, list);
    }
    for values in
        [&["a, a"][..], &["a", "a"], &["a b"], &["a;b"], &["ä"], &["\"a\""], &[""], &[","]]
    {
        refused(&with(name, values), Refusal::Subprotocols, 400);
    }
}

#[test]
fn extensions_are_offered_in_their_grammar() {
    let name = "Sec-WebSocket-Extensions";
    let headers = with(name, &["permessage-deflate; client_max_window_bits", "x-other"]);
    let accepted = accept(&GET, bytes(&headers)).unwrap();
    let names: Vec<&str> = accepted.extensions.iter().map(|it| it.name).collect();
    assert_eq!(names, ["permessage-deflate", "x-other"]);
    assert_eq!(accepted.extensions[0].parameters, [("client_max_window_bits", None)]);
    refused(&with(name, &["permessage-deflate; ="]), Refusal::Extensions, 400);
    // "extension-list = 1#extension" (9.1), which one of several headers may leave to the others.
    refused(&with(name, &[""]), Refusal::Extensions, 400);
    refused(&with(name, &[" ,, ", ""]), Refusal::Extensions, 400);
    assert_eq!(accept(&GET, bytes(&with(name, &["", "x"]))).unwrap().extensions.len(), 1);
}

#[test]
fn every_refusal_names_its_header_in_one_sentence() {
    for (refusal, word) in [
        (Refusal::Method, "GET"),
        (Refusal::HttpVersion, "HTTP/1.1"),
        (Refusal::Target, "target"),
        (Refusal::Host, "Host"),
        (Refusal::Upgrade, "Upgrade"),
        (Refusal::Connection, "Connection"),
        (Refusal::Version, "Sec-WebSocket-Version"),
        (Refusal::Key, "Sec-WebSocket-Key"),
        (Refusal::Origin, "Origin"),
        (Refusal::Subprotocols, "Sec-WebSocket-Protocol"),
        (Refusal::Extensions, "Sec-WebSocket-Extensions"),
    ] {
        let reason = refusal.to_string();
        assert!(reason.contains(word) && reason.ends_with('.'), "{reason}");
    }
}

/// The answer of a server that accepts, with one header replaced.
fn answer(opening: &Opening, name: &str, values: &[&str]) -> Vec<(String, String)> {
    let key = opening.headers().find(|header| header.0 == "sec-websocket-key").unwrap().1;
    let headers = [
        ("upgrade", "WebSocket".to_owned()),
        ("connection", "upgrade".to_owned()),
        ("sec-websocket-accept", accept_key(key)),
    ];
    let kept = headers.into_iter().filter(|header| header.0 != name);
    let replaced = values.iter().map(|value| (name, (*value).to_owned()));
    kept.chain(replaced).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn verify(opening: &Opening, name: &str, values: &[&str]) -> Result<Option<String>, ResponseError> {
    let headers = answer(opening, name, values);
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    opening.verify(101, headers).map(|name| name.map(str::to_owned))
}

#[test]
fn a_client_and_a_server_agree() {
    let opening = Opening::new([9; 16], &["clarion.json", "clarion.binary"]);
    let headers = opening.headers().chain([("host", "localhost")]);
    let accepted = accept(&GET, headers.map(|(name, value)| (name, value.as_bytes()))).unwrap();
    assert_eq!(accepted.subprotocols, ["clarion.json", "clarion.binary"]);
    let answer = || accepted.headers(Some("clarion.binary")).map(|(n, v)| (n, v.as_bytes()));
    assert_eq!(opening.verify(101, answer()), Ok(Some("clarion.binary")));
    assert_eq!(opening.verify(503, answer()), Err(ResponseError::Status(503)));
    let other = Opening::new([8; 16], &["clarion.binary"]);
    assert_eq!(other.verify(101, answer()), Err(ResponseError::Accept));
}

#[test]
fn a_client_refuses_an_answer_that_is_not_for_it() {
    use ResponseError::{Accept, Connection, Extension, Subprotocol, Upgrade};
    let opening = Opening::new([9; 16], &["chat"]);
    let plain = Opening::new([9; 16], &[]);
    assert_eq!(verify(&opening, "x", &[]), Ok(None));
    assert_eq!(verify(&opening, "upgrade", &[]), Err(Upgrade));
    assert_eq!(verify(&opening, "upgrade", &["h2c"]), Err(Upgrade));
    assert_eq!(verify(&opening, "upgrade", &["websocket", "websocket"]), Err(Upgrade));
    assert_eq!(verify(&opening, "connection", &["close"]), Err(Connection));
    assert_eq!(verify(&opening, "sec-websocket-accept", &[]), Err(Accept));
    assert_eq!(verify(&opening, "sec-websocket-accept", &[KEY]), Err(Accept));
    assert_eq!(verify(&opening, "sec-websocket-extensions", &["x"]), Err(Extension));
    assert_eq!(verify(&opening, "sec-websocket-extensions", &[""]), Err(Extension));
    assert_eq!(verify(&opening, "sec-websocket-protocol", &["chat"]), Ok(Some("chat".into())));
    assert_eq!(verify(&opening, "sec-websocket-protocol", &["Chat"]), Err(Subprotocol));
    assert_eq!(verify(&opening, "sec-websocket-protocol", &["chat", "chat"]), Err(Subprotocol));
    assert_eq!(verify(&plain, "sec-websocket-protocol", &["chat"]), Err(Subprotocol));
    assert_eq!(verify(&plain, "sec-websocket-protocol", &[""]), Err(Subprotocol));
}

#[test]
#[should_panic(expected = "not a token")]
fn a_client_does_not_offer_what_is_not_a_token() {
    let _ = Opening::new([9; 16], &["chat\r\nx: y"]);
}

#[test]
#[should_panic(expected = "offered twice")]
fn a_client_does_not_offer_a_subprotocol_twice() {
    let _ = Opening::new([9; 16], &["chat", "chat"]);
}
