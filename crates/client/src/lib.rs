//! A client of a Clarion server: rooms, recovery and publications over one WebSocket.
//!
//! ```no_run
//! use clarion_client::{Client, RoomEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("ws://127.0.0.1:8080/ws").connect()?;
//! let room = client.room("general");
//! let mut events = room.events();
//! room.join().last(10).await?;
//! room.publish("chat_message", &serde_json::json!({"message": "Hello"})).await?;
//! while let Some(event) = events.next().await {
//!     match event {
//!         Ok(RoomEvent::Publication(publication)) => println!("{}", publication.payload.text()),
//!         Ok(RoomEvent::Gap(gap)) => println!("something is lost: {}", gap.reason),
//!         Ok(_) => {}
//!         Err(lagged) => println!("this program was too slow: {lagged}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A [`Client`] connects, comes back when its connection is lost, and tells by its
//! [status](Client::status) why and when. A [`Room`] that was joined stays joined over that: what
//! was missed is replayed, each publication once and in order, or a gap says that it cannot be. A
//! publication without a connection waits for one, within bounds, and one whose answer was lost is
//! repeated with its key, so that the server counts it once.
//!
//! Both are cheap handles on one task. It ends when the last of them is dropped; the connection is
//! then closed in order. Every call settles: by the server's answer, or by an error that says
//! whose fault it is and whether to try again ([`CommandError`]).
//!
//! # What was missed, and the inbox
//!
//! ```no_run
//! use clarion_client::{Client, Publication, RoomEvent};
//!
//! # fn save(_: &Publication) -> std::io::Result<()> { Ok(()) }
//! # async fn example(token: String) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder("ws://127.0.0.1:8080/ws").token(token).build()?;
//! let mut inbox = client.room("$user/ada").events();
//! client.connect();
//! while let Some(event) = inbox.next().await {
//!     match event? {
//!         // Acknowledged when this loop asks for the next event, so not if it ends here.
//!         RoomEvent::Publication(publication) => save(&publication)?,
//!         // Back, or on a new device: all that was missed follows.
//!         RoomEvent::Recovered { from, to } => println!("{} new", (to + 1).saturating_sub(from)),
//!         RoomEvent::Gap(gap) => println!("some will never come: {}", gap.reason),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What comes to `$user/<me>` while nobody is there waits in its log. A device without a position
//! begins behind what was acknowledged, which is what the readers of [`Room::events`] have handled;
//! [`Builder::auto_ack`] has the details. Guests have no such log.
//!
//! An address with `wss://` is connected to over TLS, 1.2 or 1.3: the certificate has to be for its name, and of an authority
//! that the operating system trusts or that [`Builder::trust`] names.
//!
//! It is not on crates.io yet: depend on it by `path` or `git`. [`core`] is what the client decides, without a runtime; it is
//! there without the feature `tokio`, too.

pub mod core;

#[cfg(feature = "tokio")]
mod builder;
#[cfg(feature = "tokio")]
mod call;
#[cfg(feature = "tokio")]
mod client;
#[cfg(feature = "tokio")]
mod driver;
#[cfg(feature = "tokio")]
mod endpoint;
#[cfg(feature = "tokio")]
mod events;
#[cfg(feature = "tokio")]
mod inbox;
#[cfg(feature = "tokio")]
mod link;
#[cfg(feature = "tokio")]
mod opening;
#[cfg(feature = "tokio")]
mod room;
#[cfg(feature = "tokio")]
mod shared;
#[cfg(feature = "tokio")]
mod socket;
#[cfg(feature = "tokio")]
mod stream;
#[cfg(feature = "tokio")]
mod tls;

#[cfg(feature = "tokio")]
pub use crate::{
    builder::{BuildError, Builder},
    call::Call,
    client::Client,
    endpoint::UrlError,
    events::{Events, Lagged},
    room::{History, Join, ListMembers, Publish, Room},
};

pub use crate::core::codec::{
    Ack, Gap, HistoryPage, Json, Limits, Member, MembersPage, Publication, Sender,
};
pub use crate::core::{
    ClientError, ClientEvent, ClientState, CommandError, Fault, MembersSnapshot, OutboxLimits,
    PublishError, Refused, RoomEvent, RoomState, Session, StateEvent, Status, TokenError,
    TokenReason,
};
pub use clarion_protocol::{Epoch, Offset, Position};
