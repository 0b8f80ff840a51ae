//! The load: logical users in a timer wheel, GooseUsers as lanes, in a child process.
//!
//! ```text
//! parent                     child process (own group, ends when its stdin closes)
//! LoadChild ──spec file──▶ prepare → [dispatcher: wheel] ─due─▶ queue ─▶ [lanes: GooseUsers] ─▶ stack
//!     ▲                                                                              │ one Operation each
//!     └──stdout: prepared, seconds, ended──── [recorder thread] ◀────────────────────┘
//!                                                  └──▶ operations.jsonl
//! ```
//!
//! **Open loop.** A user's next intended time follows from the seed alone, never from how fast the stack
//! answers; latency counts from the intended time. So a stack that stalls is charged with everybody who
//! waited, including those whom no lane was free to serve (see [`limits`]).

mod attack;
mod child;
mod classify;
mod clock;
mod dispatch;
mod error;
mod lane;
pub mod limits;
mod lists;
mod operations;
mod parent;
mod prepare;
mod protocol;
mod queue;
mod recorder;
mod script;
mod seconds;
mod send;
mod shared;
mod spec;
mod template;
mod vars;
mod wheel;

pub use child::run_child;
pub use clock::RunClock;
pub use error::LoadError;
pub use operations::read_operations;
pub use parent::{Ended, LoadChild};
pub use protocol::{Line, Totals};
pub use script::Script;
pub use spec::{ChildLimits, ChildSpec, Tls};
