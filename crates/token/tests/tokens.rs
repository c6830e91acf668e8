//! Good tokens, also of a library that is not ours, and every way of being a bad one.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use clarion_token::claims::{Action, Limits};
use clarion_token::verify::CANDIDATES_MAX;
use clarion_token::{Algorithm, Claims, Key, KeyError, Refused, TOKEN_SIZE_MAX, Verifier, jwks};
use serde_json::{Value, json};
use std::sync::Arc;

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1_000;
const SECRET: &[u8] = b"a secret of thirty-two bytes, or more";

fn verifier(keys: impl IntoIterator<Item = Key>) -> Verifier {
    let keys = keys.into_iter().map(Arc::new).collect();
    Verifier { keys, leeway_ms: 30_000, ..Verifier::default() }
}

fn hs256(kid: Option<&str>) -> Key {
    Key::secret(Algorithm::Hs256, kid, SECRET).unwrap()
}

/// A token of any text as header and claims, signed as HS256 with `secret`.
fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn of(claims: &str) -> Result<Claims, Refused> {
    verifier([hs256(None)]).verify(&signed(r#"{"alg":"HS256"}"#, claims, SECRET), NOW_MS)
}

/// A good token's claims, with `more` in them: members of JSON.
fn with(more: &str) -> Result<Claims, Refused> {
    of(&format!(r#"{{"sub":"ada","exp":{}{more}}}"#, NOW_S + 60))
}

fn foreign() -> Value {
    serde_json::from_str(include_str!("foreign.json")).unwrap()
}

fn foreign_key(entry: &Value, kid: Option<&str>) -> Key {
    let algorithm = Algorithm::named(entry["alg"].as_str().unwrap()).unwrap();
    match entry["secret"].as_str() {
        Some(secret) => Key::secret(algorithm, kid, secret.as_bytes()).unwrap(),
        None => Key::public_pem(algorithm, kid, entry["pem"].as_str().unwrap()).unwrap(),
    }
}

// [3.token.algorithms] [3.token.sub] [3.token.rooms] [3.token.groups] [3.token.info]
#[test]
fn tokens_of_another_library_are_read_with_every_algorithm() {
    for entry in foreign()["keys"].as_array().unwrap() {
        let token = entry["token"].as_str().unwrap();
        let claims = verifier([foreign_key(entry, None)]).verify(token, NOW_MS).unwrap();
        assert_eq!(
            claims,
            Claims {
                user: "ada".into(),
                info: Some(r#"{"name":"Ada"}"#.into()),
                groups: vec!["staff".into()],
                rooms: Some(vec![(
                    clarion_protocol::Pattern::parse("chat/**").unwrap(),
                    vec![Action::Join, Action::Publish],
                )]),
                limits: Limits::default(),
                expires_at_ms: 2_000_000_030_000,
                issued_at_ms: Some(1_700_000_000_000),
                jti: None,
            },
            "{}",
            entry["alg"]
        );
    }
}

#[test]
fn any_change_of_a_token_is_refused() {
    for entry in foreign()["keys"].as_array().unwrap() {
        let verifier = verifier([foreign_key(entry, None)]);
        let token = entry["token"].as_str().unwrap();
        for index in 0..token.len() {
            // A bit that always makes another digit of base64.
            let mut changed = token.as_bytes().to_vec();
            changed[index] = if changed[index] == b'A' { b'Q' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verifier.verify(&changed, NOW_MS).is_err(), "{} {index}", entry["alg"]);
            assert!(verifier.verify(&token[..index], NOW_MS).is_err(), "{} {index}", entry["alg"]);
        }
    }
}

// [3.token.key]
#[test]
fn a_key_is_good_for_its_own_algorithm_only() {
    let all = foreign();
    let keys = all["keys"].as_array().unwrap();
    for of_key in keys {
        for of_token in keys {
            let text = of_token["token"].as_str().unwrap();
            let nameless = verifier([foreign_key(of_key, None)]).verify(text, NOW_MS);
            let named =
                verifier([foreign_key(of_key, of_token["alg"].as_str())]).verify(text, NOW_MS);
            if of_key == of_token {
                assert!(nameless.is_ok() && named.is_ok());
            } else {
                assert_eq!(nameless, Err(Refused::UnknownKey));
                assert!(matches!(named, Err(Refused::Algorithm(_))), "{named:?}");
            }
        }
    }
    // The public key, which everybody knows, taken for a secret.
    let rsa = keys.iter().find(|key| key["alg"] == "RS256").unwrap();
    let pem = rsa["pem"].as_str().unwrap();
    let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW_S + 60);
    for header in [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","kid":"RS256"}"#] {
        let forged = signed(header, &claims, pem.as_bytes());
        let outcome = verifier([foreign_key(rsa, Some("RS256"))]).verify(&forged, NOW_MS);
        assert!(matches!(outcome, Err(Refused::Algorithm(_))), "{outcome:?}");
    }
}

// [3.token.kid]
#[test]
fn the_kid_picks_the_key_and_without_one_all_of_the_algorithm_are_tried() {
    let other = |kid| Key::secret(Algorithm::Hs256, kid, &[7; 32]).unwrap();
    let claims = format!(r#"{{"sub":"ada","exp":{}}}"#, NOW_S + 60);
    let token = |kid: &str| signed(&format!(r#"{{"alg":"HS256"{kid}}}"#), &claims, SECRET);
    let (a, b, none) = (token(r#","kid":"a""#), token(r#","kid":"b""#), token(""));
    let named = verifier([hs256(Some("a")), other(Some("b"))]);
    assert!(named.verify(&a, NOW_MS).is_ok());
    assert_eq!(named.verify(&b, NOW_MS), Err(Refused::Signature));
    assert_eq!(named.verify(&token(r#","kid":"c""#), NOW_MS), Err(Refused::UnknownKey));
    assert!(named.verify(&none, NOW_MS).is_ok());
    // A key without a name is tried for every name, in its turn.
    let nameless = verifier([other(None), hs256(None)]);
    assert!(nameless.verify(&b, NOW_MS).is_ok());
    // And no more than so many.
    let many = |wrong| verifier((0..wrong).map(|_| other(None)).chain([hs256(None)]));
    assert!(many(CANDIDATES_MAX - 1).verify(&none, NOW_MS).is_ok());
    assert_eq!(many(CANDIDATES_MAX).verify(&none, NOW_MS), Err(Refused::Signature));
    // Without any key nothing can be good.
    assert_eq!(verifier([]).verify(&none, NOW_MS), Err(Refused::UnknownKey));
}

// [3.token.form] [3.token.strict] [3.token.key]
#[test]
fn what_is_no_signed_token_is_refused_before_any_signature() {
    let good = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ada","exp":1900000000}"#, SECRET);
    let verifier = verifier([hs256(None)]);
    assert!(verifier.verify(&good, NOW_MS).is_ok());
    let parts: Vec<_> = good.split('.').collect();
    let padded = URL_SAFE.encode(r#"{"alg":"HS256","x":12}"#);
    assert!(padded.ends_with('='));
    let standard = STANDARD.encode([0xfb_u8; 33]);
    assert!(standard.contains('+'));
    for (token, label) in [
        (String::new(), "malformed"),
        ("..".into(), "malformed"),
        ("a".into(), "malformed"),
        (parts[..2].join("."), "malformed"),
        (format!("{good}."), "malformed"),
        (format!("{good}.a.b"), "malformed"),
        (format!("{}..{}", parts[0], parts[2]), "signature"),
        (format!(".{}.{}", parts[1], parts[2]), "malformed"),
        (format!("{}.{}.", parts[0], parts[1]), "signature"),
        (format!("{} .{}.{}", parts[0], parts[1], parts[2]), "malformed"),
        (format!(" {good}"), "malformed"),
        (format!("{good}\n"), "malformed"),
        (format!("{padded}.{}.{}", parts[1], parts[2]), "malformed"),
        (format!("{}.{}.{standard}", parts[0], parts[1]), "malformed"),
        (format!("{}.{}.{}=", parts[0], parts[1], parts[2]), "malformed"),
        (format!("{}.{}.ä", parts[0], parts[1]), "malformed"),
        (good.replace(parts[0], &URL_SAFE_NO_PAD.encode([0xff, 0xfe])), "malformed"),
        ("x".repeat(TOKEN_SIZE_MAX + 1), "too_large"),
        (".".repeat(TOKEN_SIZE_MAX), "malformed"),
    ] {
        let refused = verifier.verify(&token, NOW_MS).unwrap_err();
        assert_eq!(refused.label(), label, "{token}: {refused}");
    }
    for (header, label) in [
        ("{}", "algorithm"),
        (r#"{"alg":"none"}"#, "algorithm"),
        (r#"{"alg":"None"}"#, "algorithm"),
        (r#"{"alg":"hs256"}"#, "algorithm"),
        (r#"{"alg":"HS1"}"#, "algorithm"),
        (r#"{"alg":"PS256"}"#, "algorithm"),
        (r#"{"alg":""}"#, "algorithm"),
        (r#"{"alg":null}"#, "algorithm"),
        (r#"{"alg":["HS256"]}"#, "algorithm"),
        (r#"{"alg":"RS256"}"#, "algorithm"),
        (r#"{"alg":"HS512"}"#, "algorithm"),
        (r#"{"alg":"HS256","crit":["exp"]}"#, "malformed"),
        (r#"{"alg":"HS256","crit":[]}"#, "malformed"),
        (r#"{"alg":"HS256","crit":null}"#, "malformed"),
        (r#"{"alg":"HS256","alg":"HS256"}"#, "malformed"),
        (r#"{"alg":"none","alg":"HS256"}"#, "malformed"),
        (r#"{"alg":"HS256","x":1,"x":1}"#, "malformed"),
        (r#"{"alg":"HS256","\u0061lg":"none"}"#, "malformed"),
        (r#"{"alg":"HS256","kid":7}"#, "malformed"),
        (r#"{"alg":"HS256","kid":null}"#, "malformed"),
        (r#"{"alg":"HS256","kid":"\ud800"}"#, "malformed"),
        (r#"{"alg":"HS256"}x"#, "malformed"),
        (r#"["alg","HS256"]"#, "malformed"),
        ("", "malformed"),
        ("\u{feff}{\"alg\":\"HS256\"}", "malformed"),
    ] {
        let token = signed(header, r#"{"sub":"ada","exp":1900000000}"#, SECRET);
        let refused = verifier.verify(&token, NOW_MS).unwrap_err();
        assert_eq!(refused.label(), label, "{header}: {refused}");
        let unsigned = format!("{}.", &token[..token.rfind('.').unwrap()]);
        assert!(verifier.verify(&unsigned, NOW_MS).is_err(), "{header}");
    }
    // What means nothing here, keys and addresses of keys above all.
    for header in [
        r#"{"typ":"JWT","alg":"HS256"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/"}"#,
        r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}"#,
    ] {
        let token = signed(header, r#"{"sub":"ada","exp":1900000000}"#, SECRET);
        assert!(verifier.verify(&token, NOW_MS).is_ok(), "{header}");
        let forged = signed(header, r#"{"sub":"ada","exp":1900000000}"#, &[0, 0, 0]);
        assert_eq!(verifier.verify(&forged, NOW_MS), Err(Refused::Signature), "{header}");
    }
}

#[test]
fn nothing_of_the_claims_is_read_before_the_signature_is_good() {
    let token = signed(r#"{"alg":"HS256"}"#, "this is not JSON", &[1; 32]);
    assert_eq!(verifier([hs256(None)]).verify(&token, NOW_MS), Err(Refused::Signature));
}

// [3.token.time]
#[test]
fn a_token_is_good_from_nbf_to_exp_with_the_leeway_at_both_ends() {
    let at = |claims: Value, now_ms| {
        let token = hs256(None).sign(&claims.to_string()).unwrap();
        verifier([hs256(None)]).verify(&token, now_ms)
    };
    let claims = || json!({"sub": "ada", "nbf": NOW_S, "exp": NOW_S + 60});
    assert_eq!(at(claims(), NOW_MS - 30_001), Err(Refused::NotYetValid));
    assert_eq!(at(claims(), NOW_MS - 30_000).unwrap().expires_at_ms, NOW_MS + 90_000);
    assert!(at(claims(), NOW_MS + 89_999).is_ok());
    assert_eq!(at(claims(), NOW_MS + 90_000), Err(Refused::Expired));
    let issued = || json!({"sub": "ada", "iat": NOW_S, "exp": NOW_S + 60});
    assert!(at(issued(), NOW_MS - 30_000).is_ok());
    assert!(matches!(at(issued(), NOW_MS - 30_001), Err(Refused::Claim(_))));
    // "non-integer values can be represented"
    let exact = json!({"sub": "ada", "exp": NOW_S as f64 + 0.25});
    assert_eq!(at(exact, NOW_MS).unwrap().expires_at_ms, NOW_MS + 30_250);
}

// [3.token.dates] [3.token.malformed]
#[test]
fn a_time_is_a_number_of_seconds() {
    let bad = [
        r#""1900000000""#,
        "null",
        "true",
        "-1",
        "-1900000000",
        "1e300",
        "1e400",
        "1800000060000",
        "253402300800",
        "99999999999999999999999999",
        "[1900000000]",
        "{}",
    ];
    for text in bad {
        let refused = of(&format!(r#"{{"sub":"ada","exp":{text}}}"#)).unwrap_err();
        assert!(matches!(refused, Refused::Claim(_)), "exp {text}: {refused:?}");
        for name in ["nbf", "iat"] {
            let refused = with(&format!(r#","{name}":{text}"#)).unwrap_err();
            assert!(refused.message().contains(name), "{name} {text}: {refused}");
        }
    }
    assert!(matches!(of(r#"{"sub":"ada"}"#), Err(Refused::Claim(_))), "without exp");
    for text in ["0", "1700000000", "0.5", "-0", "1e9"] {
        assert_eq!(
            of(&format!(r#"{{"sub":"ada","exp":{text}}}"#)),
            Err(Refused::Expired),
            "{text}"
        );
    }
    assert!(of(r#"{"sub":"ada","exp":253402300799}"#).is_ok());
    assert!(of(r#"{"sub":"ada","exp":1.9e9}"#).is_ok());
}

// [3.token.audience]
#[test]
fn the_audience_is_ours_or_there_is_none() {
    let token = |aud: Value| {
        let mut claims = json!({"sub": "ada", "exp": NOW_S + 60});
        if !aud.is_null() {
            claims["aud"] = aud;
        }
        hs256(None).sign(&claims.to_string()).unwrap()
    };
    let mut ours = verifier([hs256(None)]);
    ours.audience = vec!["chat".into(), "https://chat.example".into()];
    assert!(ours.verify(&token(json!("chat")), NOW_MS).is_ok());
    assert!(ours.verify(&token(json!(["x", "https://chat.example"])), NOW_MS).is_ok());
    for wrong in [json!("Chat"), json!("chat "), json!(["x"]), json!([]), Value::Null] {
        let outcome = ours.verify(&token(wrong.clone()), NOW_MS);
        assert!(matches!(outcome, Err(Refused::Audience(_))), "{wrong}: {outcome:?}");
    }
    for malformed in [json!(7), json!(["chat", 7]), json!({"chat": 1}), json!([["chat"]])] {
        let outcome = ours.verify(&token(malformed.clone()), NOW_MS);
        assert!(matches!(outcome, Err(Refused::Claim(_))), "{malformed}: {outcome:?}");
    }
    // Nobody here: then a token for somebody is not for us.
    let nobody = verifier([hs256(None)]);
    assert!(nobody.verify(&token(Value::Null), NOW_MS).is_ok());
    assert!(matches!(nobody.verify(&token(json!("chat")), NOW_MS), Err(Refused::Audience(_))));
}

// [3.token.issuer]
#[test]
fn the_issuer_is_the_one_that_is_set() {
    let mut ours = verifier([hs256(None)]);
    ours.issuer = Some("https://id.example/".into());
    for (iss, good) in [
        (r#","iss":"https://id.example/""#, true),
        (r#","iss":"https://id.example""#, false),
        (r#","iss":["https://id.example/"]"#, false),
        (r#","iss":7"#, false),
        ("", false),
    ] {
        let claims = format!(r#"{{"sub":"ada","exp":{}{iss}}}"#, NOW_S + 60);
        let outcome = ours.verify(&hs256(None).sign(&claims).unwrap(), NOW_MS);
        match good {
            true => assert!(outcome.is_ok(), "{iss}"),
            false => assert_eq!(outcome, Err(Refused::Issuer), "{iss}"),
        }
    }
    assert!(with(r#","iss":"whoever""#).is_ok());
}

// [3.token.malformed] [3.token.strict] [3.token.sub] [1.name.ids] [3.guest.id]
#[test]
fn a_malformed_claim_refuses_the_token_by_name() {
    let long = "x".repeat(97);
    for sub in [
        "",
        r#""""#,
        "7",
        "null",
        r#""a/b""#,
        r#""guest:ada""#,
        r#""a b""#,
        r#""\ud800""#,
        r#""ä""#,
        &format!("\"{long}\""),
    ] {
        let sub = if sub.is_empty() { String::new() } else { format!(r#""sub":{sub},"#) };
        let refused = of(&format!(r#"{{{sub}"exp":1900000000}}"#)).unwrap_err();
        assert!(refused.message().contains("`sub`"), "{sub}: {refused}");
    }
    let many_rooms: Vec<_> = (0..101).map(|n| format!(r#""r{n}":[]"#)).collect();
    let many_rooms = format!("{{{}}}", many_rooms.join(","));
    let (large, deep) =
        (format!(r#"{{"a":"{}"}}"#, "x".repeat(1020)), "[".repeat(101) + &"]".repeat(101));
    let deep = format!(r#"{{"a":{deep}}}"#);
    for (name, values) in [
        ("name", vec!["7", "null", r#"["Ada"]"#, r#""\udc00""#]),
        ("info", vec!["7", "null", "[]", r#""x""#, r#"{"a":1,"a":2}"#, &large, &deep]),
        (
            "groups",
            vec!["7", "null", r#""staff""#, "[7]", r#"["a/b"]"#, r#"[""]"#, "{}", r#"[["a"]]"#],
        ),
        (
            "rooms",
            vec![
                "7",
                "null",
                "[]",
                r#"["chat"]"#,
                r#"{"chat-*":["join"]}"#,
                r#"{"":["join"]}"#,
                r#"{"a":"join"}"#,
                r#"{"a":["Join"]}"#,
                r#"{"a":["admin"]}"#,
                r#"{"a":[1]}"#,
                r#"{"a":null}"#,
                r#"{"a":[],"a":["join"]}"#,
                r#"{"$x":["join"]}"#,
                r#"{"a//b":["join"]}"#,
                r#"{"..":["join"]}"#,
                &many_rooms,
            ],
        ),
        (
            "limits",
            vec![
                "7",
                "null",
                "[]",
                r#"{"rooms":-1}"#,
                r#"{"rooms":1.5}"#,
                r#"{"rooms":"7"}"#,
                r#"{"publish_per_s":4294967296}"#,
                r#"{"commands_per_s":null}"#,
                r#"{"rooms":1,"rooms":2}"#,
            ],
        ),
        ("jti", vec!["7", "null", r#""""#, &format!("\"{}\"", "x".repeat(129)).leak()[..]]),
    ] {
        for value in values {
            let refused = with(&format!(r#","{name}":{value}"#)).expect_err(value);
            assert!(matches!(refused, Refused::Claim(_)), "{name} {value}: {refused:?}");
            assert!(refused.message().contains(&format!("`{name}`")), "{name} {value}: {refused}");
        }
    }
    for twice in
        [r#","sub":"bob""#, r#","exp":1900000000"#, r#","x":1,"x":1"#, r#","\u0073ub":"bob""#]
    {
        assert!(matches!(with(twice), Err(Refused::Malformed(_))), "{twice}");
    }
    for text in ["[]", "7", "", "null", r#"{"sub":"ada","exp":1900000000}{}"#] {
        assert!(matches!(of(text), Err(Refused::Malformed(_))), "{text}");
    }
}

// [3.token.unknown] [3.token.groups] [3.token.limits] [3.token.jti] [3.token.rooms]
#[test]
fn a_good_token_says_what_it_says() {
    let claims = with(
        r#","groups":["a","b","a"],"limits":{"rooms":3,"publish_per_s":0,"x":[]},"jti":"7","email":"a@b","email_verified":null"#,
    )
    .unwrap();
    assert_eq!(claims.groups, ["a".into(), "b".into()]);
    assert_eq!(
        claims.limits,
        Limits { rooms: Some(3), publish_per_s: Some(0), ..Limits::default() }
    );
    assert_eq!(claims.jti.as_deref(), Some("7"));
    assert_eq!((claims.rooms, claims.info, claims.issued_at_ms), (None, None, None));
    let claims = with(r#","rooms":{"$user/*":["publish"],"**":[]}"#).unwrap();
    let rooms: Vec<_> =
        claims.rooms.iter().flatten().map(|(at, may)| (at.as_str(), may.as_slice())).collect();
    assert_eq!(rooms, [("$user/*", &[Action::Publish][..]), ("**", &[])]);
}

// [3.token.info]
#[test]
fn a_name_becomes_a_member_of_info() {
    for (more, info) in [
        (r#","name":"A\u0064a \"x\"""#, r#"{"name":"A\u0064a \"x\""}"#),
        (r#","info":{ "n": 1e400 }"#, r#"{ "n": 1e400 }"#),
        (r#","name":"Ada","info":{}"#, r#"{"name":"Ada"}"#),
        (r#","name":"Ada","info":{  }"#, r#"{"name":"Ada"}"#),
        (r#","name":"Ada","info":{ "n": 1 }"#, r#"{"name":"Ada","n": 1 }"#),
        (r#","name":"Ada","info":{"n":1,"name":"Countess"}"#, r#"{"n":1,"name":"Countess"}"#),
        (r#","name":"Ada","info":{"name":null}"#, r#"{"name":null}"#),
    ] {
        assert_eq!(with(more).unwrap().info.as_deref(), Some(info), "{more}");
    }
    let fits = format!(r#","info":{{"a":"{}"}}"#, "x".repeat(1024 - 8));
    assert!(with(&fits).is_ok());
    assert!(with(&format!(r#"{fits},"name":"""#)).is_err(), "with its name it is too long");
}

// [3.token.weak]
#[test]
fn weak_and_wrong_keys_are_refused_when_they_are_set() {
    for (algorithm, size) in
        [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)]
    {
        assert!(Key::secret(algorithm, None, &vec![7; size]).is_ok());
        let short = Key::secret(algorithm, None, &vec![7; size - 1]).unwrap_err();
        assert_eq!(short, KeyError::Short { min: size });
    }
    let all = foreign();
    let small = all["small_rsa"].as_str().unwrap();
    assert_eq!(Key::public_pem(Algorithm::Rs256, None, small).unwrap_err(), KeyError::SmallRsa);
    let p384 = all["p384"].as_str().unwrap();
    for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
        let error = Key::public_pem(algorithm, None, p384).unwrap_err();
        assert_eq!(error, KeyError::NotThisAlgorithm, "{algorithm:?}");
    }
    for text in
        ["", "secret", "-----BEGIN PUBLIC KEY-----\nAAAA", &small.replace("PUBLIC", "PRIVATE")]
    {
        assert_eq!(Key::public_pem(Algorithm::Rs256, None, text).unwrap_err(), KeyError::Pem);
    }
    assert!(matches!(Key::secret(Algorithm::Rs256, None, &[7; 64]), Err(KeyError::Kind(_))));
    assert!(matches!(Key::public_pem(Algorithm::Hs256, None, small), Err(KeyError::Kind(_))));
    let shown = format!("{:?}", Key::secret(Algorithm::Hs256, Some("k"), SECRET).unwrap());
    assert!(shown.contains('k') && !shown.contains("97"), "{shown}");
}

// [3.token.jwks]
#[test]
fn a_set_of_keys_is_read_and_what_is_not_for_us_passed_over() {
    let all = foreign();
    let entries: Vec<_> =
        all["keys"].as_array().unwrap().iter().filter(|key| key["jwk"].is_object()).collect();
    let own: Vec<_> = entries.iter().map(|entry| entry["jwk"].clone()).collect();
    let changed = |at: usize, name: &str, value: Value| {
        let mut key = own[at].clone();
        key[name] = value;
        key
    };
    let not_ours = vec![
        json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "alg": "HS256"}),
        json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
        changed(0, "use", json!("enc")),
        changed(0, "alg", json!("RS512")),
        changed(0, "alg", json!("HS256")),
        changed(0, "alg", json!(7)),
        changed(0, "kid", json!(7)),
        changed(0, "n", json!("!!")),
        changed(0, "n", json!("")),
        changed(0, "e", json!("AA")),
        changed(1, "crv", json!("P-384")),
        changed(1, "x", own[1]["y"].clone()),
        changed(1, "x", json!("AAAA")),
        changed(2, "crv", json!("X25519")),
        changed(2, "x", json!("AAAA")),
        changed(2, "kty", json!("EC")),
        all["small_rsa_jwk"].clone(),
        json!("RSA"),
        json!({}),
    ];
    for key in &not_ours {
        let set = jwks::read(&json!({"keys": [key]}).to_string());
        assert_eq!(set.unwrap_err(), jwks::SetError::Empty, "{key}");
    }
    let count = not_ours.len();
    let mut keys = not_ours;
    keys.extend(own);
    let set = jwks::read(&json!({"x": 1, "keys": keys}).to_string()).unwrap();
    assert_eq!((set.keys.len(), set.passed_over), (3, count));
    let verifier = verifier(set.keys);
    for entry in entries {
        assert!(
            verifier.verify(entry["token"].as_str().unwrap(), NOW_MS).is_ok(),
            "{}",
            entry["alg"]
        );
    }
    let forged = signed(r#"{"alg":"HS256"}"#, r#"{"sub":"ada","exp":1900000000}"#, SECRET);
    assert!(matches!(verifier.verify(&forged, NOW_MS), Err(Refused::Algorithm(_))));
    for (text, error) in [
        ("", jwks::SetError::Malformed),
        ("<html>", jwks::SetError::Malformed),
        ("[]", jwks::SetError::Malformed),
        ("{}", jwks::SetError::Malformed),
        (r#"{"keys":{}}"#, jwks::SetError::Malformed),
        (r#"{"keys":[],"keys":[]}"#, jwks::SetError::Malformed),
        (r#"{"keys":[]}"#, jwks::SetError::Empty),
    ] {
        assert_eq!(jwks::read(text).unwrap_err(), error, "{text}");
    }
    let many = json!({"keys": vec![json!({}); jwks::KEYS_MAX + 1]}).to_string();
    assert_eq!(jwks::read(&many).unwrap_err(), jwks::SetError::TooMany);
}

#[test]
fn a_key_signs_what_it_verifies_and_a_public_one_does_not_sign() {
    let key = hs256(Some("a \"name\""));
    let token = key.sign(r#"{"sub":"ada","exp":1900000000}"#).unwrap();
    assert_eq!(&*verifier([key]).verify(&token, NOW_MS).unwrap().user, "ada");
    let all = foreign();
    let public = all["keys"].as_array().unwrap().iter().find(|key| key["pem"].is_string()).unwrap();
    assert_eq!(foreign_key(public, None).sign("{}"), None);
}

proptest::proptest! {
    #[test]
    fn any_text_is_refused_in_one_sentence(token in ".{0,200}", claims in ".{0,200}") {
        let verifier = verifier([hs256(None)]);
        let refused = verifier.verify(&token, NOW_MS).unwrap_err();
        proptest::prop_assert!(Refused::LABELS.contains(&refused.label()));
        let _ = verifier.verify(&signed(r#"{"alg":"HS256"}"#, &claims, SECRET), NOW_MS);
        let _ = jwks::read(&claims);
    }
}
