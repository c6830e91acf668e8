//! A worker without threads or sockets: what [`Effects`] asks for, done when the world says so.

use crate::revoked::Token;
use crate::rng::Rng;
use bytes::Bytes;
use clarion_engine::effects::{AuthOutcome, Credentials, Effects, Grants, Question, Verdict};
use clarion_engine::mail::ApiAnswer;
use clarion_engine::{ApiId, ConnId, Mail, WorkerId};
use clarion_store::Request;
use std::collections::{BTreeMap, VecDeque};

/// The sockets and mailboxes of one worker.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) id: WorkerId,
    pub(crate) sockets: BTreeMap<u32, Socket>,
    /// How often each slot was used.
    generations: Vec<u32>,
    free: Vec<u32>,
    /// Mail to each worker that it has not taken.
    pub(crate) outgoing: BTreeMap<WorkerId, VecDeque<Mail>>,
    /// Workers of which the shard wants to know when they have room.
    pub(crate) want_room: Vec<WorkerId>,
    /// Mail to itself, handled before the turn ends.
    pub(crate) own: VecDeque<Mail>,
    /// Verdicts and authentications that come late.
    pub(crate) late_answers: Vec<Mail>,
    /// With whether it is about what outlives the process.
    pub(crate) submitted: Vec<(bool, Request)>,
    pub(crate) answers: Vec<(ApiId, ApiAnswer)>,
    pub(crate) late: bool,
    pub(crate) rng: Rng,
    /// Reported once: a rule of the seam that the shard broke.
    pub(crate) misuse: Option<String>,
}

/// One connection's socket, the server's end.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) conn: ConnId,
    /// Which client's which connection this is.
    pub(crate) link: usize,
    pub(crate) queue: VecDeque<Bytes>,
    pub(crate) queued: usize,
    pub(crate) paused: bool,
    pub(crate) want_sent: Option<usize>,
    /// Close, and whether after the queue was written.
    pub(crate) closing: Option<bool>,
}

impl Driver {
    pub(crate) fn new(id: WorkerId, workers: u16, late: bool, seed: u64) -> Self {
        let others = (0..workers).map(WorkerId).filter(|worker| *worker != id);
        Self {
            id,
            sockets: BTreeMap::new(),
            generations: Vec::new(),
            free: Vec::new(),
            outgoing: others.map(|worker| (worker, VecDeque::new())).collect(),
            want_room: Vec::new(),
            own: VecDeque::new(),
            late_answers: Vec::new(),
            submitted: Vec::new(),
            answers: Vec::new(),
            late,
            rng: Rng::new(seed ^ u64::from(id.0) << 32 ^ 0xd1ce),
            misuse: None,
        }
    }

    /// Gives out a slot: a used one where there is one, so that stale mail has somebody to hit.
    pub(crate) fn open(&mut self, link: usize) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() as u32 - 1
        });
        let generation = self.generations[index as usize];
        let conn = ConnId { index, generation };
        let socket = Socket {
            conn,
            link,
            queue: VecDeque::new(),
            queued: 0,
            paused: false,
            want_sent: None,
            closing: None,
        };
        self.sockets.insert(index, socket);
        conn
    }

    pub(crate) fn release(&mut self, conn: ConnId) {
        self.sockets.remove(&conn.index);
        self.generations[conn.index as usize] += 1;
        self.free.push(conn.index);
    }

    fn socket(&mut self, conn: ConnId) -> Option<&mut Socket> {
        self.sockets.get_mut(&conn.index).filter(|socket| socket.conn == conn)
    }

    pub(crate) fn mail_bytes(&self, to: WorkerId) -> usize {
        self.outgoing.get(&to).map_or(0, |mail| mail.iter().map(Mail::size).sum())
    }
}

impl Effects for Driver {
    fn send(&mut self, conn: ConnId, chunk: Bytes) {
        match self.socket(conn) {
            Some(socket) => {
                socket.queued += chunk.len();
                socket.queue.push_back(chunk);
            }
            None => self.misuse = Some(format!("send to {conn:?}, which is not open")),
        }
    }

    fn lend(&mut self, conn: ConnId, head: &[u8], body: &[u8]) {
        self.send(conn, Bytes::from([head, body].concat()));
    }

    fn queued(&self, conn: ConnId) -> usize {
        let socket = self.sockets.get(&conn.index).filter(|socket| socket.conn == conn);
        socket.map_or(0, |socket| socket.queued)
    }

    fn want_sent(&mut self, conn: ConnId, below: usize) {
        if let Some(socket) = self.socket(conn) {
            socket.want_sent = Some(below);
        }
    }

    fn close(&mut self, conn: ConnId, after_flush: bool) {
        if let Some(socket) = self.socket(conn) {
            socket.closing = Some(after_flush);
        }
    }

    fn pause_read(&mut self, conn: ConnId, paused: bool) {
        if let Some(socket) = self.socket(conn) {
            socket.paused = paused;
        }
    }

    fn post(&mut self, to: WorkerId, mail: Mail) {
        if to == self.id {
            self.own.push_back(mail);
        } else {
            self.outgoing.get_mut(&to).expect("a worker of this process").push_back(mail);
        }
    }

    fn mail_queued(&self, to: WorkerId) -> usize {
        self.mail_bytes(to)
    }

    fn want_mail_room(&mut self, to: WorkerId) {
        if !self.want_room.contains(&to) {
            self.want_room.push(to);
        }
    }

    fn submit(&mut self, durable: bool, request: Request) {
        self.submitted.push((durable, request));
    }

    fn decide(&mut self, question: &Question) -> Option<Verdict> {
        let verdict = match question.room.as_str() {
            "forbidden" => Verdict::Deny,
            _ => Verdict::Allow,
        };
        if self.late && self.rng.chance(30) {
            let (token, conn) = (question.token, question.conn);
            self.late_answers.push(Mail::Decided { token, conn, verdict });
            return None;
        }
        Some(verdict)
    }

    fn authenticate(&mut self, conn: ConnId, credentials: &Credentials) -> Option<AuthOutcome> {
        let outcome = match credentials {
            Credentials::None => AuthOutcome::Guest,
            Credentials::Token(token) => match Token::parse(token) {
                Some(Token { user, id, issued_at_ms }) => AuthOutcome::User {
                    user: user.into(),
                    info: None,
                    grants: Grants { token_id: id.map(Into::into), ..Grants::default() },
                    issued_at_ms,
                    expires_at_ms: None,
                },
                None => AuthOutcome::Denied("no such token"),
            },
        };
        if self.late && self.rng.chance(30) {
            self.late_answers.push(Mail::Authenticated { conn, outcome });
            return None;
        }
        Some(outcome)
    }

    fn answer(&mut self, api: ApiId, answer: ApiAnswer) {
        self.answers.push((api, answer));
    }

    fn entropy(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.rng.next() as u8;
        }
    }
}
