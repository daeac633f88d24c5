//! Cases of the configuration: what a server refuses to start with.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use pmp_auth::config::{self, Environment, Faults, Settings, warnings};
use pmp_auth::identity::PasswordCost;

const STRONG: &str = "kJ7vQ2mX9pL4wR8tY1uZ6sD3fG5hB0nC-eA_iOqTxVy";

fn start(text: &str) -> Result<Settings, Faults> {
    config::parse("config.yaml", Path::new(""), text, &Environment::empty())
}

/// The server does not start, and one of the faults is at `path`.
#[track_caller]
fn refused(text: &str, path: &str) -> String {
    let faults = start(text).expect_err(text);
    assert!(faults.iter().any(|fault| fault.path == path), "no fault at {path}:\n{faults}");
    faults.to_string()
}

fn with_client(client: &str) -> String {
    format!("tenants: {{acme: {{clients: [{{client_id: a, {client}}}]}}}}")
}

fn with_ring(secret: &str) -> String {
    format!("server: {{secret_keys: [{{id: 1, secret: {secret:?}}}]}}\ntenants: {{acme: {{}}}}")
}

#[test]
fn sec_config_02() {
    let told = refused("tenants: {acme: {acess_token_ttl: 5m}}", "tenants.acme.acess_token_ttl");
    assert!(
        told.starts_with("config.yaml:1:18 tenants.acme.acess_token_ttl: unknown key"),
        "{told}"
    );
}

#[test]
fn sec_config_03() {
    let begun = Instant::now();
    refused("tenants: {acme: {name: A}, acme: {name: B}}", "tenants.acme");
    let mut laughs = String::from("x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        let _ = writeln!(laughs, "x-{i}: &a{i} [{aliases}]");
    }
    refused(&laughs, "");
    refused("server: {demo: NO}\ntenants: {acme: {}}", "server.demo");
    refused("server: {demo: on}\ntenants: {acme: {}}", "server.demo");
    refused("storage: {max_connections: 0o10}\ntenants: {acme: {}}", "storage.max_connections");
    refused("storage: {max_connections: .nan}\ntenants: {acme: {}}", "storage.max_connections");

    let path = std::env::temp_dir().join(format!("pmp-auth-large-{}.yaml", std::process::id()));
    std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let large = config::load(&path, &Environment::empty());
    std::fs::remove_file(&path).unwrap();
    assert!(large.unwrap_err().to_string().contains("larger than 1 MiB"));
    // Each is refused by counting, so that all together take no time worth measuring.
    assert!(begun.elapsed() < Duration::from_secs(7));
}

#[test]
fn sec_config_04() {
    for (setting, key, bound) in [
        ("code: -1s", "code", "1s to 10m"),
        ("code: 0s", "code", "1s to 10m"),
        ("code: 601s", "code", "1s to 10m"),
        ("access_token: '10'", "access_token", "1s to 24h"),
        ("access_token: 10", "access_token", "1s to 24h"),
        ("session_absolute: 10000d", "session_absolute", "1s to 90d"),
        ("refresh_absolute: 18446744073709551615d", "refresh_absolute", "1s to 730d"),
        ("refresh_absolute: 0s", "refresh_absolute", "1s to 730d"),
    ] {
        let text = format!("tenants: {{acme: {{lifetimes: {{{setting}}}}}}}");
        let told = refused(&text, &format!("tenants.acme.lifetimes.{key}"));
        assert!(told.contains(bound), "{told}");
    }
    let settings = start("tenants: {acme: {lifetimes: {refresh_absolute: }}}").unwrap();
    let lifetimes = settings.tenants.values().next().unwrap().lifetimes;
    assert_eq!(lifetimes.refresh_absolute, Duration::from_hours(90 * 24), "never without a limit");
}

#[test]
fn sec_config_05() {
    let zeros = "0".repeat(44);
    let long = "changeme".repeat(6);
    let sample =
        "AyM1SysPpbyfDfZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    for placeholder in
        ["changeme", &long, &zeros, sample, "PLEASE-CHANGE-ME-before-going-live-0123456"]
    {
        let told = refused(&with_ring(placeholder), "server.secret_keys[0].secret");
        assert!(told.contains("the secret is weak"), "{told}");
    }
    // What the environment brings may stand in plain text, but not be a sample.
    let production = "server: {public_url: https://id.example}\n";
    for secret in ["changeme", "7Fjfp0ZBr1KtDRbnfVdmIw", STRONG] {
        let text = format!(
            "{production}{}",
            with_client(&format!("client_secret: {secret}, redirect_uris: [https://a.example/]"))
        );
        refused(&text, "tenants.acme.clients[0].client_secret");
    }
    let user = format!(
        "{production}tenants: {{acme: {{users: [{{email: a@b.example, password: changeme}}]}}}}"
    );
    refused(&user, "tenants.acme.users[0].password");
}

#[test]
fn sec_config_06() {
    for weak in [&STRONG[..31], &"ab".repeat(32), "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"] {
        let told = refused(&with_ring(weak), "server.secret_keys[0].secret");
        assert!(told.contains("the secret is weak"), "{told}");
    }
    assert!(start(&with_ring(STRONG)).is_ok());
}

#[test]
fn sec_config_07() {
    for (setting, key) in [
        ("rsa_bits: 1024", "rsa_bits"),
        ("rsa_bits: 2047", "rsa_bits"),
        ("rsa_bits: 512", "rsa_bits"),
        ("access_token: ES192", "access_token"),
        ("access_token: HS256", "access_token"),
        ("id_token: none", "id_token"),
        ("key_file: key.pem", "key_file"),
    ] {
        let text = format!("tenants: {{acme: {{signing: {{{setting}}}}}}}");
        refused(&text, &format!("tenants.acme.signing.{key}"));
    }
    refused("server: {tls_certificate: old.pem}\ntenants: {acme: {}}", "server.tls_certificate");
    assert!(start("tenants: {acme: {signing: {rsa_bits: 3072}}}").is_ok());
}

