//! Placeholder until the figures are wired up.
fn main() {}
