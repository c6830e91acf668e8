//! The extension in the opening handshake: every parameter, right and wrong, from both ends.

use clarion_websocket::Role::{Client, Server};
use clarion_websocket::deflate::{self, Agreed, Answer, Config};
use clarion_websocket::handshake::{Opening, Request, ResponseError, accept, accept_key};

const BOTH: Config = Config {
    server_takeover: true,
    client_takeover: true,
    server_window_bits: 15,
    client_window_bits: 15,
};

/// What a server that wants this answers to these offers.
fn answer(config: Config, offers: &str) -> Option<Answer> {
    let request = Request { method: "GET", target: "/", version: (1, 1) };
    let headers = [
        ("host", "localhost"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", offers),
    ];
    let accepted = accept(&request, headers.map(|(name, value)| (name, value.as_bytes()))).unwrap();
    deflate::accept(&config, &accepted.extensions)
}

#[track_caller]
fn answers(config: Config, offers: &str, header: &str) -> Agreed {
    let answer = answer(config, offers).unwrap();
    assert_eq!(answer.header, header, "{offers}");
    answer.agreed
}

/// What a client that wants this makes of a server's answer; an empty one is no header.
fn verify(config: Config, answer: &str) -> Result<Option<Agreed>, ResponseError> {
    let opening = Opening::new([9; 16], &[]).with_deflate(config);
    let key = opening.headers().find(|header| header.0 == "sec-websocket-key").unwrap().1;
    let key = accept_key(key);
    let headers = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-accept", &key),
        ("sec-websocket-extensions", answer),
    ];
    let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
    let opened = opening.verify_all(101, headers.map(|(name, value)| (name, value.as_bytes())));
    opened.map(|opened| opened.deflate)
}

fn offer(config: Config) -> String {
    let opening = Opening::new([9; 16], &[]).with_deflate(config);
    let offer = opening.headers().find(|header| header.0 == "sec-websocket-extensions");
    offer.unwrap().1.to_owned()
}

#[test]
fn a_server_takes_no_context_over_unless_told() {
    const NONE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    for offers in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
        "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits=15",
    ] {
        let agreed = answers(Config::default(), offers, NONE);
        assert!(!agreed.takeover(Server) && !agreed.takeover(Client));
        assert_eq!((agreed.window_bits(Server), agreed.window_bits(Client)), (15, 15));
        assert!(agreed.takes_shared());
    }
}

#[test]
fn a_client_may_forbid_takeover_in_either_direction() {
    let agreed = answers(BOTH, "permessage-deflate", "permessage-deflate");
    assert!(agreed.takeover(Server) && agreed.takeover(Client) && !agreed.takes_shared());
    let header = "permessage-deflate; server_no_context_takeover";
    let agreed = answers(BOTH, header, header);
    assert!(!agreed.takeover(Server) && agreed.takeover(Client) && agreed.takes_shared());
    let header = "permessage-deflate; client_no_context_takeover";
    let agreed = answers(BOTH, header, header);
    assert!(agreed.takeover(Server) && !agreed.takeover(Client) && !agreed.takes_shared());
}

#[test]
fn a_servers_window_is_the_smaller_of_both_wishes() {
    for offered in 9..=15 {
        for wanted in 9..=15 {
            let config = Config { server_window_bits: wanted, ..BOTH };
            let bits = offered.min(wanted);
            let agreed = answers(
                config,
                &format!("permessage-deflate; server_max_window_bits={offered}"),
                &format!("permessage-deflate; server_max_window_bits={bits}"),
            );
            assert_eq!(agreed.window_bits(Server), bits);
        }
    }
    let config = Config { server_window_bits: 10, ..Config::default() };
    assert!(!answer(config, "permessage-deflate").unwrap().agreed.takes_shared());
}

#[test]
fn a_clients_window_is_limited_only_if_the_client_can_be_told() {
    let small = Config { client_window_bits: 10, ..BOTH };
    let limited = "permessage-deflate; client_max_window_bits=10";
    for offers in ["", "=15", "=11", "=\"15\""] {
        let offers = format!("permessage-deflate; client_max_window_bits{offers}");
        assert_eq!(answers(small, &offers, limited).window_bits(Client), 10);
    }
    for bits in 8..=10 {
        let offers = format!("permessage-deflate; client_max_window_bits={bits}");
        assert_eq!(answers(small, &offers, "permessage-deflate").window_bits(Client), bits);
    }
    // It cannot be told, so it may not make this end remember 32 KiB.
    let header = "permessage-deflate; client_no_context_takeover";
    let agreed = answers(small, "permessage-deflate", header);
    assert_eq!((agreed.window_bits(Client), agreed.takeover(Client)), (15, false));
}

