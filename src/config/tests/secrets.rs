use super::*;

const STRONG: &str = "kJ7vQ2mX9pL4wR8tY1uZ6sD3fG5hB0nC-eA_iOqTxVy";

fn production(rest: &str) -> String {
    format!(
        "server:\n  public_url: https://id.example\nstorage: {{type: sqlite, connection_string: x.db}}\n{rest}"
    )
}

fn client(lines: &str) -> String {
    format!(
        "tenants:\n  acme:\n    clients:\n      - client_id: a\n        redirect_uris: [https://a.example/]\n{lines}"
    )
}

#[test]
fn a_secret_comes_from_a_file_without_its_newline() {
    let dir = TempDir::new();
    dir.write("secret", &format!("{STRONG}\r\n"), 0o600);
    let settings = dir.read(&production(&client("        client_secret_file: secret\n"))).unwrap();
    let expected = crate::base::Digest::of(STRONG.as_bytes());
    assert_eq!(tenant(&settings).clients[0].secrets, [expected]);
}

#[test]
fn a_file_that_others_can_read_or_that_is_empty_or_absent_is_refused() {
    let dir = TempDir::new();
    dir.write("open", STRONG, 0o644);
    dir.write("empty", "\n", 0o600);
    for (file, part) in [
        ("open", "chmod 600"),
        ("empty", "is empty"),
        ("absent", "cannot read"),
        (".", "is no file"),
    ] {
        let told = dir.read(&client(&format!("        client_secret_file: {file}\n"))).unwrap_err();
        assert!(told.contains(part), "{file}: {told}");
        assert!(
            told.contains("config.yaml:6:29 tenants.acme.clients[0].client_secret_file"),
            "{told}"
        );
    }
}

#[test]
fn a_secret_given_twice_is_refused() {
    let dir = TempDir::new();
    dir.write("secret", STRONG, 0o600);
    for text in [
        client("        client_secret: x\n        client_secret_file: secret\n"),
        "tenants: {acme: {users: [{email: a@b.example, password: longenough, password_file: secret}]}}".into(),
        "server: {secret_keys: [{id: 1, secret: x, secret_file: secret}]}\ntenants: {acme: {}}".into(),
        "storage: {type: postgres, connection_string: x, connection_string_file: secret}\nserver: {secret_keys: generate}\ntenants: {acme: {}}".into(),
    ] {
        let told = dir.read(&text).unwrap_err();
        assert_eq!(told.matches("fix:").count(), 1, "{told}");
        assert!(told.contains("both `") || told.contains("given twice"), "{told}");
    }
}

#[test]
fn in_production_no_secret_stands_in_the_file_but_one_may_come_from_the_environment() {
    let secret = format!("        client_secret: {STRONG}\n");
    let told = read(&production(&client(&secret))).unwrap_err();
    assert!(told.contains("clients[0].client_secret: a secret stands in the file"), "{told}");
    assert!(read(&client(&secret)).is_ok(), "on loopback it may");

    let text = production(
        "tenants: {acme: {users: [{email: a@b.example, password: correct horse battery}]}}",
    );
    let told = read(&text).unwrap_err();
    assert!(told.contains("users[0].password: a secret stands in the file"), "{told}");

    let text = "server: {public_url: https://id.example, secret_keys: generate}\n\
                storage: {type: postgres}\ntenants: {acme: {}}";
    let environment = Environment::empty()
        .with("PMP_AUTH__STORAGE__CONNECTION_STRING", "postgres://u:secret@db.example/x");
    assert!(read_with(text, &environment).is_ok());
}

#[test]
fn a_password_in_the_file_asks_for_a_file_that_only_its_owner_reads() {
    let dir = TempDir::new();
    let text = "server: {public_url: https://id.example, secret_keys: generate}\n\
                storage: {type: postgres, connection_string: 'postgres://u:pw@db.example/x'}\n\
                tenants: {acme: {}}";
    dir.write("config.yaml", text, 0o644);
    let path = dir.0.join("config.yaml");
    let told = load(&path, &Environment::empty()).unwrap_err().to_string();
    assert!(told.contains("storage.connection_string: every user of this machine"), "{told}");
    dir.write("config.yaml", text, 0o600);
    assert!(load(&path, &Environment::empty()).is_ok());
}

#[test]
fn two_hashes_are_taken_while_a_secret_is_changed() {
    let hash = |secret: &str| {
        let digest = crate::base::Digest::<()>::of(secret.as_bytes());
        format!("sha256:{}", crate::base::base64url::encode(digest.as_bytes()))
    };
    let lines = format!(
        "        client_secret_hash: [{}, {}]\n",
        hash(STRONG),
        hash("another one of them")
    );
    let settings = read(&production(&client(&lines))).unwrap();
    assert_eq!(tenant(&settings).clients[0].secrets.len(), 2);
    for bad in [hash("changeme"), "sha256:abc".into(), "md5:x".into(), "[]".into()] {
        assert!(read(&client(&format!("        client_secret_hash: {bad}\n"))).is_err(), "{bad}");
    }
}

#[test]
fn what_is_left_to_us_is_made_once_and_kept() {
    let dir = TempDir::new();
    let text = format!(
        "storage: {{type: sqlite, connection_string: db/x.db}}\n{}",
        client("        client_secret: generate\n")
    );
    let start = || {
        let mut settings = dir.read(&text).unwrap();
        let made = generated::complete(&mut settings, &SystemEntropy).unwrap();
        (settings, made)
    };
    let (first, made) = start();
    assert!(made.client_secrets[0].kept.created);
    let secret = made.client_secrets[0].kept.secret.reveal().as_bytes();
    assert_eq!(tenant(&first).clients[0].secrets, [crate::base::Digest::of(secret)]);

    let (second, found) = start();
    assert!(!found.client_secrets[0].kept.created);
    assert!(found.client_secrets[0].kept.secret.matches(secret));
    let ring = |settings: &Settings| settings.server.secret_keys[0].secret.reveal().clone();
    assert_eq!(ring(&first), ring(&second));

    for file in ["db/secret-keys", "db/secrets/acme.a.secret"] {
        let mode = fs::metadata(dir.0.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(fs::read_dir(dir.0.join("db/secrets")).unwrap().count(), 1, "no drafts are left");
}

#[test]
fn starts_at_the_same_time_agree_on_one_secret() {
    let dir = TempDir::new();
    let secrets: Vec<String> = std::thread::scope(|scope| {
        let start = || {
            let make = |entropy: &dyn Entropy| {
                crate::base::Secret::new(base62::encode(&entropy.bytes::<32>()))
            };
            let kept = generated::ensure_secret(&dir.0, "s", &SystemEntropy, make).unwrap();
            kept.secret.reveal().clone()
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(secrets.iter().all(|secret| *secret == secrets[0]));
}

#[test]
fn a_dev_server_keeps_nothing() {
    let mut settings =
        embedded::dev("127.0.0.1:8080".parse().unwrap(), &Environment::empty()).unwrap();
    let made = generated::complete(&mut settings, &SystemEntropy).unwrap();
    assert_eq!(made.client_secrets[0].kept.path, None);
    assert_eq!(made.passwords[0].login, "dev");
    assert_eq!(settings.server.secret_keys.len(), 1);
}
