//! A transparent TCP proxy for kernels that cannot delay packets themselves (netem).

mod measure;
mod options;
mod pipe;
mod pump;
mod relay;
mod rules;
mod socket;
mod work;

pub use options::Options;
pub use socket::{connect, mark};
pub use work::Proxy;
