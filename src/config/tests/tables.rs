//! What is refused, by table: where it stands in the file, and a part of the message.

use super::*;

/// Each document is refused with exactly one fault, at that path, with that part of a message.
#[track_caller]
fn each_is_refused(table: &[(&str, &str, &str)]) {
    for (text, path, part) in table {
        let faults = parse("c", Path::new(""), text, &Environment::empty());
        let Err(faults) = faults else { panic!("accepted: {text}") };
        let found: Vec<_> = faults.iter().collect();
        assert_eq!(found.len(), 1, "{text}\n{faults}");
        assert_eq!(found[0].path, *path, "{text}\n{faults}");
        assert!(found[0].to_string().contains(part), "{text}\n{faults}");
    }
}

fn server(line: &str) -> String {
    format!("server: {{{line}}}\ntenants: {{acme: {{}}}}")
}

#[test]
fn server_settings() {
    for (line, key, part) in [
        ("listen: 8080", "listen", "put it in quotes"),
        ("listen: localhost", "listen", "no address and port"),
        ("admin_listen: 127.0.0.1:8080", "admin_listen", "the address of `listen`"),
        ("public_url: id.example", "public_url", "no URL"),
        ("public_url: 'ftp://id.example'", "public_url", "not an https address"),
        ("public_url: 'https://id.example/'", "public_url", "trailing slash"),
        ("public_url: 'https://id.example/auth'", "public_url", "write https://id.example"),
        ("public_url: 'https://id.example?x'", "public_url", "query"),
        ("public_url: 'https://id.example#x'", "public_url", "fragment"),
        ("public_url: 'https://u:p@id.example'", "public_url", "user name"),
        ("public_url: 'https://ID.example'", "public_url", "write https://id.example"),
        ("public_url: 'https://id.example:443'", "public_url", "write https://id.example"),
        ("public_url: 'http://id.example'", "public_url", "set `server.public_url: https://…`"),
        ("public_url: 'http://192.168.0.1:8080'", "public_url", "plain http"),
        ("public_url: 'https://id.example', demo: true", "demo", "loopback only"),
        ("trusted_proxies: 10.0.0.0/8", "trusted_proxies", "a list is expected"),
        ("trusted_proxies: [10.0.0.0/33]", "trusted_proxies[0]", "no network"),
        ("trusted_proxies: [10.0.0.1/8]", "trusted_proxies[0]", "write 10.0.0.0/8"),
        ("trusted_proxies: [0.0.0.0/0]", "trusted_proxies[0]", "trusts everyone"),
        ("tenant_host: id.example", "tenant_host", "`{tenant}`"),
        ("tenant_host: 'https://{tenant}.id.example'", "tenant_host", "no host name"),
        ("demo: no", "demo", "`no` is not true or false"),
        ("demo: 'on'", "demo", "`on` is not true or false"),
        ("shutdown_grace: 1h", "shutdown_grace", "0s to 10m"),
        ("hash_memory: 1MiB", "hash_memory", "64MiB to 64GiB"),
        ("hash_memory: 256MB", "hash_memory", "no size"),
        ("secret_keys: []", "secret_keys", "empty"),
        ("secret_keys: generated", "secret_keys", "a list is expected"),
        ("dev: true", "dev", "serve --dev"),
    ] {
        each_is_refused(&[(&server(line), &format!("server.{key}"), part)]);
    }
}

#[test]
fn key_ring() {
    let strong = "kJ7vQ2mX9pL4wR8tY1uZ6sD3fG5hB0nC-eA_iOqTxVy";
    for (entries, path, part) in [
        (format!("{{secret: {strong}}}"), "[0]", "`id` is missing"),
        (format!("{{id: 0, secret: {strong}}}"), "[0].id", "from 1 to 255"),
        (format!("{{id: 256, secret: {strong}}}"), "[0].id", "from 1 to 255"),
        (format!("{{id: 0o10, secret: {strong}}}"), "[0].id", "plain decimal"),
        (format!("{{id: .nan, secret: {strong}}}"), "[0].id", "a fraction"),
        ("{id: 1}".into(), "[0]", "no secret"),
        ("{id: 1, secret: ''}".into(), "[0].secret", "empty"),
        (format!("{{id: 1, secret: {strong}}}, {{id: 1, secret: {strong}}}"), "[1].id", "twice"),
    ] {
        let text = server(&format!("secret_keys: [{entries}]"));
        each_is_refused(&[(&text, &format!("server.secret_keys{path}"), part)]);
    }
    assert!(read(&server(&format!("secret_keys: [{{id: 255, secret: {strong}}}]"))).is_ok());
}

