//! Real clusters on this machine. They need root and minutes, so `cargo test` leaves them out and `make test` runs them:
//! `cargo test --test e2e -- --ignored --test-threads=1`. They make clusters of names of their own and leave nothing.

mod faults;
mod harness;
mod local;
mod machine;
mod overlays;
mod replaced;
mod rights;
#[path = "../sabotage/sabotage.rs"]
// the suite of that name reads more of it
#[allow(dead_code)]
mod sabotage;
mod stack;
#[path = "../sabotage/steps.rs"]
mod steps;
mod whole;
