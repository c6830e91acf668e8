//! Idempotency keys.

use super::random::Random;

/// Makes keys that differ between clients (103 random bits) and between publications of a client.
#[derive(Default)]
pub(super) struct KeyMaker {
    prefix: String,
    count: u64,
}

impl KeyMaker {
    pub(super) fn next(&mut self, random: &mut Random) -> String {
        if self.prefix.is_empty() {
            let digits = b"0123456789abcdefghijklmnopqrstuvwxyz";
            self.prefix = (0..20).map(|_| char::from(digits[random.below(36) as usize])).collect();
        }
        self.count += 1;
        format!("{}-{}", self.prefix, self.count)
    }
}
