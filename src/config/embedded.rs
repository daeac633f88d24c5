//! The configuration of `pmp-auth serve --dev`: no file, nothing kept.

use std::net::SocketAddr;
use std::path::Path;

use super::{Document, Environment, Faults, Settings};

/// What `serve --dev` serves on `listen`: memory, the demo, one tenant `dev` with a user, a
/// confidential client `web-app`, the API `api` and the public clients `spa` and `tv`, all secrets fresh.
pub fn dev(listen: SocketAddr, environment: &Environment) -> Result<Settings, Faults> {
    let text = text(listen);
    let document = Document {
        file: "the built-in configuration",
        base: Path::new(""),
        text: &text,
        world_readable: false,
        dev: true,
    };
    document.settings(environment)
}

/// Where browsers find a server that listens there: an address for all interfaces is reached on
/// loopback.
fn public_url(listen: SocketAddr) -> String {
    let mut local = listen;
    if listen.ip().is_unspecified() {
        local.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let spelt = format!("http://{local}");
    // Port 80 goes without saying, and an issuer has one spelling.
    spelt.strip_suffix(":80").map_or(spelt.clone(), str::to_owned)
}

fn text(listen: SocketAddr) -> String {
    let public_url = public_url(listen);
    format!(
        r#"
server:
  listen: "{listen}"
  public_url: "{public_url}"
  demo: true
tenants:
  dev:
    name: Dev
    scopes:
      - openid
      - profile
      - email
      - offline_access
      - name: notes:read
        description: Read your notes
      - name: orders:read
        description: See your orders
    resources: [https://api.example]
    default_resource: https://api.example
    clients:
      - client_id: web-app
        name: Your web app
        type: confidential
        client_secret: generate
        redirect_uris: [http://127.0.0.1:3000/callback, http://localhost:3000/callback]
        post_logout_redirect_uris: [http://127.0.0.1:3000/, http://localhost:3000/]
        grants: [authorization_code, refresh_token, client_credentials]
        scopes: [openid, profile, email, offline_access, notes:read, orders:read]
        resources: [https://api.example]
        audiences: [https://api.example]
      - client_id: spa
        name: Your single-page app
        type: public
        application_type: browser
        redirect_uris: [http://127.0.0.1:5173/callback, http://localhost:5173/callback]
        cors_origins: [http://127.0.0.1:5173, http://localhost:5173]
      - client_id: tv
        name: Your TV app
        type: public
        grants: [device_code, refresh_token]
        scopes: [openid, profile, email, offline_access]
      - client_id: api
        name: Your API
        type: confidential
        client_secret: generate
        grants: [client_credentials]
        scopes: [revocations:read]
        audiences: [https://api.example]
    users:
      - email: dev@example.com
        username: dev
        name: Dee Veloper
        password: generate
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_valid_wherever_it_listens() {
        for listen in ["127.0.0.1:8080", "0.0.0.0:9000", "[::1]:80"] {
            let settings = dev(listen.parse().unwrap(), &Environment::empty()).unwrap();
            assert!(settings.server.dev && settings.server.demo, "{listen}");
            let tenant = settings.tenants.values().next().unwrap();
            assert_eq!(tenant.generated_secrets.len(), 2);
            assert!(tenant.clients[1].is_public());
        }
    }

    #[test]
    fn the_environment_reaches_it_too() {
        let environment = Environment::empty().with("PMP_AUTH__TENANTS__DEV__NAME", "Mine");
        let settings = dev("127.0.0.1:8080".parse().unwrap(), &environment).unwrap();
        assert_eq!(settings.tenants.values().next().unwrap().name, "Mine");
        let faulty = Environment::empty().with("PMP_AUTH__SERVER__DEMOO", "true");
        let faults = dev("127.0.0.1:8080".parse().unwrap(), &faulty).unwrap_err();
        assert!(faults.to_string().contains("did you mean `demo`?"), "{faults}");
    }
}
