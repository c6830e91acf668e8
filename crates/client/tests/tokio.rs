//! The client over real sockets, against a server that the test plays, good or bad.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clarion_client::{
    Client, ClientError, ClientEvent, ClientState, Events, Lagged, RoomEvent, RoomState, TokenError,
};
use clarion_websocket::handshake::accept_key;
use clarion_websocket::{Connection, Event, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long anything may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<F: IntoFuture>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("this hangs")
}

struct Listener {
    listener: TcpListener,
    url: String,
}

impl Listener {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        Self { listener, url }
    }

    fn client(&self) -> Client {
        let builder = Client::builder(&self.url)
            .backoff(Duration::from_millis(20), Duration::from_millis(50));
        builder.connect().unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        soon(self.listener.accept()).await.unwrap().0
    }

    /// Takes a connection up to the answer to its opening handshake.
    async fn accept(&self) -> Peer {
        let mut stream = self.tcp().await;
        let request = read_head(&mut stream).await;
        assert!(request.starts_with("GET /ws HTTP/1.1\r\n"), "{request}");
        let field = |name: &str| {
            let line = request.lines().find(|it| it.to_ascii_lowercase().starts_with(name));
            line.and_then(|line| line.split_once(": ")).expect(name).1.to_owned()
        };
        assert_eq!(field("sec-websocket-protocol"), "clarion.v1.json");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Protocol: clarion.v1.json\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            accept_key(&field("sec-websocket-key"))
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        Peer { stream, connection: Connection::server(), messages: Vec::new(), closed: None }
    }

    /// Takes a connection up to its welcome; returns its `$hello`, too.
    async fn welcome(&self) -> (Peer, Value) {
        let mut peer = self.accept().await;
        let hello = peer.next("$hello").await;
        let payload = json!({"client": "c1", "user": "u1", "ticket": "t", "ticket_ttl_ms": 60_000,
            "resumed": false, "limits": {}, "heartbeat_ms": 25_000});
        peer.say("$welcome", payload, json!({"id": hello["metadata"]["id"]})).await;
        (peer, hello)
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(soon(stream.read_buf(&mut head)).await.unwrap(), 0, "the client hung up");
    }
    String::from_utf8(head).unwrap()
}

/// The server's end of one connection.
struct Peer {
    stream: TcpStream,
    connection: Connection,
    messages: Vec<Value>,
    closed: Option<u16>,
}

impl Peer {
    async fn say(&mut self, kind: &str, payload: Value, metadata: Value) {
        let text = json!({"type": kind, "payload": payload, "metadata": metadata}).to_string();
        let mut out = Vec::new();
        self.connection.send_text(&text, &mut out).unwrap();
        soon(self.stream.write_all(&out)).await.unwrap();
    }

    /// Reads once; false at the end.
    async fn read(&mut self) -> bool {
        let mut input = vec![0; 65_536];
        let size = soon(self.stream.read(&mut input)).await.unwrap_or(0);
        let (mut input, mut out) = (&mut input[..size], Vec::new());
        while let Some(event) = self.connection.receive(&Limits::default(), &mut input, &mut out) {
            match event {
                Event::Text(text) => self.messages.push(serde_json::from_str(text).unwrap()),
                Event::Closed { code, .. } => self.closed = code.map(|code| code.get()),
                other => panic!("{other:?}"),
            }
        }
        let _ = self.stream.write_all(&out).await;
        size > 0
    }

    async fn next(&mut self, kind: &str) -> Value {
        while self.messages.is_empty() {
            assert!(self.read().await, "the client hung up instead of {kind}");
        }
        let message = self.messages.remove(0);
        assert_eq!(message["type"], kind);
        message
    }

    async fn reply(&mut self, to: &Value, payload: Value) {
        self.say("$reply", payload, json!({"id": to["metadata"]["id"]})).await;
    }

    /// The client's close code, when it has gone.
    async fn gone(mut self) -> Option<u16> {
        while self.closed.is_none() && self.read().await {}
        self.closed
    }
}

