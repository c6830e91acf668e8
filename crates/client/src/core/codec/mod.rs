//! The wire: one JSON object per WebSocket text message (sections 2 to 4).
//!
//! Only this module turns text into values and back; a binary form would take its place. It reads
//! leniently, as section 2 asks of clients: what it does not know it ignores. Its files are called
//! as those of the server's side of the wire in `clarion_protocol`.

mod decode;
mod encode;
mod incoming;
mod json;
mod publication;
mod push;
mod reply;

pub use decode::{ack, decode, expires_at_ms, history, joined, members};
pub(super) use encode::is_publication_type;
pub use encode::{
    Metadata, ack_payload, encode, hello_payload, history_payload, join_payload, members_payload,
    refresh_payload,
};
pub use incoming::{Id, Incoming};
pub use json::Json;
pub use publication::{Publication, Sender};
pub use push::{Gap, Limits, Member, MembersChange, Welcome};
pub use reply::{Ack, HistoryPage, Joined, MembersPage};
