//! The `clarion` binary (being written).
fn main() {}
