//! Settings from the environment.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;
use tracing::level_filters::LevelFilter;

use crate::cli::{Command, Role};

/// Everything a process needs to know. Every limit has a default; of the addresses only those are required that the
/// role cannot do without ([`required`]).
#[derive(Clone)]
pub struct Settings {
    pub listen_addr: SocketAddr,
    pub primary: Option<tokio_postgres::Config>,
    pub replica: Option<tokio_postgres::Config>,
    /// `redis://host:port` for every node named; empty when Redis is not used.
    pub redis_nodes: Vec<String>,
    pub redis_password: Option<String>,
    /// `host:port` of some brokers; empty when Kafka is not used.
    pub kafka_brokers: Vec<String>,
    pub amqp_url: Option<String>,
    pub amqp_password: Option<String>,
    /// Signs tokens.
    pub token_key: Option<Vec<u8>>,
    pub token_ttl: Duration,
    pub auth_url: Option<Endpoint>,
    pub model_url: Option<Endpoint>,
    pub inference_url: Option<Endpoint>,
    /// Where spans go; without it none are kept.
    pub zipkin_url: Option<Endpoint>,
    /// Connections a pool.
    pub pool_max: usize,
    pub in_flight_max: usize,
    pub local_cache_entries_max: usize,
    pub local_cache_ttl: Duration,
    pub connect_timeout: Duration,
    pub pool_wait_timeout: Duration,
    pub statement_timeout: Duration,
    pub redis_timeout: Duration,
    /// A publish to RabbitMQ until it is confirmed, and a batch to Kafka until it is acknowledged.
    pub publish_timeout: Duration,
    /// One call of another service.
    pub call_timeout: Duration,
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

/// The address of another service, `http://host[:port][/path]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `host[:port]`.
    pub authority: String,
    /// Without a slash at its end.
    pub path: String,
}

impl Endpoint {
    fn parse(name: &'static str, url: &str) -> Result<Self, SettingsError> {
        let parsed = url.strip_prefix("http://").map(|rest| rest.split_once('/').unwrap_or((rest, "")));
        match parsed {
            Some((authority, path)) if !authority.is_empty() && !authority.contains('@') => {
                let path = path.trim_end_matches('/');
                let path = if path.is_empty() { String::new() } else { format!("/{path}") };
                Ok(Self { authority: authority.to_owned(), path })
            }
            _ => Err(SettingsError::Invalid { name, reason: format!("{url:?} is not http://host:port") }),
        }
    }
}

/// What a process cannot start without.
#[must_use]
pub fn required(command: Command) -> &'static [&'static str] {
    match command {
        Command::Migrate | Command::Role(Role::Backend) => &["DATABASE_URL"],
        Command::Role(Role::Auth) => &["DATABASE_URL", "REDIS_NODES", "TOKEN_KEY"],
        Command::Role(Role::Model) => &["DATABASE_URL", "KAFKA_BROKERS"],
        Command::Role(Role::Inference) => &["DATABASE_URL", "AMQP_URL", "KAFKA_BROKERS", "AUTH_URL"],
        Command::Role(Role::Decision) => {
            &["DATABASE_URL", "KAFKA_BROKERS", "AUTH_URL", "MODEL_URL", "INFERENCE_URL"]
        }
        Command::Role(Role::Frontend) => &[],
    }
}

