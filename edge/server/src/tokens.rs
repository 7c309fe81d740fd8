//! The simple tokens of clients. They are created by entries, so every member gets the same tokens.
//! A member drops a token that was not used at this member for a while.
//!
//! Source: etcd v3.7 server/auth/simple_token.go.

use auth::TokenChange;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The maximum number of tokens. A further token is not valid, and its client requests another one.
const TOKENS_MAX: usize = 1_000_000;
/// The time between two searches for expired tokens.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Token {
    user: String,
    used: Instant,
}

#[derive(Debug)]
struct Table {
    tokens: HashMap<String, Token>,
    swept: Instant,
}

/// The tokens, shared by the applier and the workers.
#[derive(Debug)]
pub(crate) struct Tokens {
    table: Mutex<Table>,
    /// How long a token is valid after its last use.
    ttl: Duration,
}

impl Tokens {
    pub(crate) fn new(ttl: Duration) -> Tokens {
        let table = Table { tokens: HashMap::new(), swept: Instant::now() };
        Tokens { table: Mutex::new(table), ttl }
    }

    /// Applies the token changes of applied entries.
    pub(crate) fn change(&self, changes: Vec<TokenChange>, now: Instant) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Table { tokens, swept } = &mut *table;
        if now.duration_since(*swept) >= SWEEP_EVERY {
            *swept = now;
            tokens.retain(|_, token| now.duration_since(token.used) <= self.ttl);
        }
        for change in changes {
            match change {
                // A member with JSON Web Tokens proposes logins without a random part. Their tokens
                // could be guessed.
                TokenChange::Assigned { token, .. } if token.starts_with('.') => {}
                TokenChange::Assigned { token, user } if tokens.len() < TOKENS_MAX => {
                    tokens.insert(token, Token { user, used: now });
                }
                TokenChange::Assigned { user, .. } => {
                    tracing::warn!(user, "too many tokens are in use; a new one is not valid");
                }
                TokenChange::UserGone(user) => tokens.retain(|_, token| token.user != user),
                TokenChange::AllGone => tokens.clear(),
            }
        }
    }

    /// The user of a valid token. Its validity is extended by the TTL.
    pub(crate) fn user_of(&self, token: &str, now: Instant) -> Option<String> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let token = table.tokens.get_mut(token)?;
        if now.duration_since(token.used) > self.ttl {
            return None;
        }
        token.used = now;
        Some(token.user.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(300);

    fn assigned(token: &str, user: &str) -> TokenChange {
        TokenChange::Assigned { token: token.into(), user: user.into() }
    }

    #[test]
    fn a_token_is_valid_until_it_was_not_used_for_its_time() {
        let (tokens, begun) = (Tokens::new(TTL), Instant::now());
        tokens.change(vec![assigned("t.1", "u"), assigned("t.2", "u")], begun);
        let user = |token, at| tokens.user_of(token, begun + at);
        assert_eq!(user("t.1", TTL).as_deref(), Some("u"));
        assert_eq!(user("t.1", 2 * TTL).as_deref(), Some("u"), "it was used meanwhile");
        assert_eq!(user("t.2", 2 * TTL), None);
        assert_eq!(user("t.3", Duration::ZERO), None);
    }

    #[test]
    fn a_token_without_a_random_part_is_not_valid() {
        let (tokens, now) = (Tokens::new(TTL), Instant::now());
        tokens.change(vec![assigned(".1", "u")], now);
        assert_eq!(tokens.user_of(".1", now), None);
    }

    #[test]
    fn expired_tokens_take_no_memory() {
        let (tokens, begun) = (Tokens::new(TTL), Instant::now());
        tokens.change(vec![assigned("t.1", "u")], begun);
        tokens.change(vec![assigned("t.2", "u")], begun + 2 * TTL);
        assert_eq!(tokens.table.lock().unwrap().tokens.len(), 1);
    }

    #[test]
    fn the_tokens_of_a_user_go_with_it() {
        let (tokens, now) = (Tokens::new(TTL), Instant::now());
        tokens.change(vec![assigned("t.1", "u"), assigned("t.2", "v")], now);
        tokens.change(vec![TokenChange::UserGone("u".into())], now);
        assert_eq!(tokens.user_of("t.1", now), None);
        assert_eq!(tokens.user_of("t.2", now).as_deref(), Some("v"));
        tokens.change(vec![TokenChange::AllGone], now);
        assert_eq!(tokens.user_of("t.2", now), None);
    }
}
