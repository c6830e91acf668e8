//! What every adapter has to pass.

mod common;

clarion_store::conformance!(common::Waited::new);
