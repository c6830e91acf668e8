//! What fuzzing does with an input: each target decodes some bytes into calls, makes them, and
//! panics if anything is not as promised.
//!
//! The fuzzer itself is in `fuzz/`, outside of the workspace, and only hands its inputs over. So
//! the inputs in `fuzz/seeds/` run as ordinary tests here, on any toolchain.
//!
//! An input is read from front to back as choices and payloads (see `Input`), and whatever is
//! missing is zero. So every input means something, and a longer one means more.

mod book;
mod calls;
mod deflate;
mod end;
mod envelope;
mod frames;
mod handshake;
mod input;
mod token;

/// One target: its name, which is that of its folder in `fuzz/seeds/`, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("frames", frames::run),
    ("handshake", handshake::run),
    ("deflate", deflate::run),
    ("envelope", envelope::run),
    ("token", token::run),
    ("calls", calls::run),
    ("shards", clarion_sim::calls),
];

/// Runs the target of this name.
///
/// # Panics
/// If there is none, or if the input shows a bug.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(it, _)| *it == name).expect("a target of this name");
    target(input);
}
