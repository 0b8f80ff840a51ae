//! The system under test: its manifests, the order in which they stand up, and what holds them up when they do not.

mod absent;
mod apply;
mod certificate;
mod drift;
mod ownership;
mod parts;
mod ready;
mod render;
mod restore;
mod scale;
mod secret;
mod up;

pub use absent::not_run_here;
pub use drift::{Drift, drift};
pub use ownership::Removal;
pub use parts::{Parts, images, inventory};
pub use ready::{Row, rows};
pub use render::{Images, RenderError, kustomize, render};
pub use restore::{offer_restores, restores, withdraw_restores};
pub use secret::{SECRET, read_password};
pub use up::{Ground, Progress, StackError, UpRequest, agent_image, up};

/// Where the stack lives.
pub const NAMESPACE: &str = crate::model::STACK_NAMESPACE;
