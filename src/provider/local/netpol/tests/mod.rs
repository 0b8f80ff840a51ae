//! Tests of the pure part, and of what nft says to random worlds.

mod cases;
mod fixtures;
mod oracle;
mod random;
