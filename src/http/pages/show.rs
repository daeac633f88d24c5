use axum::http::StatusCode;
use axum::http::header::{HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE};
use axum::response::Response;
use minijinja::{Value, context};

use crate::http::Edge;
use crate::http::extract::Request;
use crate::http::reply;
use crate::model::Client;
use crate::tenant::Tenant;

/// The frame of a tenant's pages: its name and colours around what a page says.
pub(super) struct Frame<'a> {
    edge: &'a Edge,
    tenant: &'a Tenant,
}

impl<'a> Frame<'a> {
    pub(super) fn of(edge: &'a Edge, request: &'a Request) -> Self {
        Self { edge, tenant: &request.tenant }
    }

    /// The path of a page or endpoint of the tenant. Pages name one another by path alone: a
    /// browser that knows this machine by another name than the issuer's stays where it is.
    pub(super) fn path(&self, name: &str) -> String {
        path(self.tenant, name)
    }

    /// A word or sentence of the catalogue.
    pub(super) fn text(&self, page: &'a str, key: &'a str) -> &'a str {
        self.edge.templates.text(page, key)
    }

    /// Shows a page.
    pub(super) fn show(&self, status: StatusCode, template: &str, page: Value) -> Response {
        let settings = &self.tenant.settings;
        let brand = settings.branding.accent.as_ref().map(|_| self.path("/brand.css"));
        let logo = settings.branding.logo.as_ref().map(|_| self.path("/logo"));
        let host = host_of(self.tenant.issuer());
        let tenant = context! { name => settings.name.as_str(), brand, logo };
        match self.edge.templates.render(template, context! { tenant, host, ..page }) {
            Ok(html) => reply::page(status, html),
            Err(error) => {
                tracing::error!(%error, template, "a page could not be shown");
                reply::problem(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }

    /// Answers a form that ends at another site: a page of ours that goes on by itself, and by a
    /// link. `form-action 'self'` governs the redirects of a form too, so a redirect would not do.
    pub(super) fn go_on(&self, url: &str, client: &str) -> Response {
        let page = context! { url, client };
        let mut response = self.show(StatusCode::OK, "continue.html", page);
        match HeaderValue::try_from(format!("0; url={url}")) {
            Ok(refresh) => {
                response.headers_mut().insert(HeaderName::from_static("refresh"), refresh);
                response
            }
            Err(_) => reply::problem(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// The path of `name` below the tenant's issuer.
pub(super) fn path(tenant: &Tenant, name: &str) -> String {
    let base = url::Url::parse(tenant.issuer()).map(|url| url.path().to_owned());
    format!("{}{name}", base.unwrap_or_default().trim_end_matches('/'))
}

/// The host of an address, as people know it; none for addresses without one.
pub(super) fn host_of(address: &str) -> Option<String> {
    let url = url::Url::parse(address).ok()?;
    if !matches!(url.scheme(), "http" | "https") {
        return None;
    }
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Longer names of applications are cut.
const NAME_LENGTH: usize = 64;

/// What a client is called.
pub(super) fn name_of(client: &Client) -> String {
    let name = plain(&client.name, NAME_LENGTH);
    if name.is_empty() { plain(client.id.as_str(), NAME_LENGTH) } else { name }
}

/// A stranger's words as one line of at most `most` characters, without any that are not seen or
/// that reorder what is.
pub(super) fn plain(text: &str, most: usize) -> String {
    let seen = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    let seen: String = seen.filter(|c| !is_unseen(*c)).collect();
    let line = seen.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if line.chars().nth(most).is_none() {
        return line;
    }
    let cut: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", cut.trim_end())
}

/// Controls, marks of direction, joiners and fillers (Unicode TR 36 §2).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// Adds a `Set-Cookie` line.
pub(super) fn with_cookie(mut response: Response, cookie: Option<&str>) -> Response {
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}

/// Adds `Retry-After`, in whole seconds.
pub(super) fn with_retry_after(mut response: Response, seconds: u64) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    response
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_is_not_seen_or_reorders_is_left_out_and_the_rest_is_cut() {
        assert_eq!(plain(" Acme\u{202e}\u{200b} \n\u{2066}TV\u{feff}\u{0} ", 64), "Acme TV");
        assert_eq!(plain("\u{200b}\u{3164}", 64), "");
        assert_eq!(plain("محل Acme 日本", 64), "محل Acme 日本");
        assert_eq!(plain("abcdef", 6), "abcdef");
        assert_eq!(plain("abcd fg", 6), "abcd…");
        assert_eq!(plain(&"ä".repeat(2048), 64).chars().count(), 64);
    }
}
