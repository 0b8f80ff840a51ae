//! Settings from the environment.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

/// Everything a process needs to know. Every limit has a default.
#[derive(Debug, Clone)]
pub struct Settings {
    pub listen_addr: SocketAddr,
    pub primary: tokio_postgres::Config,
    pub replica: Option<tokio_postgres::Config>,
    /// `redis://host:port` for every node named; empty when Redis is not used.
    pub redis_nodes: Vec<String>,
    pub redis_password: Option<String>,
    /// Connections a pool.
    pub pool_max: usize,
    pub in_flight_max: usize,
    pub local_cache_entries_max: usize,
    pub local_cache_ttl: Duration,
    pub connect_timeout: Duration,
    pub pool_wait_timeout: Duration,
    pub statement_timeout: Duration,
    pub redis_timeout: Duration,
    pub request_timeout: Duration,
    pub drain: Duration,
    pub migrate_max: Duration,
    pub log_level: LevelFilter,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    #[error("environment variable {0} is not set")]
    Missing(&'static str),
    #[error("environment variable {name} is invalid: {reason}")]
    Invalid { name: &'static str, reason: String },
}

impl Settings {
    /// # Errors
    /// Names the first variable that is missing or cannot be used.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_lookup(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`Self::from_env`], from any source.
    ///
    /// # Errors
    /// Names the first variable that is missing or cannot be used.
    pub fn from_lookup(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let millis = |name, default| parsed(env, name, default).map(Duration::from_millis);
        let seconds = |name, default| parsed(env, name, default).map(Duration::from_secs);
        let connect_timeout = millis("CONNECT_TIMEOUT_MS", 2_000)?;
        let password = env("DATABASE_PASSWORD");
        let database = |name: &'static str| {
            env(name).map(|url| database(name, &url, password.as_deref(), connect_timeout)).transpose()
        };
        Ok(Self {
            listen_addr: parsed(env, "LISTEN_ADDR", SocketAddr::from(([0, 0, 0, 0], 8080)))?,
            primary: database("DATABASE_URL")?.ok_or(SettingsError::Missing("DATABASE_URL"))?,
            replica: database("DATABASE_RO_URL")?,
            redis_nodes: redis_nodes(&env("REDIS_NODES").unwrap_or_default())?,
            redis_password: env("REDIS_PASSWORD"),
            pool_max: at_least_one("POOL_MAX", parsed(env, "POOL_MAX", 16)?)?,
            in_flight_max: at_least_one("IN_FLIGHT_MAX", parsed(env, "IN_FLIGHT_MAX", 512)?)?,
            local_cache_entries_max: parsed(env, "LOCAL_CACHE_ENTRIES", 10_000)?,
            local_cache_ttl: millis("LOCAL_CACHE_TTL_MS", 2_000)?,
            connect_timeout,
            pool_wait_timeout: millis("POOL_WAIT_TIMEOUT_MS", 2_000)?,
            statement_timeout: millis("STATEMENT_TIMEOUT_MS", 3_000)?,
            redis_timeout: millis("REDIS_TIMEOUT_MS", 500)?,
            request_timeout: millis("REQUEST_TIMEOUT_MS", 6_000)?,
            drain: seconds("DRAIN_SECONDS", 3)?,
            migrate_max: seconds("MIGRATE_SECONDS", 120)?,
            log_level: parsed(env, "LOG_LEVEL", LevelFilter::INFO)?,
        })
    }
}

fn parsed<T>(env: &dyn Fn(&str) -> Option<String>, name: &'static str, default: T) -> Result<T, SettingsError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    match env(name) {
        None => Ok(default),
        Some(value) => value
            .trim()
            .parse()
            .map_err(|error: T::Err| SettingsError::Invalid { name, reason: format!("{value:?}: {error}") }),
    }
}

fn at_least_one(name: &'static str, value: usize) -> Result<usize, SettingsError> {
    if value == 0 {
        return Err(SettingsError::Invalid { name, reason: "must be at least 1".into() });
    }
    Ok(value)
}

fn database(
    name: &'static str,
    url: &str,
    password: Option<&str>,
    connect_timeout: Duration,
) -> Result<tokio_postgres::Config, SettingsError> {
    // The URL may hold a password: never repeat it in a message.
    let mut config = tokio_postgres::Config::from_str(url)
        .map_err(|error| SettingsError::Invalid { name, reason: format!("not a PostgreSQL URL: {error}") })?;
    if let (None, Some(password)) = (config.get_password(), password) {
        config.password(password);
    }
    if config.get_application_name().is_none() {
        config.application_name("platform");
    }
    config
        .connect_timeout(connect_timeout)
        // A peer that vanished without a word is noticed while the connection is idle, too.
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(5))
        .keepalives_interval(Duration::from_secs(2))
        .keepalives_retries(2)
        .tcp_user_timeout(Duration::from_secs(6));
    Ok(config)
}

fn redis_nodes(list: &str) -> Result<Vec<String>, SettingsError> {
    list.split(',')
        .map(str::trim)
        .filter(|node| !node.is_empty())
        .map(|node| match node.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(format!("redis://{node}"))
            }
            _ => Err(SettingsError::Invalid {
                name: "REDIS_NODES",
                reason: format!("{node:?} is not host:port"),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_lookup(&|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn defaults() {
        let settings = settings(&[("DATABASE_URL", "postgres://u@db:6432/p")]).unwrap();
        assert_eq!(settings.listen_addr.port(), 8080);
        assert_eq!(settings.pool_max, 16);
        assert_eq!(settings.statement_timeout, Duration::from_secs(3));
        assert_eq!(settings.redis_timeout, Duration::from_millis(500));
        assert_eq!(settings.drain, Duration::from_secs(3));
        assert!(settings.replica.is_none() && settings.redis_nodes.is_empty());
    }

    #[test]
    fn the_password_comes_from_its_own_variable_unless_the_url_has_one() {
        for (url, password) in [("postgres://u@db/p", "secret"), ("postgres://u:own@db/p", "own")] {
            let settings = settings(&[("DATABASE_URL", url), ("DATABASE_PASSWORD", "secret")]).unwrap();
            assert_eq!(settings.primary.get_password(), Some(password.as_bytes()));
        }
    }

    #[test]
    fn redis_nodes_are_host_and_port() {
        let nodes = redis_nodes("redis-0.redis:6379, 10.0.0.2:6380,").unwrap();
        assert_eq!(nodes, ["redis://redis-0.redis:6379", "redis://10.0.0.2:6380"]);
        for bad in ["redis", "redis:", ":6379", "redis:99999"] {
            assert!(redis_nodes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_name_the_variable_and_never_the_password() {
        assert_eq!(settings(&[]).unwrap_err(), SettingsError::Missing("DATABASE_URL"));
        let base = ("DATABASE_URL", "postgres://u@db/p");
        for (name, value) in
            [("POOL_MAX", "0"), ("POOL_MAX", "many"), ("LISTEN_ADDR", "8080"), ("LOG_LEVEL", "loud")]
        {
            let message = settings(&[base, (name, value)]).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        let message = settings(&[("DATABASE_URL", "postgres://u:hunter2@db:x/p")]).unwrap_err().to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}
