//! The three echoes, each with the defaults of its library. All check that text is UTF-8.

use std::future::Future;
use std::io::{Read, Write};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use clarion_websocket::{Connection, Event, Limits, Opcode, frame};
use fastwebsockets::{Frame, OpCode, Role, WebSocket};
use tungstenite::protocol::Role as TungsteniteRole;
use tungstenite::{Message, WebSocket as Tungstenite};

use crate::READ_BYTES;
use crate::wire::{Input, Wire};

/// From which size on the server lends an echo to the socket.
const LENT_BYTES_MIN: usize = 16 * 1024;

/// One read, everything in it, and one write of all answers, as a worker does it.
pub fn clarion(input: Input<'_>) -> usize {
    let mut written = 0;
    let mut wire = Wire::new(input, &mut written);
    let mut connection = Connection::server();
    let limits = Limits { message_bytes: 1 << 20, ..Limits::default() };
    let mut buffer = vec![0; READ_BYTES];
    let (mut answers, mut replies) = (Vec::new(), Vec::new());
    loop {
        let size = wire.read(&mut buffer).expect("memory");
        if size == 0 {
            return written;
        }
        let mut input = &mut buffer[..size];
        while let Some(event) = connection.receive(&limits, &mut input, &mut replies) {
            let Event::Text(text) = event else { continue };
            if text.len() < LENT_BYTES_MIN {
                frame::encode(Opcode::Text, text.as_bytes(), &mut answers);
                continue;
            }
            // What is large is not copied, but written from where it was read.
            let mut header = [0; 10];
            let size = frame::encode_header(Opcode::Text, text.len(), &mut header);
            answers.extend_from_slice(&header[..size]);
            wire.write_all(&answers).expect("memory");
            wire.write_all(text.as_bytes()).expect("memory");
            answers.clear();
        }
        wire.write_all(&answers).expect("memory");
        answers.clear();
    }
}

pub fn tungstenite(input: Input<'_>) -> usize {
    let mut written = 0;
    let wire = Wire::new(input, &mut written);
    let mut socket = Tungstenite::from_raw_socket(wire, TungsteniteRole::Server, None);
    while let Ok(message) = socket.read() {
        if let Message::Text(_) = message {
            socket.write(message).expect("memory");
        }
    }
    // An error ended it, at the end of the input; what is still buffered goes out.
    let _ = socket.flush();
    written
}

pub fn fastwebsockets(input: Input<'_>) -> usize {
    let mut written = 0;
    let wire = Wire::new(input, &mut written);
    let mut socket = WebSocket::after_handshake(wire, Role::Server);
    let echo = async move {
        while let Ok(frame) = socket.read_frame().await {
            if frame.opcode == OpCode::Text {
                socket.write_frame(Frame::text(frame.payload)).await.expect("memory");
            }
        }
    };
    // Nothing ever waits, so it is done when it was polled once.
    let Poll::Ready(()) = pin!(echo).poll(&mut Context::from_waker(Waker::noop())) else {
        unreachable!("memory never waits");
    };
    written
}
