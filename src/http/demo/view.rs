use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::base::base64url;
use crate::http::{Edge, reply};
use crate::rp::demo::{Stage, Visitor};

/// The first page: a button for each tenant.
pub(super) fn start(edge: &Edge, problem: Option<&str>) -> Response {
    let tenants: Vec<Value> = edge
        .app
        .registry
        .all()
        .iter()
        .map(|tenant| json!({"slug": tenant.slug, "name": tenant.settings.name}))
        .collect();
    let status = if problem.is_some() { StatusCode::BAD_REQUEST } else { StatusCode::OK };
    let tv = edge.app.registry.all().iter().any(|tenant| super::tv::has_one(tenant));
    let context = json!({"tenants": tenants, "problem": problem, "tv": tv});
    render(edge, status, "demo.html", &context)
}

/// The tokens of a visitor.
pub(super) fn signed_in(edge: &Edge, visitor: &Visitor) -> Response {
    let Stage::SignedIn { tokens, user, last } = &visitor.stage else { return start(edge, None) };
    let id = claims(tokens.id.reveal());
    let name = ["name", "preferred_username", "email", "sub"]
        .iter()
        .find_map(|claim| user[*claim].as_str())
        .unwrap_or_default();
    let last = last.as_ref().map(|(what, answer)| {
        json!({"what": edge.templates.text("demo", what), "answer": pretty(answer)})
    });
    let context = json!({
        "name": name,
        "issuer": visitor.issuer,
        "id": {"claims": pretty(&id)},
        "access": {
            "token": tokens.access.reveal(),
            "claims": pretty(&claims(tokens.access.reveal())),
        },
        "refresh": tokens.refresh.as_ref().map(|token| token.reveal().clone()),
        "last": last,
    });
    render(edge, StatusCode::OK, "demo_signed_in.html", &context)
}

pub(super) fn render(edge: &Edge, status: StatusCode, template: &str, context: &Value) -> Response {
    let mut context = context.clone();
    context["tenant"] = Value::Null;
    context["host"] = Value::Null;
    match edge.templates.render(template, &context) {
        Ok(html) => reply::page(status, html),
        Err(error) => {
            tracing::error!(%error, template, "cannot render a page");
            reply::problem(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// What a JWT says, unchecked: for showing only.
fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).and_then(|part| base64url::decode(part).ok());
    body.and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_else(|| Value::from("opaque: only the server knows what it says"))
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
