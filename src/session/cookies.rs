use std::time::Duration;

use crate::model::TenantUid;
use crate::tenant::Tenant;

/// The names of one tenant's cookies. Path tenants share one cookie jar, so the names carry the
/// tenant's uid; the values are bound to it besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CookieNames {
    uid: TenantUid,
    secure: bool,
}

impl CookieNames {
    /// The names for `tenant`. The `__Host-` prefix needs `Secure`, which browsers do not accept
    /// over plain http everywhere; so an http issuer, which only loopback may have, goes without.
    pub fn of(tenant: &Tenant) -> Self {
        Self::new(tenant.uid.clone(), tenant.issuer().starts_with("https:"))
    }

    fn new(uid: TenantUid, secure: bool) -> Self {
        Self { uid, secure }
    }

    /// The session's cookie.
    pub fn session(&self) -> String {
        self.name("sid")
    }

    /// The cookie that binds a browser before anyone signs in.
    pub fn browser(&self) -> String {
        self.name("bid")
    }

    /// The cookie of those who signed in at this browser before.
    pub fn known(&self) -> String {
        self.name("known")
    }

    fn name(&self, kind: &str) -> String {
        let prefix = if self.secure { "__Host-" } else { "" };
        format!("{prefix}pmp_{}_{kind}", self.uid)
    }

    /// A `Set-Cookie` line; without `max_age` the cookie goes with the browser.
    pub fn set(&self, name: &str, value: &str, max_age: Option<Duration>) -> String {
        let age = max_age.map(|age| format!("; Max-Age={}", age.as_secs())).unwrap_or_default();
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; Path=/{age}{secure}; HttpOnly; SameSite=Lax")
    }

    /// A `Set-Cookie` line that removes it.
    pub fn clear(&self, name: &str) -> String {
        self.set(name, "", Some(Duration::ZERO))
    }
}

/// The value of the cookie `name` in the `Cookie` headers; none when two values of that name
/// differ, because then someone else set one of them.
pub fn find_cookie<'h>(headers: impl IntoIterator<Item = &'h str>, name: &str) -> Option<&'h str> {
    let mut values = headers
        .into_iter()
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let first = values.next()?;
    values.all(|other| other == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(secure: bool) -> CookieNames {
        CookieNames::new(TenantUid::stored("t1"), secure)
    }

    #[test]
    fn https_cookies_are_host_only_and_secure() {
        let names = names(true);
        assert_eq!(
            names.set(&names.session(), "v", None),
            "__Host-pmp_t1_sid=v; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn http_cookies_have_neither_prefix_nor_secure() {
        let names = names(false);
        assert_eq!(
            names.clear(&names.browser()),
            "pmp_t1_bid=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_and_two_different_ones_are_none() {
        let find = |header: &'static str| find_cookie([header], "sid");
        assert_eq!(find("a=1; sid=x; b=2"), Some("x"));
        assert_eq!(find("xsid=1; sid2=x"), None);
        assert_eq!(find("sid=x; sid=x"), Some("x"));
        assert_eq!(find("sid=x; sid=y"), None);
        assert_eq!(find_cookie(["sid=x", "sid=y"], "sid"), None);
        assert_eq!(find("sid"), None);
    }
}
