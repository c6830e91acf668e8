//! The crate from outside: two ends in one thread, and scripts of frames against one end.

mod deflate;
mod fuzz;
mod handshake;
mod inflate;
mod negotiation;
mod pair;
mod properties;
mod rules;
mod scenarios;
mod script;
