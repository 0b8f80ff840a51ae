//! Works that change the network, inside namespaces that the tests make and remove.

mod common;
#[path = "net/cut.rs"]
mod cut;
#[path = "net/proxy.rs"]
mod proxy;
