//! Discovery (OpenID Connect Discovery §3). The same document stands at the OpenID Connect and at the
//! OAuth 2 address (RFC 8414 §3), so that no client can read two truths.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::settings;
use crate::identity::claims;
use crate::oauth::{Call, metadata};

/// The claims of the protocol itself, beside those about the user.
const PROTOCOL_CLAIMS: [&str; 11] =
    ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "sid"];

/// The document of the tenant, as JSON text; cached.
pub fn document(call: &Call<'_>) -> Arc<str> {
    call.services.published.document(call.tenant, write)
}

fn write(tenant: &settings::Tenant) -> Value {
    let at = |path: &str| Value::from(format!("{}{path}", tenant.issuer));
    let claims: Vec<&str> = PROTOCOL_CLAIMS.iter().chain(claims::SUPPORTED).copied().collect();
    let mut members = metadata::members(tenant);
    let more = [
        ("userinfo_endpoint", at("/userinfo")),
        // OpenID Connect RP-Initiated Logout §2.1.
        ("end_session_endpoint", at("/logout")),
        ("subject_types_supported", json!(["public"])),
        ("id_token_signing_alg_values_supported", json!(metadata::signing_algs(tenant))),
        ("claims_supported", json!(claims)),
        ("claim_types_supported", json!(["normal"])),
        // OpenID Connect Initiating User Registration §4 defined the member.
        ("prompt_values_supported", json!(["none", "login", "consent", "select_account"])),
        ("claims_parameter_supported", json!(true)),
        // Left out, the last of these would mean true (OpenID Connect Discovery §3).
        ("request_parameter_supported", json!(false)),
        ("request_uri_parameter_supported", json!(false)),
    ];
    members.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client::GrantType;
    use crate::oauth::testing;

    #[test]
    fn a_tenant_that_serves_devices_says_where() {
        let mut tenant = testing::tenant_settings();
        tenant.grants.push(GrantType::DeviceCode);
        let document = write(&tenant);
        let device = "https://id.example/t/acme/device_authorization";
        assert_eq!(document["device_authorization_endpoint"], device);
        let grants = document["grant_types_supported"].as_array().unwrap();
        assert!(grants.contains(&json!("urn:ietf:params:oauth:grant-type:device_code")));
    }

    #[test]
    fn what_is_advertised_is_what_works() {
        let document = write(&testing::tenant_settings());
        assert_eq!(document["issuer"], "https://id.example/t/acme");
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        assert_eq!(document["response_types_supported"], json!(["code"]));
        assert_eq!(
            document["grant_types_supported"],
            json!(["authorization_code", "refresh_token", "client_credentials"])
        );
        assert_eq!(
            document["token_endpoint_auth_methods_supported"],
            json!(["client_secret_basic", "client_secret_post", "none"])
        );
        assert_eq!(document["end_session_endpoint"], "https://id.example/t/acme/logout");
        assert_eq!(document["request_uri_parameter_supported"], false);
        assert_eq!(document["id_token_signing_alg_values_supported"][0], "RS256");
        assert!(document.get("device_authorization_endpoint").is_none());
    }
}
