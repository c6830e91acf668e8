//! What the front hands a worker: sockets, questions of the HTTP API, the end.
//!
//! The queue's bound is the front's: it holds no more than the sockets that the front may have
//! under way (`limits.http_connections`), and for each of them a few questions, or as many
//! publications as fit into a request.

use super::doorbell::Doorbell;
use super::load::Seat;
use crate::front::{Admission, Stream};
use bytes::Bytes;
use clarion_engine::effects::Credentials;
use clarion_engine::{Endpoint, Mail};
use clarion_websocket::deflate::Agreed;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// A connection whose handshake is done.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    /// What came behind the request.
    pub(crate) read: Bytes,
    pub(crate) endpoint: Endpoint,
    /// What was agreed on for compression, if it was.
    pub(crate) deflate: Option<Agreed>,
    /// `clarion.v1.json` was agreed on.
    pub(crate) hello: bool,
    pub(crate) peer: SocketAddr,
    pub(crate) credentials: Option<Credentials>,
    /// Whether a client without a token is a guest.
    pub(crate) guests: bool,
    pub(crate) seat: Seat,
    /// Its address counts it until it ends; `None` if no limit per address applies to it.
    pub(crate) admission: Option<Admission>,
}

/// One item for a worker.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A connection.
    Arrival(Box<Arrival>),
    /// A question of the HTTP API.
    Mail(Mail),
    /// Say goodbye to every connection.
    Drain,
    /// End the thread.
    Stop,
}

/// The way from the front to one worker.
#[derive(Debug)]
pub(crate) struct Injector {
    queue: Mutex<Vec<Inbound>>,
    bell: Arc<Doorbell>,
}

impl Injector {
    pub(crate) fn new(bell: Arc<Doorbell>) -> Self {
        Self { queue: Mutex::default(), bell }
    }

    /// Brings an item and wakes the worker.
    pub(crate) fn push(&self, item: Inbound) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(item);
        self.bell.ring();
    }

    /// Brings several items at once, in their order, and wakes the worker.
    pub(crate) fn push_all(&self, items: impl IntoIterator<Item = Inbound>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).extend(items);
        self.bell.ring();
    }

    /// Moves everything into `into`.
    pub(crate) fn take(&self, into: &mut Vec<Inbound>) {
        into.append(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
