//! The floor of each operation: a bare axum route that does only what cannot be avoided (the same
//! bytes, the same signature, one committed statement), to be measured beside the server.

use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};
use axum::extract::{Form, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sqlx::{PgPool, SqlitePool};

struct Floor {
    pair: EcdsaKeyPair,
    /// A signature over `fixed`.
    fixed: Vec<u8>,
    random: SystemRandom,
    postgres: Option<PgPool>,
    sqlite: Option<SqlitePool>,
    page: Bytes,
}

#[derive(Deserialize)]
struct Body {
    token: Option<String>,
}

type Answer = (StatusCode, [(HeaderName, &'static str); 1], Bytes);

/// Serves on `port` until the process is ended. `database`: a Postgres URL, a SQLite path, or none.
#[tokio::main(worker_threads = 1)]
pub async fn serve(port: u16, database: Option<&str>, page_bytes: usize) {
    let document = EcdsaKeyPair::generate_pkcs8(
        &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &SystemRandom::new(),
    )
    .expect("a key");
    let pair =
        EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref())
            .expect("a key pair");
    let random = SystemRandom::new();
    let fixed = pair.sign(&random, b"fixed").expect("a signature").as_ref().to_vec();
    let mut floor = Floor {
        pair,
        fixed,
        random,
        postgres: None,
        sqlite: None,
        page: Bytes::from(vec![b'x'; page_bytes]),
    };
    match database {
        Some(url) if url.starts_with("postgres") => floor.postgres = Some(postgres(url).await),
        Some(path) => floor.sqlite = Some(sqlite(path).await),
        None => {}
    }
    let app = Router::new()
        .route("/page", get(page))
        .route("/form", post(form))
        .route("/sign", post(sign))
        .route("/verify", post(verify))
        .route("/insert", post(insert))
        .route("/select", post(select))
        .route("/update", post(update))
        .route("/refusal", post(refusal))
        .route("/rotate", post(rotate))
        .route("/authorize", get(authorize))
        .route("/redeem", post(redeem))
        .with_state(Arc::new(floor));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a port");
    axum::serve(listener, app).await.expect("it serves");
}

const TABLE: &str = "create table if not exists floor (id bytea primary key, data text not null, n bigint not null default 0)";

async fn postgres(url: &str) -> PgPool {
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(16).connect(url).await;
    let pool = pool.expect("a connection");
    sqlx::query(TABLE).execute(&pool).await.expect("a table");
    sqlx::query("insert into floor values ('\\x00', 'x') on conflict do nothing")
        .execute(&pool)
        .await
        .expect("a row");
    let rows = "insert into floor select decode(lpad(to_hex(n), 4, '0'), 'hex'), 'x' from generate_series(1, 4096) n on conflict do nothing";
    sqlx::query(rows).execute(&pool).await.expect("rows");
    pool
}

async fn sqlite(path: &str) -> SqlitePool {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool =
        sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await;
    let pool = pool.expect("a file");
    sqlx::query(TABLE).execute(&pool).await.expect("a table");
    sqlx::query("insert into floor values (x'00', 'x', 0) on conflict do nothing")
        .execute(&pool)
        .await
        .expect("a row");
    for n in 1..=4096_u16 {
        let row = sqlx::query("insert into floor values ($1, 'x', 0) on conflict do nothing");
        row.bind(n.to_be_bytes().as_slice()).execute(&pool).await.expect("a row");
    }
    pool
}

fn json(bytes: impl Into<Bytes>) -> Answer {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], bytes.into())
}

impl Floor {
    fn token(&self) -> String {
        let claims = format!(
            r#"{{"iss":"http://127.0.0.1:8080/t/bench","sub":"svc","aud":"http://127.0.0.1:8080/t/bench","client_id":"svc","iat":1700000000,"exp":1700000600,"jti":"{}","scope":"read"}}"#,
            URL_SAFE_NO_PAD.encode(random())
        );
        let header =
            r#"{"typ":"at+jwt","alg":"ES256","kid":"0123456789012345678901234567890123456789012"}"#;
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&self.random, signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn committed(&self, statement: &'static str, id: &[u8]) {
        if let Some(pool) = &self.postgres {
            sqlx::query(statement).bind(id).execute(pool).await.expect("a statement");
        } else if let Some(pool) = &self.sqlite {
            sqlx::query(statement).bind(id).execute(pool).await.expect("a statement");
        }
    }

    async fn read(&self) {
        const STATEMENT: &str = "select data from floor where id = $1";
        if let Some(pool) = &self.postgres {
            sqlx::query(STATEMENT).bind([0_u8].as_slice()).fetch_one(pool).await.expect("a row");
        } else if let Some(pool) = &self.sqlite {
            sqlx::query(STATEMENT).bind([0_u8].as_slice()).fetch_one(pool).await.expect("a row");
        }
    }
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("randomness");
    bytes
}

async fn page(State(floor): State<Arc<Floor>>) -> Answer {
    json(floor.page.clone())
}

async fn form(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    json(floor.page.clone())
}

async fn sign(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    json(format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expires_in":600}}"#,
        floor.token()
    ))
}

async fn verify(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> impl IntoResponse {
    let token = body.token.unwrap_or_default();
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed);
    let key = signature::UnparsedPublicKey::new(
        &signature::ECDSA_P256_SHA256_FIXED,
        floor.pair.public_key().as_ref(),
    );
    std::hint::black_box((signed, key.verify(b"fixed", &floor.fixed).is_ok()));
    json(floor.page.clone())
}

const INSERT: &str = "insert into floor (id, data) values ($1, 'a row about as long as what a token needs: client, scope, audience, times')";

async fn insert(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    floor.committed(INSERT, &random()).await;
    json(floor.page.clone())
}

async fn select(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    floor.read().await;
    json(floor.page.clone())
}

/// A poll: one conditional update of a row among many, committed like everything else.
async fn update(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    let random = random();
    let row = (u16::from_be_bytes([random[0], random[1]]) % 4096 + 1).to_be_bytes();
    floor.committed("update floor set n = n + 1 where id = $1 and n >= 0", &row).await;
    refused()
}

/// A poll that is too early: nothing but the answer.
async fn refusal(Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    refused()
}

fn refused() -> Answer {
    let body = r#"{"error":"slow_down","error_description":"as many words as the server has for it: wait five seconds longer before each poll"}"#;
    json(body)
}

/// A refresh: read the row, commit its change, sign an access token.
async fn rotate(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    floor.read().await;
    let id = random();
    floor.committed(INSERT, &id).await;
    json(format!(
        r#"{{"access_token":"{}","token_type":"Bearer","expires_in":600}}"#,
        floor.token()
    ))
}

/// An authorization request: read the session, commit grant and code.
async fn authorize(State(floor): State<Arc<Floor>>) -> Answer {
    floor.read().await;
    floor.committed(INSERT, &random()).await;
    json(floor.page.clone())
}

/// Its redemption: peek at the code, commit the spend, sign both tokens.
async fn redeem(State(floor): State<Arc<Floor>>, Form(body): Form<Body>) -> Answer {
    std::hint::black_box(body.token);
    floor.read().await;
    floor.committed(INSERT, &random()).await;
    json(format!(r#"{{"access_token":"{}","id_token":"{}"}}"#, floor.token(), floor.token()))
}
