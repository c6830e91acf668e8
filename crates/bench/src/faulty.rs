//! A server with a fault, for tests: does the generator find what is wrong?
//!
//! It is an echo at `/echo` and a room of Clarion's protocol at `/ws`, one thread a connection. It does
//! one thing wrong with the sixth text message that it sends to its first connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::echo::{Echo, EchoArgs};
use crate::envelope;
use crate::fanout::{Fanout, FanoutArgs};
use crate::frame::{self, Frames};
use crate::run::{Load, Schedule};
use crate::sequence::Verdict;

/// The message that the fault befalls, counted from 1.
const FAULTY: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Lose,
    Repeat,
    /// Sends it behind the one that follows.
    Delay,
    /// Changes a letter or digit of the text.
    Alter,
}

/// One direction of a connection, with the fault if it is the first.
struct Peer {
    stream: TcpStream,
    fault: Fault,
    sent: usize,
    delayed: Vec<u8>,
}

impl Peer {
    fn send(&mut self, text: &[u8]) {
        self.sent += 1;
        let is_faulty = self.sent == FAULTY;
        let mut bytes = Vec::new();
        frame::encode_header(&mut bytes, frame::TEXT, text.len(), None);
        bytes.extend_from_slice(text);
        match self.fault {
            Fault::Lose if is_faulty => bytes.clear(),
            Fault::Repeat if is_faulty => bytes.extend_from_within(..),
            Fault::Delay if is_faulty => self.delayed = std::mem::take(&mut bytes),
            Fault::Delay => bytes.append(&mut self.delayed),
            Fault::Alter if is_faulty => {
                // The number of a publication, or a letter of an echo's filler.
                let number = memchr::memmem::find(&bytes, br#""n":"#).map(|at| at + 4);
                bytes[number.unwrap_or(30)] ^= 1;
            }
            Fault::None | Fault::Lose | Fault::Repeat | Fault::Alter => {}
        }
        // A client that is done is gone.
        let _ = self.stream.write_all(&bytes);
    }
}

#[derive(Default)]
struct Room {
    members: Vec<Peer>,
    offset: u64,
}

/// Starts the server and returns its URL without a path.
fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let room = Arc::new(Mutex::new(Room::default()));
        for (index, stream) in listener.incoming().enumerate() {
            let fault = if index == 0 { fault } else { Fault::None };
            let room = Arc::clone(&room);
            std::thread::spawn(move || serve(stream.unwrap(), fault, &room));
        }
    });
    url
}