#[test]
fn storage_and_jobs() {
    let rest = "\ntenants: {acme: {}}";
    for (line, path, part) in [
        ("storage: {type: mysql}", "storage.type", "`memory`, `sqlite` or `postgres`"),
        ("storage: {type: postgre}", "storage.type", "did you mean `postgres`"),
        ("storage: {connection_string: x}", "storage", "`type` is missing"),
        ("storage: {type: memory, connection_string: x}", "storage.connection_string", "memory"),
        ("storage: {type: sqlite}", "storage", "`connection_string` is missing"),
        (
            "storage: {type: sqlite, connection_string: ':memory:'}",
            "storage.connection_string",
            "type: memory",
        ),
        (
            "storage: {type: sqlite, connection_string: 'postgres://x/y'}",
            "storage.connection_string",
            "no path",
        ),
        (
            "storage: {type: sqlite, connection_string: 'x.db?mode=ro'}",
            "storage.connection_string",
            "no path",
        ),
        (
            "storage: {type: sqlite, connection_string: x, listen_connection_string: y}",
            "storage.listen_connection_string",
            "only",
        ),
        (
            "storage: {type: sqlite, connection_string: x, migrate: yes}",
            "storage.migrate",
            "`check`, `auto` or `off`",
        ),
        ("storage: {max_connections: 0}", "storage.max_connections", "from 1 to 1000"),
        ("jobs: {cleanup: '* * * *'}", "jobs.cleanup", "five fields"),
        ("jobs: {cleanup: '0 0 31 2 *'}", "jobs.cleanup", "never fires"),
        ("jobs: {cleanup_batch: 0}", "jobs.cleanup_batch", "from 1 to 100000"),
        ("jobs: [cleanup]", "jobs", "a map is expected"),
    ] {
        each_is_refused(&[(&format!("{line}{rest}"), path, part)]);
    }
    let off = read(&format!("jobs: {{cleanup: off}}{rest}")).unwrap();
    assert_eq!(off.jobs.cleanup, None);
    for text in ["data/x.db", "sqlite://data/x.db", "sqlite:data/x.db"] {
        let text = format!("storage: {{type: sqlite, connection_string: '{text}'}}{rest}");
        let settings = read(&text).unwrap();
        let settings::StorageEngine::Sqlite { path } = settings.storage.engine else {
            panic!("sqlite")
        };
        assert_eq!(path, Path::new("data/x.db"));
        assert_eq!(settings.server.data_dir, Path::new("data"));
    }
}

#[test]
fn postgres_needs_a_connection_and_a_key_ring() {
    let ring = "server: {secret_keys: generate}";
    let rest = "tenants: {acme: {}}";
    for (line, path, part) in [
        ("{type: postgres}", "storage", "`connection_string` is missing"),
        (
            "{type: postgres, connection_string: 'mysql://x/y'}",
            "storage.connection_string",
            "not Postgres",
        ),
        ("{type: postgres, connection_string: 'host=db'}", "storage.connection_string", "no URL"),
    ] {
        each_is_refused(&[(&format!("{ring}\nstorage: {line}\n{rest}"), path, part)]);
    }
    let storage = "storage: {type: postgres, connection_string: 'postgres://db/x'}";
    each_is_refused(&[(&format!("{storage}\n{rest}"), "server", "never made silently")]);
    let settings = read(&format!("{ring}\n{storage}\n{rest}")).unwrap();
    assert_eq!(settings.storage.migrate, settings::MigrateMode::Check);
}

