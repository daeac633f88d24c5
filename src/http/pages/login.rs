use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minijinja::context;

use super::authorize::{by_page, call, nothing_waits};
use super::show::{Frame, name_of, with_cookie, with_retry_after};
use super::visitor::{Visitor, is_ours};
use super::waiting::{self, Came, client_of, open};
use super::{device, refused};
use crate::http::Edge;
use crate::http::extract::{Form, Query, Request};
use crate::identity::{Door, SignIn, sign_in};
use crate::model::{Client, User};
use crate::oauth::authorize::{self, Refused, SignInFirst};
use crate::oauth::waiting::sign_in_first;
use crate::session::{self, BeginSession, KnownUsers, NewSignIn, Waiting};

/// `GET {issuer}/login?txn=…`: asks who it is.
pub(in crate::http) async fn get(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Query(params): Query,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let shown = show_login(&edge, &request, &headers, txn).await;
    shown.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

async fn show_login(
    edge: &Edge,
    request: &Request,
    headers: &HeaderMap,
    txn: &str,
) -> Result<Response, Refused> {
    let visitor = Visitor::of(edge, request, headers).await?;
    let waiting = match open(edge, request, headers, &visitor, txn).await? {
        Ok(waiting) => waiting,
        Err(response) => return Ok(response),
    };
    let session = visitor.session.as_ref();
    let again = match sign_in_first(&call(edge, request), &waiting, session).await? {
        SignInFirst::Login => false,
        SignInFirst::Reauthenticate => true,
        // Whatever it is, it is not for this page to decide.
        SignInFirst::No => return Ok(waiting::resumed(request, &waiting, txn)),
    };
    let client = client_of(edge, request, &waiting).await?;
    let known = match session.filter(|_| again) {
        Some(session) => request.tenant.store.find_user(session.user).await?,
        None => None,
    };
    let hint = match &waiting {
        Waiting::Authorization(pending) => pending.login_hint.as_deref(),
        Waiting::Device(_) => None,
    };
    let username = known.as_ref().map(login_of).or(hint);
    let form = LoginForm { txn, username: username.unwrap_or_default(), again, error: None };
    Ok(form.show(edge, request, &visitor, client.as_deref(), StatusCode::OK))
}

fn login_of(user: &User) -> &str {
    user.username.as_deref().unwrap_or(&user.email)
}

/// What the login page says.
struct LoginForm<'a> {
    txn: &'a str,
    username: &'a str,
    again: bool,
    /// A key of `login` in the catalogue.
    error: Option<&'a str>,
}

impl LoginForm<'_> {
    fn show(
        &self,
        edge: &Edge,
        request: &Request,
        visitor: &Visitor,
        client: Option<&Client>,
        status: StatusCode,
    ) -> Response {
        let frame = Frame::of(edge, request);
        let csrf = visitor.anonymous_csrf(&request.tenant);
        // What no user name is, is not shown again.
        let username: String = self.username.chars().take(254).collect();
        let page = context! {
            client => client.map(|client| context! { name => name_of(client) }),
            again => self.again,
            error => self.error,
            username,
            action => frame.path("/login"),
            csrf => csrf.map(|csrf| csrf.issue(&edge.app.services.ring)),
            txn => self.txn,
            cancel => true,
        };
        frame.show(status, "login.html", page)
    }
}

/// `POST {issuer}/login`: someone says who they are, or turns away.
pub(in crate::http) async fn post(
    State(edge): State<Edge>,
    request: Request,
    headers: HeaderMap,
    Form(params): Form,
) -> Response {
    let Some(txn) = params.get("txn") else { return nothing_waits(&edge, &request, &headers) };
    let attempt = Attempt {
        txn,
        csrf: params.get("csrf"),
        username: params.get("username").unwrap_or_default(),
        password: params.get("password").unwrap_or_default(),
        cancels: params.get("decision") == Some("cancel"),
    };
    let done = attempt.decide(&edge, &request, &headers).await;
    done.unwrap_or_else(|refused| refused::refused(&edge, &request, &headers, &refused))
}

struct Attempt<'a> {
    txn: &'a str,
    csrf: Option<&'a str>,
    username: &'a str,
    password: &'a str,
    cancels: bool,
}

