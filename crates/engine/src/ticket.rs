//! Resume tickets: everything a session is, authenticated, in the client's keeping.
//!
//! A ticket is `base64url(body ‖ MAC)`, and [`Tickets::issue`] says what is in the body. Any worker
//! and any node that has the key verifies it without asking anyone; the server keeps nothing.
//! It is authenticated, not encrypted: it says to the client only what the client knows.
//!
//! What a ticket repeats of a token is at most [`Grants::BYTES_MAX`] and some 300 bytes; a token that
//! says more is refused.

use crate::effects::{Actions, Grants, RoomGrant, TokenLimits};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clarion_protocol::{ClientId, Pattern, Sender};
use hmac::{Hmac, Mac};
use sha2::Sha256;

const VERSION: u8 = 3;
const MAC_SIZE: usize = 16;
const GUEST: u8 = 1;
const INFO: u8 = 2;
/// The token lists rooms, be they none.
const ROOMS: u8 = 4;
/// The token has an id.
const TOKEN_ID: u8 = 8;

/// What a good ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) sender: Sender,
    pub(crate) grants: Grants,
    pub(crate) guest: bool,
    /// When the ticket ends, Unix milliseconds.
    pub(crate) expires_at_ms: u64,
    /// When the token behind it was issued; 0 if it does not say, or there is none.
    pub(crate) issued_at_ms: u64,
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
        let Ticket { sender, grants, guest, .. } = ticket;
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sender.client.expect("a session has a client id").0);
        for at_ms in [ticket.expires_at_ms, ticket.issued_at_ms, ticket.token_expires_at_ms] {
            bytes.extend_from_slice(&at_ms.to_be_bytes());
        }
        bytes.push(
            flag(*guest, GUEST)
                | flag(sender.info.is_some(), INFO)
                | flag(grants.rooms.is_some(), ROOMS)
                | flag(grants.token_id.is_some(), TOKEN_ID),
        );
        let TokenLimits { publish_per_s, commands_per_s, rooms } = grants.limits;
        for limit in [publish_per_s, commands_per_s, rooms] {
            bytes.push(u8::from(limit.is_some()));
            bytes.extend_from_slice(&limit.unwrap_or(0).to_be_bytes());
        }
        put(&mut bytes, sender.user.as_deref().unwrap_or_default());
        put(&mut bytes, grants.token_id.as_deref().unwrap_or_default());
        put(&mut bytes, sender.info.as_deref().unwrap_or_default());
        bytes.extend_from_slice(&count(grants.groups.len()));
        grants.groups.iter().for_each(|group| put(&mut bytes, group));
        let rooms = grants.rooms.as_deref().unwrap_or_default();
        bytes.extend_from_slice(&count(rooms.len()));
        for RoomGrant { pattern, actions } in rooms {
            bytes.push(actions.bits());
            put(&mut bytes, pattern.as_str());
        }
        let mac = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_SIZE]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What the ticket says, if it is one of ours and has not expired.
    pub(crate) fn verify(&self, ticket: &str, now_ms: u64) -> Option<Ticket> {
        let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_SIZE)?)?;
        self.mac.clone().chain_update(body).verify_truncated_left(mac).ok()?;
        let rest = &mut &*body;
        let [version] = take(rest)?;
        let _nonce: [u8; 8] = take(rest)?;
        let client = ClientId(take(rest)?);
        let expires_at_ms = u64::from_be_bytes(take(rest)?);
        let issued_at_ms = u64::from_be_bytes(take(rest)?);
        let token_expires_at_ms = u64::from_be_bytes(take(rest)?);
        if version != VERSION || expires_at_ms <= now_ms {
            return None;
        }
        let [flags] = take(rest)?;
        let limits = TokenLimits {
            publish_per_s: take_limit(rest)?,
            commands_per_s: take_limit(rest)?,
            rooms: take_limit(rest)?,
        };
        let user = take_text(rest)?.into();
        let token_id = take_text(rest)?;
        let info = take_text(rest)?;
        let groups = (0..u16::from_be_bytes(take(rest)?)).map(|_| Some(take_text(rest)?.into()));
        let groups = groups.collect::<Option<_>>()?;
        let rooms = (0..u16::from_be_bytes(take(rest)?)).map(|_| {
            let [bits] = take(rest)?;
            let actions = Actions::from_bits(bits)?;
            Some(RoomGrant { pattern: Pattern::parse(take_text(rest)?).ok()?, actions })
        });
        let rooms = rooms.collect::<Option<_>>()?;
        let sender = Sender {
            client: Some(client),
            user: Some(user),
            info: (flags & INFO != 0).then(|| info.into()),
        };
        let grants = Grants {
            groups,
            rooms: (flags & ROOMS != 0).then_some(rooms),
            limits,
            token_id: (flags & TOKEN_ID != 0).then(|| token_id.into()),
        };
        let guest = flags & GUEST != 0;
        Some(Ticket { sender, grants, guest, expires_at_ms, issued_at_ms, token_expires_at_ms })
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

/// Texts and lists are short: whoever is let in was held to [`Grants::BYTES_MAX`].
fn count(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("tokens are small").to_be_bytes()
}

fn put(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&count(text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let size = u16::from_be_bytes(take(rest)?);
    let (text, tail) = rest.split_at_checked(usize::from(size))?;
    *rest = tail;
    std::str::from_utf8(text).ok()
}

fn take_limit(rest: &mut &[u8]) -> Option<Option<u32>> {
    let [is] = take(rest)?;
    let limit = u32::from_be_bytes(take(rest)?);
    Some((is != 0).then_some(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effects::Action;

    fn ticket() -> Ticket {
        Ticket {
            sender: Sender {
                client: Some(ClientId([7; 16])),
                user: Some("ada".into()),
                info: Some("{\"name\":\"Ada\"}".into()),
            },
            grants: Grants {
                groups: vec!["staff".into(), "berlin".into()],
                rooms: Some(vec![RoomGrant {
                    pattern: Pattern::parse("chat/**").unwrap(),
                    actions: [Action::Join, Action::State].into_iter().collect(),
                }]),
                limits: TokenLimits { rooms: Some(3), ..TokenLimits::default() },
                token_id: Some("t1".into()),
            },
            guest: false,
            expires_at_ms: 1_000,
            issued_at_ms: 100,
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
        // No list is something else than an empty one, which allows nothing.
        for rooms in [None, Some(Vec::new())] {
            let said = Ticket { grants: Grants { rooms, ..Grants::default() }, ..ticket() };
            assert_eq!(tickets.verify(&tickets.issue(&said, [9; 8]), 0), Some(said));
        }
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
