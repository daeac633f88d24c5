//! Who the human is: passwords, sign-in and its throttling, and the claims that say so.
//!
//! Owns the hashing pool, the decision whether a sign-in succeeds, the seeding of configured users
//! and the claims of a user. Leaves sessions and cookies to `session/`, and the question whether
//! someone has to sign in at all to `oauth/authorize/`.

pub mod claims;
mod cost;
mod passwords;
mod policy;
mod seed;
mod sign_in;

pub use cost::PasswordCost;
pub use passwords::{Busy, Password, PasswordTooLong, Passwords};
pub use policy::{WeakPassword, check as check_password};
pub use seed::{Generated, Nursery, SeedError, Seeded, seed_users};
pub use sign_in::{Door, SignIn, sign_in};
