//! The binary `pagecache`.
fn main() {}
