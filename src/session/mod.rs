//! The browser: its anonymous binding, its session, the tokens in its forms, and what waits while
//! its user signs in and decides.
//!
//! Owns what a cookie or form field of ours may say and how it is proved to be ours. Leaves who
//! the user is to `identity/`, and what to ask of them next to `oauth/authorize/`.

mod browser;
mod cookies;
mod csrf;
mod known;
mod pending;
mod signed_in;
mod waiting;

pub use browser::BrowserBinding;
pub use cookies::{CookieNames, find_cookie};
pub use csrf::Csrf;
pub use known::KnownUsers;
pub use pending::{Interaction, LogoutRequest, OpenInteraction, PendingAuthorization};
pub use signed_in::{BeginSession, Begun, NewSignIn, SESSION_COOKIE_BYTES, begin, current, end};
pub use waiting::{DeviceStage, KnownDevice, PendingDevice, Waiting};
