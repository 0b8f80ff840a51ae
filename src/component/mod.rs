//! Who has which role, by each component's own protocol, and what its stores hold.

mod bindings;
mod crowded;
mod erlang;
mod eyes;
mod kafka;
mod kept;
mod members;
mod postgres;
mod rabbitmq;
mod redis;
mod rows;
mod sessions;
mod size;
mod topics;
mod zookeeper;

pub use bindings::{Binding, bindings};
pub use eyes::Eyes;
pub use members::{Archive, Leader, Member, Members, redundancy};
pub use postgres::{Credentials, members as postgres_members};
pub use redis::found as redis_found;
pub use rows::Rows;
pub use sessions::{Held, ask_all, hold, server_sessions};
pub use size::{Moment, moment as postgres_moment, redis_bytes};
pub use topics::{TopicSettings, found as kafka_found, settings as topic_settings};
