//! `forebay-verify`: tools that prove what a mounted directory keeps.

fn main() {}