fn serve(mut stream: TcpStream, fault: Fault, room: &Mutex<Room>) {
    stream.set_nodelay(true).unwrap();
    let mut request = [0; 1024];
    let size = stream.read(&mut request).unwrap();
    let is_echo = request[..size].starts_with(b"GET /echo");
    let subprotocol = if is_echo { "" } else { "Sec-WebSocket-Protocol: clarion.v1.json\r\n" };
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{subprotocol}\r\n"
    );
    stream.write_all(response.as_bytes()).unwrap();
    let peer = |stream: &TcpStream, fault| Peer {
        stream: stream.try_clone().unwrap(),
        fault,
        sent: 0,
        delayed: Vec::new(),
    };
    let mut direct = peer(&stream, if is_echo { fault } else { Fault::None });
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(size @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..size]);
        let mut frames = Frames::new(&bytes);
        while let Some(frame) = frames.next().unwrap() {
            let mut text = frame.payload.to_vec();
            frame::apply_mask(&mut text, frame.header.mask.unwrap());
            if is_echo {
                direct.send(&text);
                continue;
            }
            let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
            if text.starts_with(br#"{"type":"$join""#) {
                room.members.push(peer(&stream, fault));
                direct
                    .send(br#"{"type":"$reply","payload":{"offset":0},"metadata":{"id":"join"}}"#);
            } else if text.starts_with(br#"{"type":"$hello""#) {
                direct.send(br#"{"type":"$welcome","payload":{},"metadata":{"id":"hello"}}"#);
            } else {
                let n = envelope::sequence_number(&text).unwrap();
                room.offset += 1;
                let offset = room.offset;
                let delivery = format!(
                    r#"{{"type":"bench","payload":{{"n":{n}}},"metadata":{{"offset":{offset},"time":""}}}}"#
                );
                room.members.iter_mut().for_each(|member| member.send(delivery.as_bytes()));
                direct.send(
                    format!(r#"{{"type":"$reply","payload":{{"offset":{offset}}},"metadata":{{"id":{n}}}}}"#)
                        .as_bytes(),
                );
            }
        }
        let rest = frames.rest().len();
        bytes.drain(..bytes.len() - rest);
    }
}

fn schedule() -> Schedule {
    Schedule { seconds: 0.05, messages: None, warmup: 0.0, spin: false, server_pid: None }
}

fn echo_verdict(fault: Fault) -> Verdict {
    let url = format!("{}/echo", start(fault)).parse().unwrap();
    let args =
        EchoArgs { url, connections: 3, depth: 4, size: 64, bare: false, schedule: schedule() };
    let mut echo = Echo::open(&args).unwrap();
    assert!(echo.run(&schedule()).unwrap().messages > 10);
    echo.verdict()
}

fn room(fault: Fault, publishers: usize, in_flight: usize) -> Fanout {
    let args = FanoutArgs {
        url: format!("{}/ws", start(fault)).parse().unwrap(),
        members: 3,
        publishers,
        in_flight,
        size: 10,
        room: "bench".to_owned(),
        bare: false,
        delivery_size: 0,
        schedule: schedule(),
    };
    Fanout::open(&args).unwrap()
}

fn fanout_verdict(fault: Fault, publishers: usize, in_flight: usize) -> Verdict {
    let mut room = room(fault, publishers, in_flight);
    room.run(&schedule()).unwrap();
    room.verdict()
}

#[test]
fn right_answers_are_clean() {
    assert_eq!(echo_verdict(Fault::None), Verdict::default());
    for (publishers, in_flight) in [(1, 1), (1, 16), (4, 1), (3, 5)] {
        assert_eq!(fanout_verdict(Fault::None, publishers, in_flight), Verdict::default());
    }
}

#[test]
fn lost_message_is_found() {
    let expected = Verdict { lost: 1, ..Verdict::default() };
    assert_eq!(echo_verdict(Fault::Lose), expected);
    assert_eq!(fanout_verdict(Fault::Lose, 1, 16), expected);
}

#[test]
fn loss_stops_one_publish_at_a_time_but_is_told() {
    let mut room = room(Fault::Lose, 1, 1);
    let measured = room.run(&schedule()).unwrap();
    assert!(measured.messages < 3 * FAULTY as u64, "nothing is published behind the lost one");
    assert_eq!(room.verdict(), Verdict { lost: 1, ..Verdict::default() });
}

#[test]
fn repeated_message_is_found() {
    let expected = Verdict { duplicated: 1, ..Verdict::default() };
    assert_eq!(echo_verdict(Fault::Repeat), expected);
    assert_eq!(fanout_verdict(Fault::Repeat, 1, 16), expected);
}

#[test]
fn delayed_message_is_found() {
    let expected = Verdict { reordered: 1, ..Verdict::default() };
    assert_eq!(echo_verdict(Fault::Delay), expected);
    assert_eq!(fanout_verdict(Fault::Delay, 1, 16), expected);
}

#[test]
fn altered_message_is_found() {
    // What was altered is not what was sent, so that is lost as well.
    let expected = Verdict { lost: 1, corrupt: 1, ..Verdict::default() };
    assert_eq!(echo_verdict(Fault::Alter), expected);
    assert!(fanout_verdict(Fault::Alter, 1, 16).corrupt > 0);
}
