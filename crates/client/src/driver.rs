//! The task of a client: it opens sockets, keeps the time and fetches tokens. All thinking is the
//! core's.

use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use crate::builder::Config;
use crate::core::{FetchId, TokenError};
use crate::endpoint::Endpoint;
use crate::opening::Failure;
use crate::shared::{Shared, Todo};
use crate::socket;

/// Runs until no handle is left and every socket is closed.
pub(crate) fn drive(
    shared: Arc<Shared>,
    config: Arc<Config>,
) -> impl Future<Output = ()> + Send + 'static {
    // If the runtime goes first, even before this ever ran, nobody may wait for ever.
    let guard = EndGuard(shared.clone());
    async move {
        let _guard = guard;
        run(shared, config).await;
    }
}

async fn run(shared: Arc<Shared>, config: Arc<Config>) {
    let mut sockets = JoinSet::new();
    let mut fetching = JoinSet::new();
    let mut newest_fetch = None;
    loop {
        let Todo { opens, fetch, deadline, ended } = shared.take_todo();
        for (conn, url, link) in opens {
            match endpoint(&config, url.as_deref()) {
                Ok(endpoint) => {
                    let (shared, config) = (shared.clone(), config.clone());
                    sockets.spawn(socket::run(shared, config, conn, link, endpoint));
                }
                Err(failure) => {
                    socket::failed(&shared, conn, failure);
                    shared.forget(conn);
                }
            }
        }
        if let Some((fetch, reason)) = fetch {
            fetching.abort_all();
            newest_fetch = Some(fetch);
            let config = config.clone();
            // The provider is called there, too, so that it may panic at any point.
            fetching.spawn(async move { (fetch, config.fetch_token(reason).await) });
        }
        if ended {
            fetching.abort_all();
            if sockets.is_empty() {
                return;
            }
        }
        tokio::select! {
            () = shared.has_work() => {}
            () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                shared.with(|core, now| core.on_tick(now));
            }
            Some(fetched) = fetching.join_next() => match fetched {
                Ok((fetch, result)) => shared.on_token(fetch, result),
                Err(error) if error.is_panic() => gave_up(&shared, newest_fetch.take()),
                // A newer one took its place.
                Err(_) => {}
            },
            Some(_) = sockets.join_next() => {}
        }
    }
}

fn endpoint(config: &Config, url: Option<&str>) -> Result<Endpoint, Failure> {
    match url {
        None => Ok(config.endpoint.clone()),
        Some(url) => {
            let bad = |why: &str| Failure::new("bad_url", format!("where to move to: {why}"));
            let endpoint = Endpoint::parse(url).map_err(|error| bad(&error.to_string()))?;
            // What it would say there, a ticket and a token, is for nobody else's eyes.
            if config.endpoint.tls && !endpoint.tls {
                return Err(bad("it has no TLS, and where we were had"));
            }
            Ok(endpoint)
        }
    }
}

fn gave_up(shared: &Shared, fetch: Option<FetchId>) {
    if let Some(fetch) = fetch {
        let why = "the token provider panicked".to_owned();
        shared.on_token(fetch, Err(TokenError::Failed(why)));
    }
}

struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Trust;

    #[test]
    fn nobody_is_moved_from_tls_to_none() {
        let moved = |from: &str, to: &str| {
            let config = Config {
                endpoint: Endpoint::parse(from).unwrap(),
                compression: false,
                message_bytes_max: 0,
                token_provider: None,
                trust: Trust::new(Vec::new()),
            };
            endpoint(&config, Some(to)).map(|endpoint| endpoint.host).map_err(|failure| failure.why)
        };
        assert_eq!(moved("wss://a/", "wss://b/"), Ok("b".to_owned()));
        assert_eq!(moved("ws://a/", "wss://b/"), Ok("b".to_owned()));
        assert_eq!(moved("ws://a/", "ws://b/"), Ok("b".to_owned()));
        assert!(moved("wss://a/", "ws://b/").unwrap_err().contains("has no TLS"));
    }
}