#[cfg(unix)]
#[test]
fn sec_config_08() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = std::env::temp_dir().join(format!("pmp-auth-open-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("ring"), STRONG).unwrap();
    let text = "server: {secret_keys: [{id: 1, secret_file: ring}]}\ntenants: {acme: {}}";
    let with_mode = |mode| {
        std::fs::set_permissions(dir.join("ring"), std::fs::Permissions::from_mode(mode)).unwrap();
        config::parse("config.yaml", &dir, text, &Environment::empty())
    };
    let told = with_mode(0o644).map_err(|faults| faults.to_string());
    let private = with_mode(0o600).is_ok();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(told.unwrap_err().contains("chmod 600"));
    assert!(private);
}

#[test]
fn sec_config_10() {
    for url in [
        "http://id.example",
        "https://id.example?x=1",
        "https://id.example#x",
        "https://id.example/",
        "https://user:password@id.example",
    ] {
        refused(
            &format!("server: {{public_url: '{url}'}}\ntenants: {{acme: {{}}}}"),
            "server.public_url",
        );
    }
}

#[test]
fn sec_config_14() {
    let settings = start("server: {public_url: https://id.example}\ntenants: {acme: {}}").unwrap();
    let warning = warnings(&settings).into_iter().find(|warning| warning.path == "storage");
    assert!(warning.is_some_and(|w| w.message.contains("lost at every restart")));
}

#[test]
fn sec_config_17() {
    let text =
        with_client("type: public, redirect_uris: [https://a.example/], refresh_rotation: false");
    refused(&text, "tenants.acme.clients[0].refresh_rotation");
}

#[test]
fn sec_refresh_21() {
    let public =
        with_client("type: public, redirect_uris: [https://a.example/], refresh_rotation: false");
    let told = refused(&public, "tenants.acme.clients[0].refresh_rotation");
    assert!(told.contains("RFC 9700 §2.2.2"), "{told}");
    let confidential = with_client(
        "client_secret: s, redirect_uris: [https://a.example/], refresh_rotation: false",
    );
    refused(&confidential, "tenants.acme.clients[0].refresh_rotation");
}

#[test]
fn sec_config_18() {
    for (text, path) in [
        ("server: {dev: true}\ntenants: {acme: {}}", "server.dev"),
        ("server: {mode: development}\ntenants: {acme: {}}", "server.mode"),
        ("identity: {backend: mock}\ntenants: {acme: {}}", "identity"),
        ("tenants: {acme: {identity: mock}}", "tenants.acme.identity"),
        ("tenants: {acme: {signing: {backend: test}}}", "tenants.acme.signing.backend"),
        ("storage: {type: mock}\ntenants: {acme: {}}", "storage.type"),
    ] {
        refused(text, path);
    }
    let environment = Environment::empty().with("PMP_AUTH__SERVER__DEV", "true");
    assert!(config::parse("c", Path::new(""), "tenants: {acme: {}}", &environment).is_err());
}

#[test]
fn sec_config_19() {
    let text = with_ring(STRONG);
    let environment = Environment::empty()
        .with("PMP_AUTH__SERVER__PUBLIC_URL", "")
        .with("PMP_AUTH__STORAGE__CONNECTION_STRING", "");
    let settings = config::parse("config.yaml", Path::new(""), &text, &environment).unwrap();
    assert!(settings.server.is_loopback(), "an empty variable is unset");
    refused(
        &with_client("client_secret: '', redirect_uris: [https://a.example/]"),
        "tenants.acme.clients[0].client_secret",
    );
}

#[test]
fn sec_redirect_24() {
    for query in ["code=x", "a=b&state=x", "iss=x", "error=x", "%63ode=x", "error_description=x"] {
        let text =
            with_client(&format!("type: public, redirect_uris: ['https://a.example/cb?{query}']"));
        refused(&text, "tenants.acme.clients[0].redirect_uris[0]");
    }
    let other = with_client("type: public, redirect_uris: ['https://a.example/cb?a=b']");
    assert!(start(&other).is_ok());
}

#[test]
fn sec_login_18() {
    let salted = "c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b4dWRWJTmaaJObG5K0Vb5VvT6s";
    for hash in [
        format!("$argon2id$v=19$m=4294967295,t=1000,p=1${salted}"),
        format!("$argon2id$m=4294967295,t=1000${salted}"),
        format!("$argon2id$v=19$m=188417,t=1,p=1${salted}"),
        format!("$argon2id$v=19$m=188416,t=3,p=1${salted}"),
        format!("$argon2id$v=19$m=8,t=17,p=1${salted}"),
        format!("$argon2i$v=19$m=65536,t=1,p=1${salted}"),
        "$argon2id$m=4294967295,t=1000".to_owned(),
        "$argon2id$v=19$m=x,t=1,p=1$$".to_owned(),
        "not a hash".to_owned(),
    ] {
        assert!(PasswordCost::of(&hash).is_none(), "a sign-in would evaluate {hash}");
        let text = format!(
            "tenants: {{acme: {{users: [{{email: a@b.example, password_hash: '{hash}'}}]}}}}"
        );
        refused(&text, "tenants.acme.users[0].password_hash");
    }
    let sane = format!(
        "tenants: {{acme: {{users: [{{email: a@b.example, password_hash: '$argon2id$v=19$m=19456,t=2,p=1${salted}'}}]}}}}"
    );
    assert!(start(&sane).is_ok());
}
