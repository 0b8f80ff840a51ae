//! Who has which role, by each component's own protocol, and what its stores hold.

mod members;
mod postgres;
mod redis;
mod sessions;
mod size;

pub use members::{Leader, Member, Members, redundancy};
pub use postgres::{Credentials, found as postgres_found, members as postgres_members};
pub use redis::{found as redis_found, members as redis_members};
pub use sessions::{Held, ask_all, hold, server_sessions};
pub use size::{Moment, moment as postgres_moment, redis_bytes};
