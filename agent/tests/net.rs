//! Works that change the network, inside namespaces that the tests make and remove.

mod common;
#[path = "net/cut.rs"]
mod cut;
#[path = "net/dns.rs"]
mod dns;
#[path = "net/pod.rs"]
mod pod;
#[path = "net/proxy.rs"]
mod proxy;
