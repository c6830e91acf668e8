//! Who somebody is, answered at once. Verifiers that must ask somebody else answer later, by mail.

use clarion_engine::effects::{AuthOutcome, Credentials};

/// Says who a client is. `guests`: whether one without a token is a guest on its connection.
pub(crate) fn authenticate(credentials: &Credentials, guests: bool) -> AuthOutcome {
    match credentials {
        Credentials::Token(_) => AuthOutcome::Denied("this server has no token verifier"),
        Credentials::None if guests => AuthOutcome::Guest,
        Credentials::None => AuthOutcome::Denied("guests are not allowed here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_come_in_where_they_are_allowed() {
        assert_eq!(authenticate(&Credentials::None, true), AuthOutcome::Guest);
        assert!(matches!(authenticate(&Credentials::None, false), AuthOutcome::Denied(_)));
        let token = Credentials::Token("x".into());
        assert!(matches!(authenticate(&token, true), AuthOutcome::Denied(_)));
    }
}
