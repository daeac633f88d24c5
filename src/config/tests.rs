use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::base::{Entropy, SystemEntropy, base62};
use crate::model::TenantSlug;
use crate::model::client::ApplicationType::{Browser, Native, Web};
use crate::model::client::{AuthMethod, GrantType};

mod secrets;
mod tables;

/// The settings, or the faults as text.
fn read(text: &str) -> Result<Settings, String> {
    read_with(text, &Environment::empty())
}

fn read_with(text: &str, environment: &Environment) -> Result<Settings, String> {
    parse("config.yaml", Path::new(""), text, environment).map_err(|faults| faults.to_string())
}

fn tenant(settings: &Settings) -> &settings::Tenant {
    &settings.tenants[&TenantSlug::parse("acme").unwrap()]
}

/// A directory of this test's own, removed at its end.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let entropy: &dyn Entropy = &SystemEntropy;
        let name = format!("pmp-auth-config-{}", base62::encode(&entropy.bytes::<8>()));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, text: &str) -> Result<Settings, String> {
        parse("config.yaml", &self.0, text, &Environment::empty()).map_err(|f| f.to_string())
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
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
    assert!(matches!(settings.storage.engine, settings::StorageEngine::Memory));
    let tenant = tenant(&settings);
    assert_eq!(tenant.issuer, "http://127.0.0.1:8080/t/acme");
    assert_eq!(tenant.default_audience, tenant.issuer);
    let client = &tenant.clients[0];
    assert_eq!(client.scopes.to_string(), "openid profile email offline_access");
    assert_eq!(client.application_type, Browser);
    assert!(client.require_pkce && client.require_consent && client.enabled);
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

#[test]
fn every_fault_is_told_at_once_in_the_order_of_the_file() {
    let text = "
server:
  listen: nowhere
  demo: yes
  demmo: true
storage: {type: sqlite}
jobs: {cleanup: 5}
tenants:
  acme:
    lifetimes: {code: 1h, id_token: 300}
    clients:
      - client_id: a
        redirect_uris: [/cb]
  acme: {}
";
    let told = read(text).unwrap_err();
    let places: Vec<&str> = told
        .lines()
        .filter(|line| !line.starts_with("    fix: "))
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "config.yaml:3:11 server.listen",
            "config.yaml:4:9 server.demo",
            "config.yaml:5:3 server.demmo",
            "config.yaml:6:10 storage",
            "config.yaml:7:17 jobs.cleanup",
            "config.yaml:10:23 tenants.acme.lifetimes.code",
            "config.yaml:10:37 tenants.acme.lifetimes.id_token",
            "config.yaml:12:9 tenants.acme.clients[0]",
            "config.yaml:13:25 tenants.acme.clients[0].redirect_uris[0]",
            "config.yaml:14:3 tenants.acme",
        ],
        "{told}"
    );
}