#[test]
fn an_offer_that_breaks_a_rule_is_declined() {
    for parameters in [
        "unknown",
        "Server_no_context_takeover",
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits",
        "server_max_window_bits=8",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=09",
        "server_max_window_bits=+9",
        "server_max_window_bits=0",
        "server_max_window_bits=265",
        "server_max_window_bits=1x",
        "server_max_window_bits=10; server_max_window_bits=10",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=010",
        "client_max_window_bits; client_max_window_bits",
        "client_max_window_bits=10; client_max_window_bits",
    ] {
        let bad = format!("permessage-deflate; {parameters}");
        assert_eq!(answer(BOTH, &bad), None, "{bad}");
        let offers = format!("{bad}, permessage-deflate; server_max_window_bits=12, {bad}");
        answers(BOTH, &offers, "permessage-deflate; server_max_window_bits=12");
    }
    assert_eq!(answer(BOTH, "x, permessage-deflatex, y; server_max_window_bits=10"), None);
}

#[test]
fn the_first_acceptable_offer_is_taken() {
    let offers = "permessage-deflate; server_max_window_bits=8, \
                  permessage-deflate; server_max_window_bits=11; client_no_context_takeover, \
                  permessage-deflate";
    let header = "permessage-deflate; client_no_context_takeover; server_max_window_bits=11";
    answers(BOTH, offers, header);
}

#[test]
fn a_client_offers_what_it_wants() {
    assert_eq!(
        offer(Config::default()),
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         client_max_window_bits"
    );
    assert_eq!(offer(BOTH), "permessage-deflate; client_max_window_bits");
    let small = Config { server_window_bits: 9, client_window_bits: 12, ..BOTH };
    let expected = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=12";
    assert_eq!(offer(small), expected);
    let outside = Config { server_window_bits: 0, client_window_bits: 99, ..BOTH };
    let expected = "permessage-deflate; server_max_window_bits=9; client_max_window_bits";
    assert_eq!(offer(outside), expected);
}

#[test]
fn a_client_takes_an_answer_that_fits_its_offer() {
    assert_eq!(verify(BOTH, ""), Ok(None));
    let agreed = verify(BOTH, "permessage-deflate").unwrap().unwrap();
    assert!(agreed.takeover(Server) && agreed.takeover(Client));
    assert_eq!((agreed.window_bits(Server), agreed.window_bits(Client)), (15, 15));
    let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                  server_max_window_bits=8; client_max_window_bits=\"8\"";
    let agreed = verify(BOTH, answer).unwrap().unwrap();
    assert!(!agreed.takeover(Server) && !agreed.takeover(Client));
    assert_eq!((agreed.window_bits(Server), agreed.window_bits(Client)), (8, 8));
    // What the client forbids itself, the server need not repeat.
    let config = Config { client_takeover: false, client_window_bits: 12, ..BOTH };
    let agreed = verify(config, "permessage-deflate").unwrap().unwrap();
    assert_eq!((agreed.takeover(Client), agreed.window_bits(Client)), (false, 12));
}

#[test]
fn a_client_refuses_an_answer_that_does_not_fit() {
    let refused = Err(ResponseError::Extension);
    for answer in [
        "x",
        "permessage-deflate, x",
        "permessage-deflate, permessage-deflate",
        "permessage-deflate; unknown",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate;",
    ] {
        assert_eq!(verify(BOTH, answer), refused, "{answer}");
    }
    let small = Config { server_window_bits: 10, client_window_bits: 10, ..BOTH };
    assert_eq!(verify(small, "permessage-deflate"), refused);
    assert_eq!(verify(small, "permessage-deflate; server_max_window_bits=11"), refused);
    let wide = "permessage-deflate; server_max_window_bits=9; client_max_window_bits=11";
    assert_eq!(verify(small, wide), refused);
    assert_eq!(verify(Config::default(), "permessage-deflate"), refused);
}

#[test]
fn whatever_the_server_answers_the_client_understands_the_same() {
    let mut configs = Vec::new();
    for (server_window_bits, client_window_bits) in [(15, 15), (9, 12), (12, 9), (15, 9)] {
        for (server_takeover, client_takeover) in
            [(false, false), (false, true), (true, false), (true, true)]
        {
            configs.push(Config {
                server_takeover,
                client_takeover,
                server_window_bits,
                client_window_bits,
            });
        }
    }
    for of_client in &configs {
        for of_server in &configs {
            let answer = answer(*of_server, &offer(*of_client)).unwrap();
            assert_eq!(verify(*of_client, &answer.header), Ok(Some(answer.agreed)));
        }
    }
}
