//! The claims of a user that scopes ask for (OpenID Connect Core §5.4).

use serde_json::{Map, Value};

use crate::model::{Scope, User};

/// The claims that discovery advertises beside those of the protocol itself.
pub const SUPPORTED: &[&str] = &[
    "name",
    "given_name",
    "family_name",
    "preferred_username",
    "updated_at",
    "email",
    "email_verified",
];

/// The claims of `user` that `scope` gives, for userinfo. Absent values are left out, never null.
pub fn for_scope(user: &User, scope: &Scope) -> Map<String, Value> {
    let mut claims = Map::new();
    if scope.contains("profile") {
        for name in ["name", "given_name", "family_name", "preferred_username", "updated_at"] {
            put(&mut claims, user, name);
        }
    }
    if scope.contains("email") {
        put(&mut claims, user, "email");
        put(&mut claims, user, "email_verified");
    }
    claims
}

/// The claims asked for one by one in one member (`userinfo` or `id_token`) of the `claims`
/// parameter (OpenID Connect Core §5.5), as far as we have them.
pub fn requested(user: &User, request: Option<&Value>, member: &str) -> Map<String, Value> {
    let mut claims = Map::new();
    if let Some(Value::Object(wanted)) = request.and_then(|request| request.get(member)) {
        for name in wanted.keys() {
            put(&mut claims, user, name);
        }
    }
    claims
}

fn put(claims: &mut Map<String, Value>, user: &User, name: &str) {
    if let Some(value) = value(user, name) {
        claims.insert(name.to_owned(), value);
    }
}

fn value(user: &User, name: &str) -> Option<Value> {
    match name {
        "name" => user.name.clone().map(Value::from),
        "given_name" => user.given_name.clone().map(Value::from),
        "family_name" => user.family_name.clone().map(Value::from),
        "preferred_username" => user.username.clone().map(Value::from),
        "updated_at" => Some(user.updated_at.seconds().into()),
        "email" => Some(user.email.clone().into()),
        "email_verified" => Some(user.email_verified.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::base::Timestamp;
    use crate::model::UserId;

    fn ada() -> User {
        let at = Timestamp::from_seconds(7);
        User {
            id: UserId(Uuid::nil()),
            username: Some("ada".into()),
            email: "ada@example.com".into(),
            email_verified: true,
            name: Some("Ada Lovelace".into()),
            given_name: None,
            family_name: None,
            password_hash: None,
            password_changed_at: at,
            disabled: false,
            created_at: at,
            updated_at: at,
            last_login_at: None,
        }
    }

    #[test]
    fn a_scope_gives_its_claims_and_no_others() {
        let of = |scope: &str| Value::Object(for_scope(&ada(), &Scope::parse(scope).unwrap()));
        assert_eq!(of("openid"), json!({}));
        assert_eq!(of("email"), json!({"email": "ada@example.com", "email_verified": true}));
        assert_eq!(
            of("openid profile"),
            json!({"name": "Ada Lovelace", "preferred_username": "ada", "updated_at": 7})
        );
    }

    #[test]
    fn claims_asked_for_by_name_are_those_of_that_member() {
        let request = json!({"userinfo": {"email": null, "phone_number": null}, "id_token": {"name": {"essential": true}}});
        let of = |member| Value::Object(requested(&ada(), Some(&request), member));
        assert_eq!(of("userinfo"), json!({"email": "ada@example.com"}));
        assert_eq!(of("id_token"), json!({"name": "Ada Lovelace"}));
        assert_eq!(of("else"), json!({}));
    }
}
