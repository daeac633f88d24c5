//! Our own accept loop: `axum::serve` can set neither header timeouts nor HTTP/2 limits.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use super::layer::Peer;
use super::pages::template::Templates;
use super::{Edge, router};
use crate::app::App;

/// Connections at once, ten thousand long polls among them; more are closed as they come.
const MAX_CONNECTIONS: usize = 20_000;
const HEADER_TIME: Duration = Duration::from_secs(10);
/// A peer that takes nothing for so long while something is to be written is not coming back, or
/// wants to make us wait.
const WRITE_TIME: Duration = Duration::from_secs(20);
const MAX_HEADERS: usize = 64 * 1024;
const MAX_STREAMS: u32 = 100;
const MAX_RESETS: usize = 50;

/// Listeners that are bound, not yet served.
pub struct Listening {
    public: TcpListener,
    operators: Option<TcpListener>,
}

impl Listening {
    /// Binds what the settings name. Nothing is answered until [`run`](Self::run).
    pub async fn bind(public: SocketAddr, operators: Option<SocketAddr>) -> io::Result<Self> {
        let operators = match operators {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        Ok(Self { public: TcpListener::bind(public).await?, operators })
    }

    /// Where the public listener is; tells the port when any was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.public.local_addr()
    }

    /// Serves until `stop`, then lets what is under way finish, as long as the settings' grace.
    pub async fn run(self, app: Arc<App>, templates: Arc<Templates>, stop: CancellationToken) {
        let edge = Edge { app: Arc::clone(&app), templates };
        let limits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = Arc::new(GracefulShutdown::new());
        let mut loops = JoinSet::new();
        let mut listeners = vec![(self.public, router::public(edge.clone()))];
        listeners.extend(self.operators.map(|it| (it, router::operators(edge))));
        for (listener, routes) in listeners {
            let accept = Accept {
                app: Arc::clone(&app),
                routes,
                limits: Arc::clone(&limits),
                graceful: Arc::clone(&graceful),
                builder: builder(),
            };
            let stop = stop.clone();
            loops.spawn(async move {
                tokio::select! {
                    () = accept.run(&listener) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        while loops.join_next().await.is_some() {}
        // The loops have ended, so nobody else has it.
        let Some(graceful) = Arc::into_inner(graceful) else { return };
        let grace = app.settings.server.shutdown_grace;
        let open = graceful.count();
        info!(connections = open, "stopped accepting; finishing what is under way");
        if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
            warn!(grace_seconds = grace.as_secs(), "gave up waiting for requests under way");
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(MAX_HEADERS)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

struct Accept {
    app: Arc<App>,
    routes: Router,
    limits: Arc<Semaphore>,
    graceful: Arc<GracefulShutdown>,
    builder: auto::Builder<TokioExecutor>,
}

impl Accept {
    async fn run(&self, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.connected(stream, peer),
                Err(error) => {
                    // Out of file descriptors, most likely: those that are open must end first.
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn connected(&self, stream: TcpStream, peer: SocketAddr) {
        let Ok(permit) = Arc::clone(&self.limits).try_acquire_owned() else {
            debug!(%peer, "too many connections");
            return; // dropped, and so closed
        };
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(WRITE_TIME));
        let stream = TokioIo::new(Box::pin(stream));
        let open = Open::new(Arc::clone(&self.app), permit);
        let spoke = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&spoke);
        let routes = self.routes.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            heard.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            routes.clone().oneshot(request)
        });
        let builder = self.builder.clone();
        let watcher = self.graceful.watcher();
        tokio::spawn(async move {
            let _open = open;
            let connection = builder.serve_connection(stream, service).into_owned();
            let connection = watcher.watch(connection);
            // hyper times the reading of headers once it knows the protocol; until then we do.
            let silent = async {
                tokio::time::sleep(HEADER_TIME).await;
                if spoke.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    debug!(%peer, %error, "a connection ended badly");
                },
                () = silent => debug!(%peer, "a connection said nothing"),
            }
        });
    }
}

/// An open connection, counted while it lives.
struct Open {
    app: Arc<App>,
    _permit: OwnedSemaphorePermit,
}

impl Open {
    fn new(app: Arc<App>, permit: OwnedSemaphorePermit) -> Self {
        app.metrics.connection(true);
        Self { app, _permit: permit }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.app.metrics.connection(false);
    }
}
