//! Resume tickets: everything a session is, authenticated, in the client's keeping.
//!
//! A ticket is `base64url(version ‖ nonce ‖ client id ‖ expiries ‖ flags ‖ user ‖ groups ‖ info ‖ MAC)`. Any worker
//! and any node that has the key verifies it without asking anyone; the server keeps nothing.
//! It is authenticated, not encrypted: it says to the client only what the client knows.

use crate::effects::Grants;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clarion_protocol::{ClientId, Sender};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const VERSION: u8 = 2;
const MAC_SIZE: usize = 16;
const GUEST: u8 = 1;
const INFO: u8 = 2;

/// What a good ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) sender: Sender,
    pub(crate) grants: Grants,
    pub(crate) guest: bool,
    /// When the ticket ends, Unix milliseconds.
    pub(crate) expires_at_ms: u64,
    /// When the token behind it ends; 0 for never.
    pub(crate) token_expires_at_ms: u64,
}

/// Issues and verifies tickets.
#[derive(Clone)]
pub(crate) struct Tickets {
    /// Keyed once; cloned for each ticket.
    mac: Hmac<Sha256>,
}

impl Tickets {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { mac: Hmac::new_from_slice(key).expect("HMAC takes keys of every length") }
    }

    /// A ticket unlike any other: two of one session in one millisecond differ by `nonce`.
    pub(crate) fn issue(&self, ticket: &Ticket, nonce: [u8; 8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&nonce);
        let client = ticket.sender.client.expect("a session has a client id");
        bytes.extend_from_slice(&client.0);
        bytes.extend_from_slice(&ticket.expires_at_ms.to_be_bytes());
        bytes.extend_from_slice(&ticket.token_expires_at_ms.to_be_bytes());
        let info = ticket.sender.info.as_deref();
        bytes.push(if ticket.guest { GUEST } else { 0 } | if info.is_some() { INFO } else { 0 });
        let user = ticket.sender.user.as_deref().unwrap_or_default();
        bytes.push(u8::try_from(user.len()).expect("user ids have at most 96 bytes"));
        bytes.extend_from_slice(user.as_bytes());
        // A group is one segment, so it has no `/`.
        let groups = ticket.grants.groups.join("/");
        bytes.extend_from_slice(
            &u32::try_from(groups.len()).expect("tokens are small").to_be_bytes(),
        );
        bytes.extend_from_slice(groups.as_bytes());
        bytes.extend_from_slice(info.unwrap_or_default().as_bytes());
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_SIZE]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the ticket says, if it is one of ours and has not expired.
    pub(crate) fn verify(&self, ticket: &str, now_ms: u64) -> Option<Ticket> {
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_SIZE)?)?;
        self.mac.clone().chain_update(body).verify_truncated_left(mac).ok()?;
        let mut rest = body;
        let [version] = take(&mut rest)?;
        let _nonce: [u8; 8] = take(&mut rest)?;
        let client = ClientId(take(&mut rest)?);
        let expires_at_ms = u64::from_be_bytes(take(&mut rest)?);
        let token_expires_at_ms = u64::from_be_bytes(take(&mut rest)?);
        let [flags, user_size] = take(&mut rest)?;
        let (user, mut rest) = rest.split_at_checked(usize::from(user_size))?;
        let groups_size = u32::from_be_bytes(take(&mut rest)?);
        let (groups, info) = rest.split_at_checked(usize::try_from(groups_size).ok()?)?;
        let groups = std::str::from_utf8(groups).ok()?;
        let user = std::str::from_utf8(user).ok()?.into();
        let info = std::str::from_utf8(info).ok()?;
        if version != VERSION || expires_at_ms <= now_ms {
            return None;
        }
        let info = (flags & INFO != 0).then(|| info.into());
        let sender = Sender { client: Some(client), user: Some(user), info };
        let guest = flags & GUEST != 0;
        let groups = groups.split('/').filter(|group| !group.is_empty()).map(Into::into);
        let grants = Grants { groups: groups.collect(), ..Grants::default() };
        Some(Ticket { sender, grants, guest, expires_at_ms, token_expires_at_ms })
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets(..)")
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            sender: Sender {
                client: Some(ClientId([7; 16])),
                user: Some("ada".into()),
                info: Some("{\"name\":\"Ada\"}".into()),
            },
            grants: Grants { groups: vec!["staff".into(), "berlin".into()], ..Grants::default() },
            guest: false,
            expires_at_ms: 1_000,
            token_expires_at_ms: 900,
        }
    }

    // [3.ticket]
    #[test]
    fn a_ticket_says_what_was_put_in_until_it_expires() {
        let tickets = Tickets::new(&[1; 32]);
        let text = tickets.issue(&ticket(), [9; 8]);
        assert_eq!(tickets.verify(&text, 999), Some(ticket()));
        assert_eq!(tickets.verify(&text, 1_000), None);
        assert_ne!(tickets.issue(&ticket(), [8; 8]), text);
    }

    // [3.ticket] [3.resume.forged]
    #[test]
    fn another_key_or_any_changed_byte_is_refused() {
        let tickets = Tickets::new(&[1; 32]);
        let text = tickets.issue(&ticket(), [9; 8]);
        assert_eq!(Tickets::new(&[2; 32]).verify(&text, 0), None);
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for index in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[index] ^= 1;
            assert_eq!(tickets.verify(&URL_SAFE_NO_PAD.encode(&forged), 0), None, "byte {index}");
        }
        for size in 0..bytes.len() {
            assert_eq!(tickets.verify(&URL_SAFE_NO_PAD.encode(&bytes[..size]), 0), None);
        }
        assert_eq!(tickets.verify("!", 0), None);
    }
}
