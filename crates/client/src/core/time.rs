//! Time as the core sees it.

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back, from any start: what waiting is measured by.
    pub mono_ms: u64,
    /// Milliseconds since 1970: what the expiry of a token is compared with.
    pub wall_ms: u64,
}