#[test]
fn tenants() {
    for (line, path, part) in [
        ("", "", "there is no tenant"),
        ("tenants:", "", "there is no tenant"),
        ("tenants: [acme]", "tenants", "a map is expected"),
        ("tenants: {Acme: {}}", "tenants.Acme", "no name of a tenant"),
        ("tenants: {a.b: {}}", "tenants.\"a.b\"", "no name of a tenant"),
        ("tenants: {a: x}", "tenants.a", "a map is expected"),
        ("tenants: {a: {name: ''}}", "tenants.a.name", "empty"),
        ("tenants: {a: {name: \"Ac\\u202Eme\"}}", "tenants.a.name", "invisible"),
        ("tenants: {a: {host: https://a.example}}", "tenants.a.host", "no host name"),
        ("tenants: {a: {host: x.example}, b: {host: x.example}}", "tenants.b", "`tenants.a` too"),
        (
            "server: {public_url: https://x.example}\ntenants: {a: {host: x.example}}",
            "tenants.a",
            "server.public_url",
        ),
        (
            "server: {tenant_host: '{tenant}.example'}\ntenants: {a_b: {}}",
            "tenants.a_b",
            "set `host`",
        ),
        ("tenants: {a: {grants: [implicit]}}", "tenants.a.grants[0]", "unsafe"),
        ("tenants: {a: {grants: [device_cod]}}", "tenants.a.grants[0]", "mean `device_code`"),
        ("tenants: {a: {device: {code_ttl: 11m}}}", "tenants.a.device.code_ttl", "out of range"),
        ("tenants: {a: {device: {interval: 0s}}}", "tenants.a.device.interval", "out of range"),
        ("tenants: {a: {device: {interval: 1500ms}}}", "tenants.a.device.interval", "whole"),
        (
            "tenants: {a: {device: {request_rate: -1}}}",
            "tenants.a.device.request_rate",
            "out of range",
        ),
        ("tenants: {a: {grants: [refresh]}}", "tenants.a.grants[0]", "not known"),
        ("tenants: {a: {scopes: [a b]}}", "tenants.a.scopes[0]", "no scope"),
        ("tenants: {a: {scopes: [x, x]}}", "tenants.a.scopes[1]", "twice"),
        ("tenants: {a: {scopes: [{description: x}]}}", "tenants.a.scopes[0]", "`name` is missing"),
        ("tenants: {a: {resources: [api]}}", "tenants.a.resources[0]", "no absolute URI"),
        (
            "tenants: {a: {resources: ['https://a.example/#x']}}",
            "tenants.a.resources[0]",
            "fragment",
        ),
        (
            "tenants: {a: {resources: [{uri: 'urn:x:y', scopes: [z]}]}}",
            "tenants.a.resources[0].scopes[0]",
            "no scope of the tenant",
        ),
        ("tenants: {a: {default_resource: 'urn:x:y'}}", "tenants.a.default_resource", "not among"),
        (
            "tenants: {a: {signing: {access_token: HS256}}}",
            "tenants.a.signing.access_token",
            "ES256",
        ),
        (
            "tenants: {a: {signing: {access_token: none}}}",
            "tenants.a.signing.access_token",
            "not known",
        ),
        ("tenants: {a: {revocation: fast}}", "tenants.a.revocation", "`view` or `strict`"),
        ("tenants: {a: {status_lists: often}}", "tenants.a.status_lists", "true"),
        ("tenants: {a: {status_lists: {ttl: 2h}}}", "tenants.a.status_lists.ttl", "1s to 60m"),
        ("tenants: {a: {status_lists: {ttl: 1500ms}}}", "tenants.a.status_lists.ttl", "whole"),
        ("tenants: {a: {code_retry: 3s}}", "tenants.a.code_retry", "0s to 2s"),
        (
            "tenants: {a: {access_token_format: jwe}}",
            "tenants.a.access_token_format",
            "`jwt` or `opaque`",
        ),
        ("tenants: {a: {branding: {accent: red}}}", "tenants.a.branding.accent", "#0f766e"),
        ("tenants: {a: {branding: {logo: logo.exe}}}", "tenants.a.branding.logo", "no picture"),
        ("tenants: {a: {branding: {logo: absent.svg}}}", "tenants.a.branding.logo", "cannot read"),
    ] {
        each_is_refused(&[(line, path, part)]);
    }
}

#[test]
fn lifetimes_name_their_bounds() {
    for (line, key, part) in [
        ("code: 601s", "code", "1s to 10m"),
        ("code: 0s", "code", "1s to 10m"),
        ("code: -5s", "code", "no duration"),
        ("code: 10", "code", "no unit"),
        ("code: '10'", "code", "no unit"),
        ("code: NaN", "code", "no duration"),
        ("access_token: 10000d", "access_token", "1s to 24h"),
        ("access_token: 99999999999999999999d", "access_token", "too long"),
        ("refresh_absolute: 0s", "refresh_absolute", "1s to 730d"),
        ("refresh_absolute: none", "refresh_absolute", "1s to 730d"),
        ("refresh_short_window: 61s", "refresh_short_window", "0s to 60s"),
        ("refresh_long_window: 25h", "refresh_long_window", "0s to 24h"),
        ("refresh_idle: 91d", "refresh_idle", "longer than `refresh_absolute`"),
        ("session_absolute: 10m", "session_absolute", "longer than `session_absolute`"),
    ] {
        let text = format!("tenants: {{a: {{lifetimes: {{{line}}}}}}}");
        each_is_refused(&[(&text, &format!("tenants.a.lifetimes.{key}"), part)]);
    }
}

