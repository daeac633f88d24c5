//! The nouns and their lives: what a tenant, a client, a grant is, and which states each can be in.
//! No behaviour that needs a clock, a store or a network lives here.

pub mod api_key;
pub mod audit;
pub mod client;
pub mod code;
pub mod consent;
pub mod device;
pub mod grant;
pub mod key;
pub mod limit;
pub mod refresh;
pub mod revocation;
pub mod scope;
pub mod session;
pub mod tenant;
pub mod token;
pub mod user;

pub use audit::{Action, Audit};
pub use client::{Client, ClientId};
pub use grant::{Grant, GrantId};
pub use revocation::{Revocation, RevocationKey};
pub use scope::Scope;
pub use session::{Session, SessionId};
pub use tenant::{TenantSlug, TenantUid};
pub use user::{User, UserId};
