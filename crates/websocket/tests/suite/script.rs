//! Frames as a peer might send them, rightly or not.

use clarion_websocket::frame::Header;
use clarion_websocket::{Connection, Limits, Opcode};

use crate::pair::{End, Seen};

pub(crate) const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A stream of a client's frames.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(pub(crate) Vec<u8>);

impl Script {
    /// A message in one frame, or a control frame.
    pub(crate) fn whole(self, opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        self.frame(true, opcode, payload)
    }

    /// The first frame of a message, or one that is not the last.
    pub(crate) fn fragment(self, opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        self.frame(false, opcode, payload)
    }

    pub(crate) fn frame(self, fin: bool, opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        self.any_frame(fin, false, opcode, payload.as_ref())
    }

    /// The first frame of a compressed message, whose payload is compressed already.
    pub(crate) fn compressed(self, fin: bool, opcode: Opcode, payload: impl AsRef<[u8]>) -> Self {
        self.any_frame(fin, true, opcode, payload.as_ref())
    }

    fn any_frame(mut self, fin: bool, compressed: bool, opcode: Opcode, payload: &[u8]) -> Self {
        let payload_size = payload.len() as u64;
        Header { fin, compressed, opcode, mask: Some(MASK), payload_size }.encode(&mut self.0);
        self.0.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// What a server makes of this in one read: its events, and its answers.
    pub(crate) fn play(&self) -> (Vec<Seen>, Vec<u8>) {
        self.play_cut(&Limits::default(), &[])
    }

    pub(crate) fn play_cut(&self, limits: &Limits, cuts: &[usize]) -> (Vec<Seen>, Vec<u8>) {
        self.play_to(Connection::server(), limits, cuts)
    }

    pub(crate) fn play_to(
        &self,
        server: Connection,
        limits: &Limits,
        cuts: &[usize],
    ) -> (Vec<Seen>, Vec<u8>) {
        let mut server = End::new(server);
        server.limits = *limits;
        server.read_cut(&self.0, cuts);
        (server.seen, server.out)
    }

    /// The events of [`play`](Self::play), which are the same for each byte in a read of its own.
    pub(crate) fn events(&self) -> Vec<Seen> {
        self.events_within(&Limits::default())
    }

    pub(crate) fn events_within(&self, limits: &Limits) -> Vec<Seen> {
        let cuts: Vec<usize> = (0..self.0.len()).collect();
        let whole = self.play_cut(limits, &[]);
        assert_eq!(whole, self.play_cut(limits, &cuts));
        whole.0
    }
}