#[test]
fn clients() {
    let public = "type: public, redirect_uris: [https://a.example/cb]";
    let confidential = "client_secret: s, redirect_uris: [https://a.example/cb]";
    for (line, key, part) in [
        (format!("client_id: a b, {public}"), ".client_id", "no client_id"),
        (format!("client_id: pmp-auth-demo, {public}"), ".client_id", "the server's own"),
        (public.to_owned(), "", "`client_id` is missing"),
        ("client_id: a, redirect_uris: [https://a.example/cb]".into(), "", "needs a secret"),
        (format!("client_id: a, {public}, client_secret: x"), ".client_secret", "public client has no"),
        (format!("client_id: a, type: open, {confidential}"), ".type", "`confidential` or `public`"),
        (format!("client_id: a, {public}, auth_method: client_secret_post"), ".auth_method", "does not fit"),
        (format!("client_id: a, {confidential}, auth_method: private_key_jwt"), ".auth_method", "not known"),
        ("client_id: a, type: public".into(), "", "`redirect_uris` is missing"),
        ("client_id: a, type: public, redirect_uris: []".into(), "", "`redirect_uris` is missing"),
        ("client_id: a, type: public, grants: [client_credentials]".into(), ".grants", "anyone can claim"),
        (format!("client_id: a, {public}, scopes: [opnid]"), ".scopes[0]", "did you mean `openid`"),
        (format!("client_id: a, {public}, default_scopes: [x]"), ".default_scopes[0]", "this client"),
        (format!("client_id: a, {public}, resources: ['urn:x:y']"), ".resources[0]", "not among"),
        (format!("client_id: a, {public}, require_pkce: false"), ".require_pkce", "RFC 9700"),
        (format!("client_id: a, {confidential}, id_token_alg: HS256"), ".id_token_alg", "ES256"),
        (format!("client_id: a, {public}, access_token_lifetime: 2d"), ".access_token_lifetime", "1s to 24h"),
        (format!("client_id: a, {public}, cors_origins: ['*']"), ".cors_origins[0]", "no wildcard"),
        (format!("client_id: a, {public}, cors_origins: ['https://a.example/']"), ".cors_origins[0]", "slash"),
        (format!("client_id: a, {public}, cors_origins: ['null']"), ".cors_origins[0]", "no origin"),
        (format!("client_id: a, {public}, tos_uri: 'javascript:x'"), ".tos_uri", "no https address"),
        (format!("client_id: a, {public}, enabled: 'no'"), ".enabled", "true or false"),
        ("client_id: a, type: public, redirect_uris: ['com.example.a:/cb'], application_type: web".into(), ".redirect_uris[0]", "application_type: native"),
        ("client_id: a, type: public, redirect_uris: [https://a.example/cb, https://a.example/cb]".into(), ".redirect_uris[1]", "twice"),
    ] {
        let text = format!("tenants: {{a: {{clients: [{{{line}}}]}}}}");
        each_is_refused(&[(&text, &format!("tenants.a.clients[0]{key}"), part)]);
    }
    let twice = format!(
        "tenants: {{a: {{clients: [{{client_id: a, {public}}}, {{client_id: a, {public}}}]}}}}"
    );
    each_is_refused(&[(&twice, "tenants.a.clients[1].client_id", "twice")]);
    let narrow = format!(
        "tenants: {{a: {{grants: [authorization_code], clients: [{{client_id: a, {public}, grants: [authorization_code, refresh_token]}}]}}}}"
    );
    each_is_refused(&[(&narrow, "tenants.a.clients[0].grants", "does not allow `refresh_token`")]);
}

#[test]
fn users() {
    for (line, key, part) in [
        ("username: ada", "", "`email` is missing"),
        ("email: ada", ".email", "no e-mail address"),
        ("email: a@b@c.example", ".email", "no e-mail address"),
        ("email: a@b.example, username: a@b", ".username", "no user name"),
        ("email: a@b.example, password: short", ".password", "8 characters"),
        ("email: a@b.example, password_hash: x", ".password_hash", "no PHC string"),
        ("email: a@b.example, password: longenough, password_hash: x", ".password", "set too"),
        ("email: a@b.example, name: ' Ada'", ".name", "space at an end"),
    ] {
        let text = format!("tenants: {{a: {{users: [{{{line}}}]}}}}");
        let faults = parse("c", Path::new(""), &text, &Environment::empty()).unwrap_err();
        let found = faults.iter().find(|fault| fault.path == format!("tenants.a.users[0]{key}"));
        assert!(found.is_some_and(|f| f.to_string().contains(part)), "{text}\n{faults}");
    }
    let twice = "tenants: {a: {users: [{email: a@b.example}, {email: c@b.example, username: x}, {email: A@B.example}]}}";
    each_is_refused(&[(twice, "tenants.a.users[2].email", "another user")]);
}