impl Settings {
    /// # Errors
    /// Names the first variable that is missing or cannot be used.
    pub fn from_env(command: Command) -> Result<Self, SettingsError> {
        Self::from_lookup(command, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    /// As [`Self::from_env`], from any source.
    ///
    /// # Errors
    /// Names the first variable that is missing or cannot be used.
    pub fn from_lookup(
        command: Command,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        if let Some(name) = required(command).iter().find(|name| env(name).is_none()) {
            return Err(SettingsError::Missing(name));
        }
        let millis = |name, default| parsed(env, name, default).map(Duration::from_millis);
        let seconds = |name, default| parsed(env, name, default).map(Duration::from_secs);
        let connect_timeout = millis("CONNECT_TIMEOUT_MS", 2_000)?;
        let password = env("DATABASE_PASSWORD");
        let database = |name: &'static str| {
            env(name).map(|url| database(name, &url, password.as_deref(), connect_timeout)).transpose()
        };
        let endpoint = |name: &'static str| env(name).map(|url| Endpoint::parse(name, &url)).transpose();
        Ok(Self {
            listen_addr: parsed(env, "LISTEN_ADDR", SocketAddr::from(([0, 0, 0, 0], 8080)))?,
            primary: database("DATABASE_URL")?,
            replica: database("DATABASE_RO_URL")?,
            redis_nodes: addresses("REDIS_NODES", &env("REDIS_NODES").unwrap_or_default(), "redis://")?,
            redis_password: env("REDIS_PASSWORD"),
            kafka_brokers: addresses("KAFKA_BROKERS", &env("KAFKA_BROKERS").unwrap_or_default(), "")?,
            amqp_url: env("AMQP_URL"),
            amqp_password: env("AMQP_PASSWORD"),
            token_key: env("TOKEN_KEY").map(|text| token_key(&text)).transpose()?,
            token_ttl: seconds("TOKEN_TTL_SECONDS", 3_600)?,
            auth_url: endpoint("AUTH_URL")?,
            model_url: endpoint("MODEL_URL")?,
            inference_url: endpoint("INFERENCE_URL")?,
            zipkin_url: endpoint("ZIPKIN_URL")?,
            pool_max: at_least_one("POOL_MAX", parsed(env, "POOL_MAX", 16)?)?,
            in_flight_max: at_least_one("IN_FLIGHT_MAX", parsed(env, "IN_FLIGHT_MAX", 512)?)?,
            local_cache_entries_max: parsed(env, "LOCAL_CACHE_ENTRIES", 10_000)?,
            local_cache_ttl: millis("LOCAL_CACHE_TTL_MS", 2_000)?,
            connect_timeout,
            pool_wait_timeout: millis("POOL_WAIT_TIMEOUT_MS", 2_000)?,
            statement_timeout: millis("STATEMENT_TIMEOUT_MS", 3_000)?,
            redis_timeout: millis("REDIS_TIMEOUT_MS", 500)?,
            publish_timeout: millis("PUBLISH_TIMEOUT_MS", 3_000)?,
            call_timeout: millis("CALL_TIMEOUT_MS", 1_500)?,
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

fn addresses(name: &'static str, list: &str, scheme: &str) -> Result<Vec<String>, SettingsError> {
    list.split(',')
        .map(str::trim)
        .filter(|node| !node.is_empty())
        .map(|node| match node.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(format!("{scheme}{node}"))
            }
            _ => Err(SettingsError::Invalid { name, reason: format!("{node:?} is not host:port") }),
        })
        .collect()
}

/// 32 bytes or more, as hexadecimal digits. The value is never repeated in a message.
fn token_key(text: &str) -> Result<Vec<u8>, SettingsError> {
    let digits = text.trim();
    let pairs = (0..digits.len()).step_by(2).map(|at| digits.get(at..at + 2));
    let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>();
    bytes.filter(|bytes| bytes.len() >= 32).ok_or(SettingsError::Invalid {
        name: "TOKEN_KEY",
        reason: "must be at least 64 hexadecimal digits".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        of(Role::Backend, pairs)
    }

    fn of(role: Role, pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::from_lookup(Command::Role(role), &|name| {
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
            assert_eq!(settings.primary.unwrap().get_password(), Some(password.as_bytes()));
        }
    }

    #[test]
    fn nodes_are_host_and_port() {
        let nodes = addresses("REDIS_NODES", "redis-0.redis:6379, 10.0.0.2:6380,", "redis://").unwrap();
        assert_eq!(nodes, ["redis://redis-0.redis:6379", "redis://10.0.0.2:6380"]);
        for bad in ["redis", "redis:", ":6379", "redis:99999"] {
            assert!(addresses("KAFKA_BROKERS", bad, "").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_role_asks_for_what_it_cannot_do_without() {
        assert!(of(Role::Frontend, &[]).is_ok());
        for role in Role::ALL {
            for name in required(Command::Role(role)) {
                let all_but: Vec<_> =
                    required(Command::Role(role)).iter().filter(|n| n != &name).map(|n| (*n, "x")).collect();
                assert_eq!(of(role, &all_but).err(), Some(SettingsError::Missing(name)));
            }
        }
    }

    #[test]
    fn endpoints() {
        for (url, authority, path) in [
            ("http://auth", "auth", ""),
            ("http://auth:8080/", "auth:8080", ""),
            ("http://zipkin:9411/api/v2/spans", "zipkin:9411", "/api/v2/spans"),
        ] {
            let endpoint = Endpoint { authority: authority.into(), path: path.into() };
            assert_eq!(Endpoint::parse("X", url), Ok(endpoint));
        }
        for bad in ["auth:80", "https://auth", "http://", "http://u:p@auth"] {
            assert!(Endpoint::parse("X", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_short_or_odd_key_is_refused_and_not_repeated() {
        assert_eq!(token_key(&"0f".repeat(32)), Ok(vec![15; 32]));
        for bad in ["0f".repeat(31), "0f".repeat(32) + "0", "zz".repeat(32), "é".repeat(64)] {
            let message = token_key(&bad).unwrap_err().to_string();
            assert!(message.contains("TOKEN_KEY") && !message.contains(&bad), "{message}");
        }
    }

    #[test]
    fn mistakes_name_the_variable_and_never_the_password() {
        assert_eq!(settings(&[]).err(), Some(SettingsError::Missing("DATABASE_URL")));
        let base = ("DATABASE_URL", "postgres://u@db/p");
        for (name, value) in
            [("POOL_MAX", "0"), ("POOL_MAX", "many"), ("LISTEN_ADDR", "8080"), ("LOG_LEVEL", "loud")]
        {
            let message = settings(&[base, (name, value)]).err().unwrap().to_string();
            assert!(message.contains(name), "{message}");
        }
        let message = settings(&[("DATABASE_URL", "postgres://u:hunter2@db:x/p")]).err().unwrap().to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }
}