async fn error(events: &mut Events<ClientEvent>) -> ClientError {
    loop {
        if let Ok(ClientEvent::Error(error)) = soon(events.next()).await.expect("an event") {
            return error;
        }
    }
}

async fn state(client: &Client, reason: &str) {
    let mut events = client.events();
    while client.status().reason != reason {
        soon(events.next()).await.expect("an event").unwrap();
    }
}

/// Waits until the runtime has no task but the test's own.
async fn no_task_is_left() {
    let metrics = tokio::runtime::Handle::current().metrics();
    soon(async {
        while metrics.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn joins_publishes_hears_and_leaves() {
    let listener = Listener::new().await;
    let client = listener.client();
    let room = client.room("general");
    let mut events = room.events();
    let server = async {
        let (mut peer, _) = listener.welcome().await;
        let join = peer.next("$join").await;
        assert_eq!(join["payload"], json!({"last": 2}));
        peer.reply(&join, json!({"epoch": "e", "offset": 0, "from": 1, "recovered": false})).await;
        let message = peer.next("note").await;
        assert_eq!(message["payload"], json!({"text": "hi"}));
        let metadata = json!({"room": "general", "epoch": "e", "offset": 1, "time":
            "2026-01-01T12:00:00.000Z", "from": {"client": "c1"}});
        peer.say("note", message["payload"].clone(), metadata).await;
        peer.reply(&message, json!({"epoch": "e", "offset": 1})).await;
        let ping = peer.next("$ping").await;
        peer.say("$pong", json!(null), json!({"id": ping["metadata"]["id"]})).await;
        let leave = peer.next("$leave").await;
        peer.reply(&leave, json!({})).await;
        peer
    };
    let application = async {
        soon(client.connected()).await.unwrap();
        soon(room.join().last(2)).await.unwrap();
        let ack = soon(room.publish("note", &json!({"text": "hi"}))).await.unwrap();
        assert_eq!(ack.position.unwrap().offset, 1);
        assert!(soon(client.ping()).await.unwrap() < PATIENCE);
        assert_eq!(room.position().unwrap().offset, 1);
        soon(room.leave()).await.unwrap();
        assert_eq!(room.status().state, RoomState::Left);
    };
    let (peer, ()) = tokio::join!(server, application);
    let mut heard = Vec::new();
    client.close();
    drop((client, room));
    while let Some(event) = soon(events.next()).await {
        if let Ok(RoomEvent::Publication(publication)) = event {
            heard.push(publication.payload.parse::<Value>().unwrap());
        }
    }
    assert_eq!(heard, [json!({"text": "hi"})]);
    assert_eq!(peer.gone().await, Some(1000));
    no_task_is_left().await;
}

#[tokio::test]
async fn dropping_the_last_handle_closes_in_order_and_leaves_no_task() {
    let listener = Listener::new().await;
    let client = listener.client();
    let room = client.room("a");
    let call = room.publish("x", &1).send();
    let (mut peer, _) = listener.welcome().await;
    let message = peer.next("x").await;
    drop((client, room));
    // The call that waits is a handle, too.
    peer.reply(&message, json!({"epoch": "e", "offset": 1})).await;
    soon(call).await.unwrap();
    assert_eq!(peer.gone().await, Some(1000));
    no_task_is_left().await;
}

#[tokio::test]
async fn clean_shutdown_is_bounded_whatever_the_server_does() {
    let listener = Listener::new().await;
    // It accepts and says nothing; it never closes.
    let client = listener.client();
    let stream = listener.tcp().await;
    client.close();
    soon(client.closed()).await;
    drop(client);
    no_task_is_left().await;
    drop(stream);
    // It is welcomed, and its closing handshake is not answered.
    let client = listener.client();
    let (peer, _) = listener.welcome().await;
    soon(client.connected()).await.unwrap();
    client.close();
    timeout(Duration::from_secs(4), client.closed()).await.expect("at most 2 s");
    drop(client);
    no_task_is_left().await;
    drop(peer);
}

#[tokio::test]
async fn comes_back_and_resumes_after_the_connection_broke() {
    let listener = Listener::new().await;
    let client = listener.client();
    let room = client.room("a");
    let join = room.join().send();
    let (mut peer, hello) = listener.welcome().await;
    assert_eq!(hello["payload"]["rooms"], json!({"a": {}}));
    let joined = json!({"epoch": "e", "offset": 3, "from": 4, "recovered": false});
    peer.say("$joined", joined, json!({"room": "a"})).await;
    soon(join).await.unwrap();
    let mut events = room.events();
    let lost = room.publish("x", &1).send();
    let first = peer.next("x").await;
    drop(peer);
    let (mut peer, hello) = listener.welcome().await;
    let after = json!({"epoch": "e", "offset": 3});
    assert_eq!(hello["payload"]["rooms"]["a"]["after"], after);
    assert_eq!(hello["payload"]["ticket"], "t");
    let repeated = peer.next("x").await;
    assert_eq!(repeated["metadata"]["key"], first["metadata"]["key"]);
    let joined = json!({"epoch": "e", "offset": 4, "from": 4, "recovered": true});
    peer.say("$joined", joined, json!({"room": "a"})).await;
    peer.say("x", json!(1), json!({"room": "a", "epoch": "e", "offset": 4})).await;
    peer.reply(&repeated, json!({"epoch": "e", "offset": 4, "duplicate": true})).await;
    assert!(soon(lost).await.unwrap().duplicate);
    let mut seen = Vec::new();
    while seen.last() != Some(&"publication") {
        seen.push(match soon(events.next()).await.unwrap().unwrap() {
            RoomEvent::Recovered { from: 4, to: 4 } => "recovered",
            RoomEvent::Publication(_) => "publication",
            RoomEvent::State(_) => "state",
            other => panic!("{other:?}"),
        });
    }
    assert!(seen.ends_with(&["recovered", "publication"]), "{seen:?}");
}

#[tokio::test]
async fn half_open_server_is_noticed_and_left() {
    let listener = Listener::new().await;
    let client = Client::builder(&listener.url)
        .heartbeat_timeout(Duration::from_millis(60))
        .backoff(Duration::from_millis(20), Duration::from_millis(50))
        .connect()
        .unwrap();
    let mut peer = listener.accept().await;
    let hello = peer.next("$hello").await;
    let payload = json!({"client": "c", "user": "u", "resumed": false, "heartbeat_ms": 50});
    peer.say("$welcome", payload, json!({"id": hello["metadata"]["id"]})).await;
    // From here on it neither reads nor writes, and its socket stays open.
    state(&client, "heartbeat_missed").await;
    listener.welcome().await;
    drop(peer);
}

#[tokio::test]
async fn server_that_never_answers_fails_every_call_in_time() {
    let listener = Listener::new().await;
    let builder = Client::builder(&listener.url).timeout(Duration::from_millis(100));
    let client = builder.connect().unwrap();
    let (peer, _) = listener.welcome().await;
    soon(client.connected()).await.unwrap();
    let room = client.room("a");
    let publish =
        soon(room.publish("x", &1).timeout(Duration::from_millis(100))).await.unwrap_err();
    assert_eq!((publish.error.name(), publish.key.is_some()), ("timeout", true));
    assert_eq!(soon(room.join()).await.unwrap_err().name(), "timeout");
    assert_eq!(soon(room.history()).await.unwrap_err().name(), "timeout");
    assert_eq!(soon(room.list_members()).await.unwrap_err().name(), "timeout");
    assert_eq!(soon(room.set_state(&1)).await, Ok(()));
    assert_eq!(soon(client.ping()).await.unwrap_err().name(), "timeout");
    assert_eq!(client.status().state, ClientState::Connected);
    drop(peer);
}

#[tokio::test]
async fn garbage_is_survived_and_the_next_connection_is_good() {
    let listener = Listener::new().await;
    let client = listener.client();
    let mut events = client.events();
    // Not HTTP, another protocol's answer, a head without end.
    for answer in ["\u{0}\u{1}garbage\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", &"x".repeat(20_000)] {
        let mut stream = listener.tcp().await;
        read_head(&mut stream).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        assert!(matches!(error(&mut events).await, ClientError::Connect(_)));
    }
    // Frames that break RFC 6455: masked, reserved bits, not UTF-8, a length that is a lie.
    let frames: [&[u8]; 4] = [
        &[0x81, 0x80, 0, 0, 0, 0],
        &[0xF1, 0x00],
        &[0x81, 0x01, 0xFF],
        &[0x82, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    for frame in frames {
        let (mut peer, _) = listener.welcome().await;
        peer.stream.write_all(frame).await.unwrap();
        let ClientError::Connect(why) = error(&mut events).await else { panic!("another error") };
        assert!(why.contains("broke a rule"), "{why}");
    }
    // Messages that are no envelopes do not even end the connection.
    let (mut peer, _) = listener.welcome().await;
    let mut out = Vec::new();
    peer.connection.send_text("[1, 2", &mut out).unwrap();
    peer.connection.send_binary(&[1, 2], &mut out).unwrap();
    peer.stream.write_all(&out).await.unwrap();
    assert!(matches!(error(&mut events).await, ClientError::Malformed(_)));
    let ping = client.ping();
    let message = peer.next("$ping").await;
    peer.say("$pong", json!(null), json!({"id": message["metadata"]["id"]})).await;
    soon(ping).await.unwrap();
}

#[tokio::test]
async fn answers_over_http_stop_or_are_tried_again() {
    for (status, state) in [
        (401, ClientState::Closed),
        (403, ClientState::Closed),
        (503, ClientState::Connecting),
        (404, ClientState::Connecting),
    ] {
        let listener = Listener::new().await;
        let client = listener.client();
        let mut stream = listener.tcp().await;
        read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 {status} No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
        self::state(&client, &format!("http_{status}")).await;
        let status = client.status();
        assert_eq!(status.state, state);
        if let Some(wait) = status.retry_in {
            assert!(wait >= Duration::from_secs(7), "{wait:?}");
        }
    }
}

#[tokio::test]
async fn nobody_listening_is_told_and_tried_again() {
    let listener = Listener::new().await;
    let url = listener.url.clone();
    drop(listener);
    let client = Client::builder(url).connect().unwrap();
    let mut events = client.events();
    assert!(matches!(error(&mut events).await, ClientError::Connect(_)));
    assert!(client.status().will_retry);
}

#[tokio::test]
async fn slow_consumer_of_a_burst_is_told_how_much_it_missed() {
    const COUNT: u64 = 10_000;
    let listener = Listener::new().await;
    let client = listener.client();
    let room = client.room("a");
    let mut slow = room.events_with(100);
    let mut fast = room.events_with(COUNT as usize + 10);
    let join = room.join().send();
    let (mut peer, _) = listener.welcome().await;
    peer.say("$joined", json!({"epoch": "e", "offset": 0, "from": 1}), json!({"room": "a"})).await;
    soon(join).await.unwrap();
    let mut out = Vec::new();
    for offset in 1..=COUNT {
        let metadata = json!({"room": "a", "epoch": "e", "offset": offset});
        let text = json!({"type": "x", "payload": offset, "metadata": metadata}).to_string();
        peer.connection.send_text(&text, &mut out).unwrap();
    }
    let start = std::time::Instant::now();
    soon(peer.stream.write_all(&out)).await.unwrap();
    let mut next = 1;
    while next <= COUNT {
        if let RoomEvent::Publication(publication) = soon(fast.next()).await.unwrap().unwrap() {
            assert_eq!(publication.position.as_ref().unwrap().offset, next);
            next += 1;
        }
    }
    println!("{COUNT} publications in {:?}", start.elapsed());
    // The client itself has not fallen behind.
    assert_eq!(room.position().unwrap().offset, COUNT);
    let ping = client.ping();
    let message = peer.next("$ping").await;
    peer.say("$pong", json!(null), json!({"id": message["metadata"]["id"]})).await;
    soon(ping).await.unwrap();
    let (mut kept, mut missed) = (0, 0);
    while kept + missed < COUNT {
        match soon(slow.next()).await.unwrap() {
            Ok(RoomEvent::Publication(publication)) => {
                kept += 1;
                assert_eq!(publication.position.as_ref().unwrap().offset, kept);
            }
            Ok(_) => {}
            Err(Lagged(count)) => missed += count,
        }
    }
    assert!(kept < 100 && missed > 9_900, "{kept} {missed}");
}

#[tokio::test]
async fn server_that_does_not_read_makes_publications_wait_and_not_the_memory_grow() {
    let listener = Listener::new().await;
    let client = listener.client();
    let (peer, _) = listener.welcome().await;
    soon(client.connected()).await.unwrap();
    let room = client.room("a");
    let payload = "y".repeat(60_000);
    let mut calls = Vec::new();
    // Far more than sockets, link and outbox hold together.
    for _ in 0..600 {
        calls.push(room.publish("x", &payload).send());
        tokio::task::yield_now().await;
    }
    // The queue holds 256 KiB.
    assert!((1..=4).contains(&client.queued()), "{}", client.queued());
    client.close();
    let mut names = std::collections::BTreeMap::new();
    for call in calls {
        *names.entry(soon(call).await.unwrap_err().error.name().to_owned()).or_insert(0) += 1;
    }
    assert!(names["queue_full"] > 100, "{names:?}");
    drop(peer);
}

#[tokio::test]
async fn token_provider_is_asked_and_may_fail_or_panic() {
    let listener = Listener::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let client = Client::builder(&listener.url)
        .backoff(Duration::from_millis(5), Duration::from_millis(5))
        .token_provider(move |_| {
            let turn = count.fetch_add(1, Ordering::SeqCst);
            async move {
                match turn {
                    0 => Err(TokenError::Failed("503".to_owned())),
                    1 => panic!("a provider's bug"),
                    _ => Ok(format!("token-{turn}")),
                }
            }
        })
        .connect()
        .unwrap();
    let (_peer, hello) = listener.welcome().await;
    assert_eq!(hello["payload"]["token"], "token-2");
    soon(client.connected()).await.unwrap();
    let debug = format!("{client:?} {:?}", Client::builder("ws://x").token("secret"));
    assert!(!debug.contains("secret") && !debug.contains("token-2"), "{debug}");
}

#[tokio::test]
async fn room_joined_by_the_server_is_heard_from_its_beginning() {
    let listener = Listener::new().await;
    let client = listener.client();
    let mut events = client.events();
    let (mut peer, _) = listener.welcome().await;
    let joined = json!({"epoch": "e", "offset": 4, "from": 4, "recovered": true});
    peer.say("$joined", joined, json!({"room": "$user/u1"})).await;
    peer.say("x", json!(1), json!({"room": "$user/u1", "epoch": "e", "offset": 4})).await;
    let name = loop {
        if let Ok(ClientEvent::Room(name)) = soon(events.next()).await.unwrap() {
            break name;
        }
    };
    let room = client.room(&*name);
    let mut inbox = room.events();
    assert!(matches!(soon(inbox.next()).await, Some(Ok(RoomEvent::State(_)))));
    let waited = RoomEvent::Recovered { from: 4, to: 4 };
    assert_eq!(soon(inbox.next()).await.unwrap().unwrap(), waited);
    assert!(matches!(soon(inbox.next()).await, Some(Ok(RoomEvent::Publication(_)))));
}

#[tokio::test]
async fn builder_refuses_what_cannot_work() {
    for url in ["", "http://127.0.0.1/", "ws://u:p@127.0.0.1/"] {
        assert!(Client::builder(url).build().is_err(), "{url}");
    }
    assert!(Client::builder("wss://127.0.0.1/").build().is_ok());
    let nothing = Client::builder("wss://127.0.0.1/").trust("no certificate").build();
    assert!(nothing.unwrap_err().to_string().starts_with("certificates to trust: "));
    let outside = std::thread::spawn(|| Client::builder("ws://127.0.0.1/").build().is_err());
    assert!(outside.join().unwrap());
}

#[tokio::test]
async fn closing_is_bounded_when_the_server_does_not_read() {
    let listener = Listener::new().await;
    let client = listener.client();
    let (peer, _) = listener.welcome().await;
    soon(client.connected()).await.unwrap();
    let room = client.room("a");
    let payload = "y".repeat(60_000);
    let mut calls = Vec::new();
    // Until neither the socket nor the link takes more.
    for _ in 0..1_000 {
        calls.push(room.publish("x", &payload).send());
        tokio::task::yield_now().await;
    }
    assert!(client.queued() > 0);
    client.close();
    timeout(Duration::from_secs(4), client.closed()).await.expect("at most 2 s");
    drop((client, room, calls));
    no_task_is_left().await;
    drop(peer);
}

#[tokio::test]
async fn token_provider_that_panics_when_called_is_asked_again() {
    let listener = Listener::new().await;
    let asked = AtomicUsize::new(0);
    let client = Client::builder(&listener.url)
        .backoff(Duration::from_millis(5), Duration::from_millis(5))
        .token_provider(move |_| {
            assert!(asked.fetch_add(1, Ordering::SeqCst) > 0, "a provider's bug");
            async { Ok("token".to_owned()) }
        })
        .connect()
        .unwrap();
    let (_peer, hello) = listener.welcome().await;
    assert_eq!(hello["payload"]["token"], "token");
    soon(client.connected()).await.unwrap();
}

#[test]
fn every_call_settles_when_the_runtime_of_the_client_is_gone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Its task runs, or never ran at all.
    for turns in [3, 0] {
        let first = runtime();
        let (client, waits) = first.block_on(async {
            let client = Client::builder("ws://127.0.0.1:9/ws").build().unwrap();
            let waits = client.room("early").join().send();
            if turns > 0 {
                client.connect();
            }
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            client.connect();
            (client, waits)
        });
        drop(first);
        runtime().block_on(async {
            assert_eq!(soon(waits).await.unwrap_err().name(), "closed");
            soon(client.closed()).await;
            assert_eq!(soon(client.connected()).await.unwrap_err().state, ClientState::Closed);
            client.connect();
            let room = client.room("late");
            assert_eq!(soon(room.join()).await.unwrap_err().name(), "closed");
            assert_eq!(soon(room.publish("x", &1)).await.unwrap_err().error.name(), "closed");
            assert_eq!(soon(client.ping()).await.unwrap_err().name(), "closed");
            assert!(soon(room.events().next()).await.is_none());
        });
    }
}

const INBOX: &str = "$user/u1";

/// A client in its inbox, and the server's end.
async fn inbox(listener: &Listener) -> (Client, Events<RoomEvent>, Peer) {
    let client = listener.client();
    let events = client.room(INBOX).events();
    let (mut peer, _) = listener.welcome().await;
    let joined = json!({"epoch": "e", "offset": 0, "from": 1, "recovered": false});
    peer.say("$joined", joined, json!({"room": INBOX})).await;
    (client, events, peer)
}

async fn deliver(peer: &mut Peer, offset: u64) {
    let metadata = json!({"room": INBOX, "epoch": "e", "offset": offset});
    peer.say("x", json!(offset), metadata).await;
}

/// Reads up to the publication with this offset.
async fn read_to(events: &mut Events<RoomEvent>, offset: u64) {
    loop {
        if let Ok(RoomEvent::Publication(it)) = soon(events.next()).await.expect("an event")
            && it.position.as_ref().is_some_and(|it| it.offset == offset)
        {
            return;
        }
    }
}

/// Asks for the next event, does not wait for it, and lets the client do what follows.
async fn ask(events: &mut Events<RoomEvent>) {
    assert!(timeout(Duration::ZERO, events.next()).await.is_err(), "there was an event");
}

/// The next message is the answer to a `$ping` that is sent now, so there was no `$ack` before it.
async fn nothing_was_said(client: &Client, peer: &mut Peer) {
    let ping = client.ping();
    let message = peer.next("$ping").await;
    peer.say("$pong", json!(null), json!({"id": message["metadata"]["id"]})).await;
    soon(ping).await.unwrap();
}

#[tokio::test]
async fn what_was_handled_is_acknowledged_when_the_reader_goes_on() {
    let listener = Listener::new().await;
    let (client, mut events, mut peer) = inbox(&listener).await;
    deliver(&mut peer, 1).await;
    read_to(&mut events, 1).await;
    nothing_was_said(&client, &mut peer).await;
    ask(&mut events).await;
    let ack = peer.next("$ack").await;
    assert_eq!(ack["payload"], json!({"epoch": "e", "offset": 1}));
    assert_eq!(ack["metadata"]["room"], INBOX);
    // Elsewhere nothing is acknowledged.
    peer.reply(&ack, json!({})).await;
    let mut elsewhere = client.room("a").events();
    let join = client.room("a").join().send();
    let message = peer.next("$join").await;
    peer.reply(&message, json!({"epoch": "e", "offset": 0, "from": 1})).await;
    soon(join).await.unwrap();
    peer.say("x", json!(1), json!({"room": "a", "epoch": "e", "offset": 1})).await;
    read_to(&mut elsewhere, 1).await;
    ask(&mut elsewhere).await;
    nothing_was_said(&client, &mut peer).await;
}

#[tokio::test]
async fn every_reader_has_to_go_on() {
    let listener = Listener::new().await;
    let (client, mut first, mut peer) = inbox(&listener).await;
    let mut second = client.room(INBOX).events();
    deliver(&mut peer, 1).await;
    deliver(&mut peer, 2).await;
    read_to(&mut first, 2).await;
    ask(&mut first).await;
    nothing_was_said(&client, &mut peer).await;
    read_to(&mut second, 2).await;
    assert_eq!(peer.next("$ack").await["payload"]["offset"], 1);
}

#[tokio::test]
async fn reader_that_gives_up_stops_acknowledging_until_the_application_does_it() {
    let listener = Listener::new().await;
    let (client, mut events, mut peer) = inbox(&listener).await;
    deliver(&mut peer, 1).await;
    read_to(&mut events, 1).await;
    drop(events);
    let room = client.room(INBOX);
    let mut events = room.events();
    deliver(&mut peer, 2).await;
    read_to(&mut events, 2).await;
    ask(&mut events).await;
    nothing_was_said(&client, &mut peer).await;
    let call = room.ack(&room.position().unwrap());
    let ack = peer.next("$ack").await;
    peer.reply(&ack, json!({})).await;
    soon(call).await.unwrap();
    deliver(&mut peer, 3).await;
    read_to(&mut events, 3).await;
    ask(&mut events).await;
    assert_eq!(peer.next("$ack").await["payload"]["offset"], 3);
}

#[tokio::test]
async fn what_nobody_heard_is_not_acknowledged() {
    let listener = Listener::new().await;
    let (client, events, mut peer) = inbox(&listener).await;
    drop(events);
    deliver(&mut peer, 1).await;
    nothing_was_said(&client, &mut peer).await;
    let mut events = client.room(INBOX).events();
    deliver(&mut peer, 2).await;
    read_to(&mut events, 2).await;
    ask(&mut events).await;
    nothing_was_said(&client, &mut peer).await;
}

#[tokio::test]
async fn what_a_stream_did_not_keep_is_not_acknowledged_but_what_was_before_it() {
    let listener = Listener::new().await;
    let (client, mut events, mut peer) = inbox(&listener).await;
    // By then it has joined, and the next stream begins with the first publication.
    nothing_was_said(&client, &mut peer).await;
    let mut short = client.room(INBOX).events_with(2);
    for offset in 1..=4 {
        deliver(&mut peer, offset).await;
    }
    read_to(&mut events, 4).await;
    ask(&mut events).await;
    read_to(&mut short, 2).await;
    assert_eq!(soon(short.next()).await, Some(Err(Lagged(2))));
    let ack = peer.next("$ack").await;
    assert_eq!(ack["payload"]["offset"], 1);
    peer.reply(&ack, json!({})).await;
    let ack = peer.next("$ack").await;
    assert_eq!(ack["payload"]["offset"], 2);
    peer.reply(&ack, json!({})).await;
    deliver(&mut peer, 5).await;
    read_to(&mut events, 5).await;
    read_to(&mut short, 5).await;
    ask(&mut events).await;
    ask(&mut short).await;
    nothing_was_said(&client, &mut peer).await;
}