#[test]
fn an_issuer_follows_the_public_url_and_the_host_of_its_own() {
    let text = "
server: {public_url: https://id.example, tenant_host: '{tenant}.id.example'}
storage: {type: sqlite, connection_string: x.db}
tenants: {acme: {}, globex: {host: login.globex.example}}
";
    let settings = read(text).unwrap();
    let issuers: Vec<&str> = settings.tenants.values().map(|t| t.issuer.as_str()).collect();
    assert_eq!(issuers, ["https://acme.id.example", "https://login.globex.example"]);
}

#[test]
fn listen_without_public_url_is_for_this_machine_only() {
    let settings = read(&format!("server: {{listen: '[::1]:99'}}\n{MINIMAL}")).unwrap();
    assert_eq!(tenant(&settings).issuer, "http://[::1]:99/t/acme");
    let told = read(&format!("server: {{listen: 0.0.0.0:80}}\n{MINIMAL}")).unwrap_err();
    assert!(told.contains("set `server.public_url: https://…`"), "{told}");
}

#[test]
fn anchors_and_merges_work_and_a_fault_within_names_the_nearest_place() {
    let text = "
x-client: &client
  type: public
  redirect_uris: [https://app.example/cb]
tenants:
  acme:
    clients:
      - {<<: *client, client_id: a}
      - {<<: *client, client_id: b, type: confidential, client_secret: generate}
";
    let settings = read(text).unwrap();
    assert_eq!(tenant(&settings).clients[1].auth_method, AuthMethod::ClientSecretBasic);
    let told = read(&text.replace("[https://app.example/cb]", "[/cb]")).unwrap_err();
    assert!(told.contains("config.yaml:8:9 tenants.acme.clients[0].redirect_uris[0]"), "{told}");
}

#[test]
fn the_environment_overrides_the_file_and_is_named_in_faults() {
    let environment = Environment::empty()
        .with("PMP_AUTH__SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7")
        .with("PMP_AUTH__TENANTS__ACME__LIFETIMES__CODE", "30s")
        .with("PMP_AUTH__SERVER__DEMO", "true");
    let settings = read_with(MINIMAL, &environment).unwrap();
    assert_eq!(settings.server.trusted_proxies.len(), 2);
    assert!(settings.server.demo);
    assert_eq!(tenant(&settings).lifetimes.code.as_secs(), 30);

    let environment = Environment::empty().with("PMP_AUTH__TENANTS__ACME__LIFETIMES__COD", "30s");
    assert_eq!(
        read_with(MINIMAL, &environment).unwrap_err(),
        "environment PMP_AUTH__TENANTS__ACME__LIFETIMES__COD tenants.acme.lifetimes.cod: unknown \
         key `cod`; did you mean `code`?\n    fix: write `code`, or remove the line"
    );
}

#[test]
fn what_a_client_is_follows_from_what_it_has() {
    let text = "
tenants:
  acme:
    clients:
      - {client_id: a, client_secret: s, redirect_uris: [http://127.0.0.1/cb]}
      - {client_id: b, type: public, redirect_uris: [http://127.0.0.1/cb]}
      - {client_id: c, type: public, redirect_uris: [http://localhost/cb]}
      - {client_id: d, type: public, redirect_uris: ['com.example.d:/cb']}
      - {client_id: e, type: public, redirect_uris: [http://127.0.0.1/cb], cors_origins: [http://127.0.0.1]}
";
    let settings = read(text).unwrap();
    let kinds: Vec<_> = tenant(&settings).clients.iter().map(|c| c.application_type).collect();
    assert_eq!(kinds, [Web, Native, Browser, Native, Browser]);
}

#[test]
fn a_machine_gets_only_what_it_is_given() {
    let text = "
tenants:
  acme:
    scopes: [openid, read, write]
    clients:
      - {client_id: a, client_secret: s, grants: [client_credentials]}
      - {client_id: b, client_secret: s, grants: [client_credentials], scopes: [read]}
";
    let settings = read(text).unwrap();
    let [a, b] = tenant(&settings).clients.as_slice() else { panic!("two clients") };
    assert!(a.scopes.is_empty());
    assert_eq!(b.default_scopes.to_string(), "read");
}

#[test]
fn a_device_signs_in_at_the_short_address_where_there_is_one_tenant() {
    let alone = tenant(&read(MINIMAL).unwrap()).device.clone();
    assert!(alone.short_url);
    assert_eq!(alone.verification_uri, "http://127.0.0.1:8080/device");
    assert_eq!((alone.code_ttl.as_secs(), alone.interval.as_secs()), (600, 5));
    let two = read(&format!("{MINIMAL}  other: {{}}\n")).unwrap();
    let of = |slug: &str| {
        let found = two.tenants.iter().find(|(name, _)| name.as_str() == slug);
        found.unwrap().1.device.clone()
    };
    assert!(!of("other").short_url);
    assert_eq!(of("other").verification_uri, "http://127.0.0.1:8080/t/other/device");
}

#[test]
fn a_device_client_needs_no_redirect_uri_and_is_native() {
    let text = "tenants: {acme: {clients: [{client_id: tv, type: public, grants: [device_code]}]}}";
    let settings = read(text).unwrap();
    let tv = &tenant(&settings).clients[0];
    assert_eq!(tv.grants, [GrantType::DeviceCode]);
    assert_eq!(tv.application_type, Native);
    assert!(tv.scopes.contains("openid") && tv.default_scopes.is_empty());
}

#[test]
fn a_window_or_retry_of_zero_is_off() {
    let text = format!("{MINIMAL}    code_retry: 0s\n    lifetimes: {{refresh_short_window: 0}}\n");
    let settings = read(&text).unwrap();
    assert_eq!(tenant(&settings).code_retry, None);
    assert!(tenant(&settings).lifetimes.refresh_short_window.is_zero());
}

#[test]
fn hostile_files_are_refused_quickly() {
    for text in ["[".repeat(20_000), "a: &a [*a, *a]".into(), "{".repeat(100)] {
        assert!(read(&text).is_err());
    }
    let dir = TempDir::new();
    dir.write("big.yaml", &"#".repeat(2 << 20), 0o600);
    let told = load(&dir.0.join("big.yaml"), &Environment::empty()).unwrap_err().to_string();
    assert!(told.contains("larger than 1 MiB"), "{told}");
}

#[test]
fn a_missing_file_says_how_to_start_without_one() {
    let told = load(Path::new("/nowhere/config.yaml"), &Environment::empty()).unwrap_err();
    assert!(told.to_string().contains("serve --dev"), "{told}");
}

#[test]
fn a_second_look_is_advised_where_it_pays() {
    let paths = |text: &str| -> Vec<String> {
        warnings(&read(text).unwrap()).into_iter().map(|warning| warning.path).collect()
    };
    assert_eq!(paths(MINIMAL), Vec::<String>::new());
    let public =
        format!("server: {{public_url: https://id.example, listen: 0.0.0.0:80}}\n{MINIMAL}");
    assert_eq!(paths(&public), ["storage", "server.trusted_proxies"]);
    let open = format!("server: {{public_url: http://localhost, listen: 0.0.0.0:80}}\n{MINIMAL}");
    assert_eq!(paths(&open), ["server.listen"]);
    let shared = "
server: {secret_keys: generate}
storage: {type: postgres, connection_string: postgres://localhost/x}
tenants:
  acme:
    clients:
      - {client_id: a, client_secret: generate, require_pkce: false, redirect_uris: [https://a.example/]}
";
    assert_eq!(
        paths(shared),
        ["server.secret_keys", "tenants.acme.clients", "tenants.acme.clients.a"]
    );
}

#[test]
fn line_ends_and_a_byte_order_mark_do_not_matter() {
    assert!(read(&MINIMAL.replace('\n', "\r\n")).is_ok());
    assert!(read(&format!("\u{feff}{MINIMAL}")).is_ok());
}

#[test]
fn broken_yaml_is_told_with_its_place() {
    let told = read("tenants:\n  acme: {\n  x: [\n").unwrap_err();
    assert!(told.starts_with("config.yaml:3:3: this is not YAML"), "{told}");
    let told = read("tenants: {acme: !include x}").unwrap_err();
    assert!(told.contains("a tag (`!…`) has no meaning here"), "{told}");
    assert!(read("a: 1\n---\na: 2\n").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in the file, it is either taken or refused with a place inside it.
    #[test]
    fn no_file_is_beyond_words(text in "(tenants|server|acme|clients|code|[a-z0-9]|: |\n|  |- |\\[|\\]|\\{|\\}|,|&a|\\*a|<<|\"|'|#|!|\\||\\?|\t|é){0,40}") {
        if let Err(faults) = parse("c", Path::new(""), &text, &Environment::empty()) {
            for fault in faults.iter() {
                prop_assert!(fault.line >= 1 && fault.line <= text.lines().count() + 2, "{}", fault);
                prop_assert!(fault.column >= 1, "{}", fault);
            }
        }
    }

    #[test]
    fn no_change_to_a_good_file_is_beyond_words(at in 0..MINIMAL.len(), with in any::<char>()) {
        let mut text = MINIMAL.to_owned();
        text.replace_range(at..=at, &with.to_string());
        let _ = read(&text);
    }
}
