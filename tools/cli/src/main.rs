//! `forebay`: the one binary, where all parts are put together.
fn main() {}