impl Attempt<'_> {
    async fn decide(
        &self,
        edge: &Edge,
        request: &Request,
        headers: &HeaderMap,
    ) -> Result<Response, Refused> {
        let visitor = Visitor::of(edge, request, headers).await?;
        let tenant = &request.tenant;
        if visitor.browser.is_none() && self.csrf.is_some() {
            return Ok(refused::with_status(
                refused::no_cookie(edge, request, headers),
                StatusCode::FORBIDDEN,
            ));
        }
        let csrf = visitor.anonymous_csrf(tenant);
        if !is_ours(csrf, self.csrf, &edge.app.services.ring, tenant, headers) {
            return Ok(refused::forged(edge, request, headers, None));
        }
        let waiting = match open(edge, request, headers, &visitor, self.txn).await? {
            Ok(waiting) => waiting,
            Err(response) => return Ok(response),
        };
        let client = client_of(edge, request, &waiting).await?;
        let client = client.as_deref();
        if self.cancels {
            return turn_away(edge, request, &visitor, &waiting, client).await;
        }
        let known = visitor.known(edge, request, headers);
        // Whoever took over a session finds no counter of its own to guess at: to confirm who they
        // are counts with the account.
        let fresh = match &visitor.session {
            Some(session) => known.clone().without(session.user),
            None => known.clone(),
        };
        let door = Door {
            known: &fresh,
            passwords: &edge.app.passwords,
            ring: &edge.app.services.ring,
            recorder: &edge.app.services.recorder,
            tenant,
            ip: request.peer,
            now: request.now,
            audit: &request.audit,
        };
        let outcome = sign_in(&door, self.username, self.password).await?;
        edge.app.metrics.signed_in(outcome.name(), "password");
        let (error, status, wait) = match outcome {
            SignIn::SignedIn(user) => {
                let come_in = ComeIn { user: &user, visitor, known };
                match come_in.go_on(edge, request, waiting).await? {
                    Ok(response) => return Ok(response),
                    // Disabled at this very moment: as if never known.
                    Err(back) => {
                        let form = self.form("wrong");
                        let status = StatusCode::UNPROCESSABLE_ENTITY;
                        return Ok(form.show(edge, request, &back, client, status));
                    }
                }
            }
            SignIn::Wrong => ("wrong", StatusCode::UNPROCESSABLE_ENTITY, None),
            SignIn::Throttled { until } => {
                let seconds = until.since(request.now).as_millis().div_ceil(1000);
                let wait = u64::try_from(seconds).unwrap_or(u64::MAX);
                ("throttled", StatusCode::TOO_MANY_REQUESTS, Some(wait))
            }
            SignIn::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, Some(1)),
            SignIn::Malformed => ("malformed", StatusCode::BAD_REQUEST, None),
        };
        let response = self.form(error).show(edge, request, &visitor, client, status);
        Ok(match wait {
            Some(seconds) => with_retry_after(response, seconds),
            None => response,
        })
    }

    fn form<'a>(&'a self, error: &'a str) -> LoginForm<'a> {
        LoginForm { txn: self.txn, username: self.username, again: false, error: Some(error) }
    }
}

/// The user does not sign in: whoever waits is told no.
async fn turn_away(
    edge: &Edge,
    request: &Request,
    visitor: &Visitor,
    waiting: &Waiting,
    client: Option<&Client>,
) -> Result<Response, Refused> {
    match waiting {
        Waiting::Authorization(pending) => {
            let call = call(edge, request);
            let answer = authorize::deny(&call, pending, visitor.session.as_ref()).await?;
            let name = client.map(name_of).unwrap_or_default();
            Ok(by_page(edge, request, visitor, &name, answer))
        }
        Waiting::Device(pending) => device::turn_away(edge, request, visitor, pending).await,
    }
}

/// Someone who proved who they are.
struct ComeIn<'a> {
    user: &'a User,
    visitor: Visitor,
    known: KnownUsers,
}

impl ComeIn<'_> {
    /// Begins the session in place of the one that this browser had, and goes on with what waits.
    async fn go_on(
        mut self,
        edge: &Edge,
        request: &Request,
        waiting: Waiting,
    ) -> Result<Result<Response, Visitor>, Refused> {
        let (tenant, now) = (&request.tenant, request.now);
        let sign_in = NewSignIn {
            user: self.user,
            amr: vec!["pwd".to_owned()],
            replaces: self.visitor.session.as_ref().map(|session| session.id),
        };
        let entropy = &*edge.app.services.entropy;
        let begun = match session::begin(tenant, sign_in, entropy, now, &request.audit).await? {
            BeginSession::Begun(begun) => begun,
            BeginSession::UserNotLive => return Ok(Err(self.visitor)),
        };
        let value = begun.cookie.reveal();
        self.visitor.session = session::current(tenant, Some(value), now).await?;
        let names = &self.visitor.names;
        let cookie = names.set(&names.session(), value, None);
        let response = waiting::resume(edge, request, &self.visitor, waiting, Came::ByForm).await?;
        let response = with_cookie(response, Some(&cookie));
        let ring = &edge.app.services.ring;
        let known = self.known.after_sign_in(self.user, ring, &tenant.uid, entropy, now);
        let cookie = names.set(&names.known(), &known, Some(KnownUsers::LIFETIME));
        Ok(Ok(with_cookie(response, Some(&cookie))))
    }
}
