//! API keys at the command line, beside a running server.

use serde_json::{Value, json};

use crate::support::process::{Serving, free_port, run, write_config};
use crate::support::server::SECRET;
use crate::support::temp::TempDir;

fn config(port: u16, peppers: &str) -> String {
    format!(
        r#"
server: {{listen: "127.0.0.1:{port}", public_url: "http://127.0.0.1:{port}"{peppers}}}
storage: {{type: sqlite, connection_string: "sqlite://data/test.db"}}
tenants:
  acme:
    scopes: [openid, "orders:read", "orders:write"]
    resources: ["https://api.acme.example"]
    default_resource: https://api.acme.example
    clients:
      - {{client_id: worker, client_secret: {SECRET}, grants: [client_credentials], scopes: ["orders:read"]}}
      - {{client_id: api, client_secret: {SECRET}, grants: [], audiences: ["https://api.acme.example"]}}
    users:
      - {{username: ada, email: ada@example.com, password: plum tractor nine lagoon}}
"#
    )
}

fn command(dir: &TempDir, args: &str) -> String {
    let args: Vec<&str> = args.split(' ').collect();
    let ended = run(dir.path(), &args, "");
    assert_eq!(ended.code, 0, "{args:?}: {}", ended.stderr);
    ended.stdout.trim().to_owned()
}

fn fails(dir: &TempDir, args: &str, told: &str) {
    let args: Vec<&str> = args.split(' ').collect();
    let ended = run(dir.path(), &args, "");
    assert_eq!(ended.code, 1, "{args:?}");
    assert!(ended.stderr.contains(told), "{args:?}: {}", ended.stderr);
}

async fn told(port: u16, key: &str) -> Value {
    let url = format!("http://127.0.0.1:{port}/t/acme/introspect");
    let request = reqwest::Client::new().post(url).basic_auth("api", Some(SECRET));
    let answer = request.form(&[("token", key)]).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn operators_make_list_rotate_and_revoke_keys_beside_the_server() {
    let (dir, port) = (TempDir::new(), free_port());
    write_config(dir.path(), &config(port, ""));
    let _serving = Serving::start(dir.path(), &[]);
    let create = "api-keys create --tenant acme --client worker --name ci --scope orders:read";
    let key = command(&dir, create);
    assert!(key.starts_with("pak_"), "stdout is the key alone: {key}");
    assert_eq!(told(port, &key).await["sub"], "worker");
    let adas = command(&dir, &format!("{create} --user ada"));
    assert_ne!(told(port, &adas).await["sub"], "worker");

    let listed = command(&dir, "api-keys list -t acme --client worker -o json");
    assert!(!listed.contains(&key[12..]), "{listed}");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["prefix"]), (1, &json!(key[..12])));
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let next = command(&dir, &format!("api-keys rotate -t acme {id} --grace 60"));
    assert_eq!(told(port, &next).await["active"], true);
    assert_eq!(told(port, &key).await["active"], true);

    command(&dir, &format!("api-keys revoke -t acme {id}"));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(told(port, &key).await, json!({"active": false}));
    assert_eq!(told(port, &next).await["active"], true);

    fails(&dir, &create.replace("orders:read", "orders:write"), "`scopes` goes beyond");
    fails(&dir, &format!("{create} --days 400"), "within a year");
    fails(&dir, "api-keys create -t acme --name x", "--client");
    fails(&dir, "api-keys revoke -t acme nonsense", "there is no key");
    let file = std::fs::metadata(dir.path().join("data/api-key-pepper")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_pepper_goes_when_no_key_needs_it() {
    let (dir, port) = (TempDir::new(), free_port());
    let old = "{id: 1, secret: p9Vd2Xr6Wm4Zt8Qk1Bn5Hs3Jc7Lg0Fy-a_Ue}";
    let new = "{id: 2, secret: Zr4Tg8Kd1Hs6Yf3Np5Jc0Gqb7Qm2xVw9L-e_Oa}";
    write_config(dir.path(), &config(port, &format!(", api_key_peppers: [{old}]")));
    drop(Serving::start(dir.path(), &[]));
    let create = "api-keys create --tenant acme --client worker --name ci --scope orders:read";
    let (used, _unused) = (command(&dir, create), command(&dir, create));
    fails(&dir, "api-keys retire-pepper 1", "pepper of new keys");

    write_config(dir.path(), &config(port, &format!(", api_key_peppers: [{new}, {old}]")));
    let _serving = Serving::start(dir.path(), &[]);
    assert_eq!(told(port, &used).await["active"], true);
    let counts = || {
        let status = command(&dir, "api-keys pepper-status -o json");
        let status: Value = serde_json::from_str(&status).unwrap();
        let of = |n: usize| (status[n]["pepper"].clone(), status[n]["keys"].clone());
        (of(0), of(1))
    };
    let moved = ((json!(2), json!(1)), (json!(1), json!(1)));
    let begun = std::time::Instant::now();
    while counts() != moved {
        assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", counts());
    }
    fails(&dir, "api-keys retire-pepper 1", "1 live keys are still stored under pepper 1");
    command(&dir, "api-keys retire-pepper 1 --force");
    let status = command(&dir, "api-keys pepper-status");
    assert!(status.contains("retired") && status.contains("newest"), "{status}");
    assert_eq!(told(port, &used).await["active"], true);
}
