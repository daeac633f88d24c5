//! pmp-auth
fn main() {}
