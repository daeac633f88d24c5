use std::net::IpAddr;

use crate::base::Timestamp;
use crate::http::extract::RequestId;

/// What the edge knows of a request before anyone looks into it; an extension of the request.
#[derive(Debug, Clone)]
pub(in crate::http) struct Context {
    /// The one `now`.
    pub(in crate::http) now: Timestamp,
    /// The caller, after trusted proxies.
    pub(in crate::http) client: IpAddr,
    /// The request's id.
    pub(in crate::http) id: RequestId,
}
