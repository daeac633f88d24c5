//! The claims of JWT access tokens (RFC 9068 §2.2), as written and as read.

use serde::{Deserialize, Serialize};

use super::Why;
use crate::base::Timestamp;
use crate::model::token::{AccessClaims, StatusPlace};
use crate::model::{ClientId, GrantId, Scope, SessionId};

/// `iat` and `nbf` may be so far ahead of us: clocks differ.
const AHEAD_SECONDS: i64 = 60;

/// `aud`: one as a string, several as an array (RFC 7519 §4.1.3).
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum AudienceOut<'a> {
    One(&'a str),
    Many(&'a [String]),
}

impl<'a> AudienceOut<'a> {
    pub(super) fn of(audience: &'a [String]) -> Self {
        match audience {
            [one] => Self::One(one),
            many => Self::Many(many),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

/// What is signed. The order is that of the text.
#[derive(Serialize)]
pub(super) struct Written<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: AudienceOut<'a>,
    client_id: &'a ClientId,
    iat: i64,
    exp: i64,
    jti: &'a str,
    #[serde(skip_serializing_if = "Scope::is_empty")]
    scope: &'a Scope,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<GrantId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acr: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    amr: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

/// `status` (draft-ietf-oauth-status-list §6.2).
#[derive(Serialize, Deserialize)]
struct Status {
    status_list: Place,
}

#[derive(Serialize, Deserialize)]
struct Place {
    idx: u32,
    uri: String,
}

impl<'a> Written<'a> {
    pub(super) fn new(issuer: &'a str, claims: &'a AccessClaims) -> Self {
        Self {
            iss: issuer,
            sub: &claims.subject,
            aud: AudienceOut::of(&claims.audience),
            client_id: &claims.client,
            iat: claims.issued_at.seconds(),
            exp: claims.expires_at.seconds(),
            jti: &claims.jti,
            scope: &claims.scope,
            gid: claims.grant,
            sid: claims.session,
            generation: claims.generation,
            auth_time: claims.auth_time.map(Timestamp::seconds),
            acr: claims.acr.as_deref(),
            amr: &claims.amr,
            status: claims.status.as_ref().map(|place| Status {
                status_list: Place { idx: place.idx, uri: place.uri(issuer) },
            }),
        }
    }
}

/// What is read back. A member that is there twice is an error (RFC 8725 §2.6).
#[derive(Deserialize)]
struct Stated {
    iss: String,
    sub: String,
    aud: Audience,
    client_id: ClientId,
    iat: i64,
    exp: i64,
    nbf: Option<i64>,
    jti: String,
    #[serde(default)]
    scope: Scope,
    gid: Option<GrantId>,
    sid: Option<SessionId>,
    #[serde(rename = "gen")]
    generation: Option<u32>,
    auth_time: Option<i64>,
    acr: Option<String>,
    #[serde(default)]
    amr: Vec<String>,
    status: Option<Status>,
}

/// The claims of a payload whose signature is good, if they are ours and count at `now`.
pub(super) fn read(payload: &[u8], issuer: &str, now: Timestamp) -> Result<AccessClaims, Why> {
    let stated: Stated = serde_json::from_slice(payload).map_err(|_| Why::Claims)?;
    // Byte for byte: no trailing slash, no other case (OpenID Connect Core §3.1.3.7).
    if stated.iss != issuer {
        return Err(Why::Issuer);
    }
    if stated.nbf.is_some_and(|nbf| nbf > now.seconds().saturating_add(AHEAD_SECONDS)) {
        return Err(Why::NotYet);
    }
    let user = match stated.gid {
        // Out of an API key of the client itself.
        Some(_) if stated.sub == stated.client_id.as_str() => None,
        Some(_) => Some(stated.sub.parse().map_err(|_| Why::Claims)?),
        None => None,
    };
    let audience = stated.aud.into_vec();
    if audience.is_empty() {
        return Err(Why::Claims);
    }
    let status = match stated.status {
        Some(Status { status_list: Place { idx, uri } }) => {
            Some(StatusPlace::at(issuer, &uri, idx).ok_or(Why::Claims)?)
        }
        None => None,
    };
    let claims = AccessClaims {
        jti: stated.jti,
        client: stated.client_id,
        user,
        subject: stated.sub,
        audience,
        scope: stated.scope,
        grant: stated.gid,
        session: stated.sid,
        generation: stated.generation,
        auth_time: stated.auth_time.map(Timestamp::from_seconds),
        acr: stated.acr,
        amr: stated.amr,
        issued_at: Timestamp::from_seconds(stated.iat),
        expires_at: Timestamp::from_seconds(stated.exp),
        status,
    };
    in_time(&claims, now).map(|()| claims)
}

/// Whether a token with these claims counts at `now`. `exp` has no leeway: it is our own clock that
/// wrote it.
pub(super) fn in_time(claims: &AccessClaims, now: Timestamp) -> Result<(), Why> {
    if now >= claims.expires_at {
        return Err(Why::Expired);
    }
    if claims.issued_at.seconds() > now.seconds().saturating_add(AHEAD_SECONDS) {
        return Err(Why::NotYet);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ISSUER: &str = "https://id.example/t/acme";
    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn payload() -> Value {
        json!({
            "iss": ISSUER, "sub": "machine", "aud": "https://api.example", "client_id": "machine",
            "iat": 1_800_000_000, "exp": 1_800_000_600, "jti": "AAAAAAAAAAAAAAAAAAAAAA",
        })
    }

    fn with(name: &str, value: Value) -> Result<AccessClaims, Why> {
        let mut payload = payload();
        payload[name] = value;
        read(payload.to_string().as_bytes(), ISSUER, NOW)
    }

    #[test]
    fn what_was_written_reads_back() {
        let claims = AccessClaims {
            jti: "AAAAAAAAAAAAAAAAAAAAAA".into(),
            client: ClientId::new("app"),
            user: Some("6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e".parse().unwrap()),
            subject: "6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e".into(),
            audience: vec!["https://a.example".into(), "https://b.example".into()],
            scope: Scope::parse("openid mail").unwrap(),
            grant: Some("0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53".parse().unwrap()),
            session: Some("b1e3c1a0-4a0b-4a51-9a55-3f1f6bb0c0de".parse().unwrap()),
            generation: Some(7),
            auth_time: Some(NOW),
            acr: Some("1".into()),
            amr: vec!["pwd".into()],
            issued_at: NOW,
            expires_at: Timestamp::from_seconds(1_800_000_600),
            status: Some(StatusPlace { list: "L".into(), idx: 1_048_575, kid: None }),
        };
        let text = serde_json::to_vec(&Written::new(ISSUER, &claims)).unwrap();
        assert_eq!(read(&text, ISSUER, NOW), Ok(claims));
    }

    #[test]
    fn one_audience_is_a_string_and_absent_claims_are_absent() {
        let claims = with("x", json!(1)).unwrap();
        let text = serde_json::to_string(&Written::new(ISSUER, &claims)).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"iss":"https://id.example/t/acme","sub":"machine","aud":"https://api.example","#,
                r#""client_id":"machine","iat":1800000000,"exp":1800000600,"#,
                r#""jti":"AAAAAAAAAAAAAAAAAAAAAA"}"#,
            )
        );
    }

    #[test]
    fn an_issuer_that_differs_in_a_byte_is_another() {
        for other in [
            "https://id.example/t/acme/",
            "https://ID.example/t/acme",
            "http://id.example/t/acme",
            "https://id.example/t/other",
            "",
        ] {
            assert_eq!(with("iss", json!(other)), Err(Why::Issuer), "{other}");
        }
    }

    #[test]
    fn an_audience_is_a_string_or_strings() {
        assert!(with("aud", json!(["https://api.example", "https://other.example"])).is_ok());
        for bad in [json!(null), json!(7), json!({"a": "b"}), json!([]), json!(["a", 7])] {
            assert_eq!(with("aud", bad.clone()), Err(Why::Claims), "{bad}");
        }
        let mut missing = payload();
        missing.as_object_mut().unwrap().remove("aud");
        assert_eq!(read(missing.to_string().as_bytes(), ISSUER, NOW), Err(Why::Claims));
    }

    #[test]
    fn times_are_taken_to_the_second_and_clocks_may_differ_by_a_minute() {
        let ahead = |seconds: i64| json!(1_800_000_000 + seconds);
        assert!(with("iat", ahead(9)).is_ok());
        assert!(with("nbf", ahead(9)).is_ok());
        assert!(with("iat", ahead(59)).is_ok());
        assert_eq!(with("iat", ahead(61)), Err(Why::NotYet));
        assert_eq!(with("nbf", ahead(61)), Err(Why::NotYet));
        assert!(with("exp", ahead(1)).is_ok());
        assert_eq!(with("exp", ahead(0)), Err(Why::Expired));
        assert_eq!(with("exp", json!(1.8e9)), Err(Why::Claims));
        assert_eq!(with("exp", json!("1800000600")), Err(Why::Claims));
    }

    #[test]
    fn a_member_that_is_there_twice_is_refused() {
        let text = payload().to_string();
        for (member, value) in [("sub", r#""root""#), ("aud", r#""x""#), ("exp", "1900000000")] {
            let twice = format!("{{\"{member}\":{value},{}", &text[1..]);
            assert_eq!(read(twice.as_bytes(), ISSUER, NOW), Err(Why::Claims), "{member}");
        }
    }

    #[test]
    fn the_subject_of_a_grant_is_a_user_or_its_own_client() {
        let gid = "0d39f6ab-7e9b-4f10-8a4f-4f2c7a3f8a53";
        assert_eq!(with("gid", json!(gid)).unwrap().user, None);
        let mut other = payload();
        (other["gid"], other["sub"]) = (json!(gid), json!("another"));
        assert_eq!(read(other.to_string().as_bytes(), ISSUER, NOW), Err(Why::Claims));
        assert_eq!(with("sub", json!("6e9a3c52-95ab-4be4-90ef-20c4ea4d7b9e")).unwrap().user, None);
    }
}
