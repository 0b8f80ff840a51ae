//! Answers the pod's DNS queries wrongly, late, or not at all.

mod message;
mod own;
mod serve;
mod work;

pub use work::{Dns, Options};
