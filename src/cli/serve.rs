use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::desk::ConfigArg;
use super::exit::Failure;
use super::output;
use super::sign_ins::{DEV_ISSUER, again};
use crate::app::{App, Surroundings};
use crate::config::generated::ClientSecretKept;
use crate::config::settings::Settings;
use crate::config::{self, Environment, embedded, warnings};
use crate::http::Listening;
use crate::http::pages::template::Templates;
use crate::jobs;
use crate::model::client::{AuthMethod, GrantType};
use crate::model::{Client, ClientId};
use crate::rp::builtin;
use crate::telemetry::{LogFormat, start_logs};

/// Run the server
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigArg,
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Need no file: memory storage, one tenant with a user and four clients, the demo at /demo
    #[arg(long, conflicts_with = "config")]
    dev: bool,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let environment = Environment::of_process();
        let settings = self.settings(&environment)?;
        start_logs(Environment::log_filter().as_deref(), LogFormat::for_stderr());
        for warning in warnings(&settings) {
            warn!("{warning}");
        }
        let templates = Arc::new(Templates::new()?);
        let (listen, operators) = (settings.server.listen, settings.server.admin_listen);
        let listening = Listening::bind(listen, operators).await.map_err(|error| {
            let also = operators.map_or_else(String::new, |address| format!(" and {address}"));
            Failure::because(format!(
                "cannot listen on {listen}{also}: {error}\n    fix: stop what listens there, or \
                 choose another address with --listen or server.listen"
            ))
        })?;
        let address = listening.address()?;
        let app = App::start(settings, Surroundings::default()).await?;
        let _ = app.listening.set(address);
        let (store, clock) = (Arc::clone(&app.store), Arc::clone(&app.clock));
        let jobs = jobs::start(store, &app.settings.jobs, clock, &*app.entropy).await?;
        if std::io::stderr().is_terminal() || app.settings.server.is_loopback() {
            output::talk(&welcome(&app));
        }
        info!(address = %address, engine = app.store.engine().as_str(), "serving");
        let stop = CancellationToken::new();
        tokio::spawn(on_signal(Arc::clone(&app), stop.clone()));
        listening.run(Arc::clone(&app), templates, stop).await;
        jobs.stop().await;
        app.stop().await;
        info!("stopped");
        Ok(())
    }

    fn settings(&self, environment: &Environment) -> Result<Settings, Failure> {
        if self.dev {
            let listen = self.listen.unwrap_or_else(|| ([127, 0, 0, 1], 8080).into());
            return embedded::dev(listen, environment).map_err(Failure::Configuration);
        }
        let environment = match self.listen {
            Some(listen) => {
                environment.clone().with("PMP_AUTH__SERVER__LISTEN", &listen.to_string())
            }
            None => environment.clone(),
        };
        config::load(&self.config.config, &environment).map_err(Failure::Configuration)
    }
}

/// Waits for SIGTERM or SIGINT; then readiness goes first, and the listeners after it.
async fn on_signal(app: Arc<App>, stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals cannot be received; end the process to stop");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    info!("stopping");
    app.begin_stop();
    stop.cancel();
}

/// What someone who just started it wants to know next.
fn welcome(app: &App) -> String {
    let mut text = format!("\n  pmp-auth {} is ready.\n\n  Issuers:\n", env!("CARGO_PKG_VERSION"));
    for tenant in app.registry.all() {
        let _ = writeln!(text, "    {}", tenant.issuer());
    }
    for (slug, user) in &app.first_start.users {
        if let Some(made) = &user.generated {
            let _ = write!(
                text,
                "\n  A user of `{slug}` was made: {} with the password {}\n",
                user.login,
                made.password.reveal(),
            );
            if app.settings.server.dev {
                text.push_str("    It is gone when the server stops.\n");
            } else {
                let _ = writeln!(
                    text,
                    "    It is kept in {} and not shown again.",
                    made.file.display()
                );
            }
        }
    }
    for made in &app.first_start.passwords {
        let _ = write!(
            text,
            "\n  A user of `{}`, gone when the server stops:\n    {} with the password {}\n",
            made.tenant,
            made.login,
            made.password.reveal(),
        );
    }
    if let Some(curl) = curl(app) {
        let _ = write!(text, "\n  A token, by client_credentials:\n    {curl}\n");
    }
    if app.demo.is_some() {
        let url = app.settings.server.public_url.as_str().trim_end_matches('/');
        let _ = write!(text, "\n  Log in through the demo app:\n    {url}/demo\n");
        let cli = ClientId::new(builtin::CLI);
        let tenants = app.registry.all();
        let device = tenants.iter().find(|t| t.settings.clients.iter().any(|c| c.id == cli));
        if let Some(tenant) = device {
            let command = again(Some(tenant.issuer()), None);
            let _ = write!(
                text,
                "\n  Sign this terminal in, or a television:\n    {command}\n    {url}/demo/tv\n"
            );
        }
    }
    if let Some(command) = sample_api(app) {
        let _ =
            write!(text, "\n  Run an API that refuses revoked tokens at once:\n    {command}\n");
    }
    text
}

/// The command that runs the sample API beside this server, as the dev tenant's `api`. Its secret is
/// nowhere else, and goes by the environment: arguments can be read by every process.
fn sample_api(app: &App) -> Option<String> {
    let own = |made: &&ClientSecretKept| {
        app.settings.server.dev && made.client.as_str() == super::demo::DEV_CLIENT
    };
    let made = app.first_start.client_secrets.iter().find(own)?;
    let tenant = app.registry.named(made.tenant.as_str())?;
    let secret = made.kept.secret.reveal();
    let mut command = format!("PMP_AUTH_CLIENT_SECRET={secret} pmp-auth demo api");
    if tenant.issuer() != DEV_ISSUER {
        let _ = write!(command, " --issuer {}", tenant.issuer());
    }
    Some(command)
}

/// A `curl` that gets a token: with the secret itself where it is nowhere else, else with its file.
fn curl(app: &App) -> Option<String> {
    app.first_start.client_secrets.iter().find_map(|made| {
        let tenant = app.registry.named(made.tenant.as_str())?;
        let client = tenant.settings.clients.iter().find(|client| client.id == made.client)?;
        if !client.may_use(GrantType::ClientCredentials) {
            return None;
        }
        let secret = match &made.kept.path {
            Some(path) => format!("$(cat {})", path.display()),
            None => made.kept.secret.reveal().clone(),
        };
        Some(command(tenant.issuer(), client, &secret))
    })
}

fn command(issuer: &str, client: &Client, secret: &str) -> String {
    let proof = match client.auth_method {
        AuthMethod::ClientSecretPost => {
            format!("-d client_id={} -d \"client_secret={secret}\"", client.id)
        }
        _ => format!("-u \"{}:{secret}\"", client.id),
    };
    format!("curl -s {proof} -d grant_type=client_credentials {issuer}/token")
}
