//! Tokens: `session.expiry.user.signature`. The signature tells a forged token from a real one without asking Redis;
//! whether the session still lasts, only Redis knows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::validate::is_user;

/// Longer ones are not ours.
pub const TOKEN_LEN_MAX: usize = 256;
const SESSION_BYTES: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    pub session: String,
    pub user: String,
    /// Seconds since 1970.
    pub expires_at: u64,
}

/// New claims with a session id that nobody can guess; none when the system gives no random bytes.
#[must_use]
pub fn issue(user: &str, ttl: Duration) -> Option<Claims> {
    let mut bytes = [0_u8; SESSION_BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(Claims { session: hex(&bytes), user: user.to_owned(), expires_at: now_s() + ttl.as_secs() })
}

/// The token's text.
#[must_use]
pub fn sign(claims: &Claims, key: &[u8]) -> String {
    let text = format!("{}.{}.{}", claims.session, claims.expires_at, claims.user);
    let signature = hex(&mac(&text, key).finalize().into_bytes());
    format!("{text}.{signature}")
}

/// The claims of a token that we signed and that has not expired.
#[must_use]
pub fn verify(token: &str, key: &[u8], now_s: u64) -> Option<Claims> {
    if token.len() > TOKEN_LEN_MAX {
        return None;
    }
    let (text, signature) = token.rsplit_once('.')?;
    // Compares in constant time.
    mac(text, key).verify_slice(&unhex(signature)?).ok()?;
    let mut fields = text.splitn(3, '.');
    let session = fields.next()?.to_owned();
    let expires_at = fields.next()?.parse().ok().filter(|at| *at > now_s)?;
    let user = fields.next().filter(|user| is_user(user))?.to_owned();
    Some(Claims { session, user, expires_at })
}

/// Seconds since 1970.
#[must_use]
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn mac(text: &str, key: &[u8]) -> Hmac<Sha256> {
    // Keys of any length will do, by the definition of HMAC; the type cannot say so.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
    mac.update(text.as_bytes());
    mac
}

#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[7; 32];

    fn claims() -> Claims {
        Claims { session: "5e55".into(), user: "alice".into(), expires_at: 1_000 }
    }

    #[test]
    fn a_token_is_good_until_it_expires() {
        let token = sign(&claims(), KEY);
        assert_eq!(verify(&token, KEY, 999), Some(claims()));
        assert_eq!(verify(&token, KEY, 1_000), None);
    }

    #[test]
    fn whatever_is_changed_it_is_not_ours() {
        let token = sign(&claims(), KEY);
        assert_eq!(verify(&token, &[8; 32], 1), None);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(verify(&String::from_utf8(bytes).unwrap(), KEY, 1), None, "{at}");
        }
        for junk in ["", ".", "...", "a.b.c.d", &token[..token.len() - 1], &"x".repeat(300), "é.é.é.éé"]
        {
            assert_eq!(verify(junk, KEY, 1), None, "{junk}");
        }
    }

    #[test]
    fn sessions_differ_and_the_longest_user_fits() {
        let user = "u".repeat(crate::validate::USER_LEN_MAX);
        let (a, b) = (issue(&user, Duration::from_secs(9)).unwrap(), issue(&user, Duration::ZERO).unwrap());
        assert_ne!(a.session, b.session);
        assert_eq!(a.session.len(), 32);
        assert!(sign(&a, KEY).len() <= TOKEN_LEN_MAX);
        assert_eq!(verify(&sign(&a, KEY), KEY, now_s()), Some(a));
    }
}
