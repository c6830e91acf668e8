//! The core in virtual time, against a server that the test plays.

mod acks;
mod client;
mod credentials;
mod frames;
mod outbox;
mod properties;
mod room;
mod sessions;
mod world;
