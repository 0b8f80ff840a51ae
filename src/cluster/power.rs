//! What a provider can do to the machines beneath a cluster.

use std::future::Future;
use std::pin::Pin;

use crate::model::{ControlPlanePart, NodeHow};

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Power over nodes and the control plane, where the provider has it. Everything is idempotent.
pub trait Power: Send + Sync {
    fn break_node<'a>(&'a self, node: &'a str, how: NodeHow) -> Answer<'a, ()>;
    /// Takes back exactly that.
    fn restore_node<'a>(&'a self, node: &'a str, how: NodeHow) -> Answer<'a, ()>;
    /// Stops a server of the control plane; what the kernel says of it then.
    fn pause(&self, part: ControlPlanePart) -> Answer<'_, String>;
    fn resume(&self, part: ControlPlanePart) -> Answer<'_, ()>;
    /// Everything that is broken now, for people.
    fn broken(&self) -> Answer<'_, Vec<String>>;
}
