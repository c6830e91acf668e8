//! Puts frames on the wire as this end's role demands. Whether they may be sent is the
//! connection's question.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::deflate::{self, Deflater};
use crate::mask::Key;
use crate::{Opcode, Role, frame};

/// The sending half of a connection.
pub(crate) enum Writer {
    Server,
    /// "The masking key needs to be unpredictable; thus, the masking key MUST be derived from a
    /// strong source of entropy" (RFC 6455 section 5.3). Boxed, since a server has none.
    Client(Box<ChaCha20Rng>),
}

impl Writer {
    pub(crate) fn client(seed: [u8; 32]) -> Self {
        Self::Client(Box::new(ChaCha20Rng::from_seed(seed)))
    }

    pub(crate) fn role(&self) -> Role {
        match self {
            Self::Server => Role::Server,
            Self::Client(_) => Role::Client,
        }
    }

    /// Appends one frame to `out`. A client takes a fresh key for it.
    pub(crate) fn frame(&mut self, opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
        frame::encode_frame(opcode, self.mask(), payload, out);
    }

    /// Appends one frame with its payload compressed, or none if that is not shorter.
    pub(crate) fn compressed_frame(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        deflater: Deflater<'_>,
        out: &mut Vec<u8>,
    ) -> bool {
        deflate::append(opcode, self.mask(), payload, deflater, out)
    }

    fn mask(&mut self) -> Option<Key> {
        match self {
            Self::Server => None,
            Self::Client(keys) => Some(keys.next_u32().to_ne_bytes()),
        }
    }
}
