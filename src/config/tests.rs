use super::*;
use crate::model::TenantSlug;

/// The settings, or the faults as text.
fn read(text: &str) -> Result<Settings, String> {
    parse("config.yaml", Path::new(""), text, &Environment::empty()).map_err(|f| f.to_string())
}

const MINIMAL: &str = "
tenants:
  acme:
    clients:
      - client_id: app
        type: public
        redirect_uris: [https://app.example/cb]
";

#[test]
fn a_minimal_file_is_enough() {
    let settings = read(MINIMAL).unwrap();
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8080");
    let tenant = &settings.tenants[&TenantSlug::parse("acme").unwrap()];
    assert_eq!(tenant.issuer, "http://127.0.0.1:8080/t/acme");
    assert_eq!(tenant.default_audience, tenant.issuer);
    assert_eq!(tenant.clients[0].scopes.to_string(), "openid profile email offline_access");
}

#[test]
fn a_fault_is_spelt_with_its_place_path_and_fix() {
    let text = MINIMAL.replace("https://app.example", "http://app.example");
    assert_eq!(
        read(&text).unwrap_err(),
        "config.yaml:7:25 tenants.acme.clients[0].redirect_uris[0]: `http://app.example/cb` is not \
         https\n    fix: only loopback addresses may use http"
    );
}
