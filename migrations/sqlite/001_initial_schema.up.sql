-- 001: the initial schema (SQLite 3.42 or newer).
--
-- The same tables and columns as on Postgres. Conventions: times are whole milliseconds since 1970,
-- UTC; identifiers (16 bytes) and digests are blobs; lists and documents are JSON text; booleans are 0
-- and 1. The tenant comes first in every key. Tables whose key is a digest have no rowid: the row is
-- found in one descent. Times of deletion are columns (`keep_until`, `delete_at`, `expires_at`, `exp`),
-- so that a changed setting never deletes what was issued under another.

-- ledger: begin
-- What is applied now: a row goes when its migration is rolled back.
CREATE TABLE IF NOT EXISTS schema_migrations (
  version TEXT NOT NULL PRIMARY KEY,
  sort_key REAL NOT NULL UNIQUE,
  name TEXT NOT NULL,
  filename TEXT NOT NULL,
  kind TEXT NOT NULL DEFAULT 'sql' CHECK (kind IN ('sql', 'rust', 'backfill', 'baseline', 'marked')),
  checksum TEXT NOT NULL,
  down_checksum TEXT,
  applied_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  execution_time_ms INTEGER NOT NULL,
  applied_by TEXT NOT NULL DEFAULT '',
  tool_version TEXT,
  batch INTEGER NOT NULL DEFAULT 1,
  transactional INTEGER NOT NULL DEFAULT 1 CHECK (transactional IN (0, 1)),
  state TEXT NOT NULL DEFAULT 'applied' CHECK (state IN ('applied', 'incomplete')),
  steps_done INTEGER,
  steps_total INTEGER,
  schema_fingerprint TEXT
) STRICT;
-- What ever happened: only added to.
CREATE TABLE IF NOT EXISTS schema_migration_history (
  id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  run_id BLOB NOT NULL,
  version TEXT,
  action TEXT NOT NULL CHECK (action IN
    ('up', 'down', 'mark', 'unmark', 'baseline', 'repair', 'backup', 'dry_run', 'verify')),
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'failed', 'skipped')),
  at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  duration_ms INTEGER,
  actor TEXT NOT NULL DEFAULT '',
  host TEXT,
  tool_version TEXT,
  attempts INTEGER,
  backup_path TEXT,
  backup_bytes INTEGER,
  sqlstate TEXT,
  error TEXT,
  details TEXT CHECK (details IS NULL OR json_valid(details))
) STRICT;
-- ledger: end

-- ── tenants and clients ──────────────────────────────────────────────────────────────────────────

CREATE TABLE tenants (
  uid TEXT NOT NULL PRIMARY KEY,
  slug TEXT NOT NULL,
  name TEXT,
  status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
  issuer TEXT,
  settings TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(settings)),
  audit_retention_days INTEGER NOT NULL DEFAULT 90 CHECK (audit_retention_days BETWEEN 1 AND 3650),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  deleted_at INTEGER
) STRICT, WITHOUT ROWID;
-- A deleted tenant's slug may be used again, by another uid.
CREATE UNIQUE INDEX tenants_slug ON tenants (slug) WHERE status <> 'deleted';
INSERT INTO tenants (uid, slug, name) VALUES ('default', 'default', 'Default tenant');

-- Run-time clients; those of the configuration live in memory. `metadata` holds the whole client,
-- the columns are for people and for SQL.
CREATE TABLE clients (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  client_id TEXT NOT NULL,
  name TEXT NOT NULL,
  client_type TEXT NOT NULL DEFAULT 'confidential' CHECK (client_type IN ('public', 'confidential')),
  client_secret_hash TEXT,
  api_key_hash TEXT,
  redirect_uris TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(redirect_uris)),
  grant_types TEXT NOT NULL DEFAULT '["authorization_code"]' CHECK (json_valid(grant_types)),
  scopes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(scopes)),
  metadata TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(metadata)),
  status TEXT NOT NULL DEFAULT 'active',
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  PRIMARY KEY (tenant_uid, client_id)
) STRICT;
CREATE UNIQUE INDEX clients_legacy_key ON clients (api_key_hash) WHERE api_key_hash IS NOT NULL;

-- A row means disabled, wherever the client is defined.
CREATE TABLE client_states (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  client_id TEXT NOT NULL,
  disabled_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  PRIMARY KEY (tenant_uid, client_id)
) STRICT, WITHOUT ROWID;

-- ── users, sessions, consents ────────────────────────────────────────────────────────────────────

CREATE TABLE users (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  id BLOB NOT NULL DEFAULT (randomblob(16)),
  email TEXT NOT NULL,
  username TEXT,
  -- The one spelling by which a login is looked up: NFKC, lower case, trimmed. Written by the
  -- server; filled in by triggers (which know only ASCII) for rows that are written by hand.
  login_email TEXT NOT NULL DEFAULT '',
  login_username TEXT,
  password_hash TEXT,
  first_name TEXT,
  last_name TEXT,
  display_name TEXT,
  phone TEXT,
  avatar_url TEXT,
  is_active INTEGER NOT NULL DEFAULT 1 CHECK (is_active IN (0, 1)),
  is_verified INTEGER NOT NULL DEFAULT 0 CHECK (is_verified IN (0, 1)),
  email_verified INTEGER GENERATED ALWAYS AS (is_verified) STORED,
  verified_at INTEGER,
  is_locked INTEGER NOT NULL DEFAULT 0 CHECK (is_locked IN (0, 1)),
  failed_login_attempts INTEGER NOT NULL DEFAULT 0,
  account_locked_until INTEGER,
  mfa_enabled INTEGER NOT NULL DEFAULT 0 CHECK (mfa_enabled IN (0, 1)),
  last_login_at INTEGER,
  last_login_ip TEXT,
  password_changed_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  password_expires_at INTEGER,
  require_password_change INTEGER NOT NULL DEFAULT 0 CHECK (require_password_change IN (0, 1)),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  deleted_at INTEGER,
  PRIMARY KEY (tenant_uid, id)
) STRICT;
CREATE UNIQUE INDEX users_email ON users (tenant_uid, login_email) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_username ON users (tenant_uid, login_username)
  WHERE deleted_at IS NULL AND login_username IS NOT NULL;

CREATE TRIGGER users_login_names_insert AFTER INSERT ON users
WHEN NEW.login_email = '' OR (NEW.username IS NOT NULL AND NEW.login_username IS NULL)
BEGIN
  UPDATE users SET
    login_email = CASE WHEN NEW.login_email = '' THEN lower(trim(NEW.email)) ELSE NEW.login_email END,
    login_username = coalesce(NEW.login_username, lower(trim(NEW.username)))
  WHERE tenant_uid = NEW.tenant_uid AND id = NEW.id;
END;
CREATE TRIGGER users_login_names_update AFTER UPDATE OF email, username ON users
WHEN (NEW.email <> OLD.email AND NEW.login_email = OLD.login_email)
  OR (NEW.username IS NOT OLD.username AND NEW.login_username IS OLD.login_username)
BEGIN
  UPDATE users SET
    login_email = CASE WHEN NEW.email <> OLD.email AND NEW.login_email = OLD.login_email
      THEN lower(trim(NEW.email)) ELSE NEW.login_email END,
    login_username = CASE WHEN NEW.username IS NOT OLD.username AND NEW.login_username IS OLD.login_username
      THEN lower(trim(NEW.username)) ELSE NEW.login_username END
  WHERE tenant_uid = NEW.tenant_uid AND id = NEW.id;
END;

CREATE TABLE sessions (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  session_id BLOB NOT NULL DEFAULT (randomblob(16)),
  session_token_hash BLOB NOT NULL,
  user_id BLOB,
  client_id TEXT,
  refresh_token_hash BLOB,
  device_id TEXT,
  device_type TEXT,
  platform TEXT,
  user_agent TEXT,
  device_fingerprint TEXT,
  ip_address TEXT,
  location_data TEXT CHECK (location_data IS NULL OR json_valid(location_data)),
  is_persistent INTEGER NOT NULL DEFAULT 0 CHECK (is_persistent IN (0, 1)),
  auth_time INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  amr TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(amr)),
  acr TEXT,
  risk_score INTEGER NOT NULL DEFAULT 0,
  data TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(data)),
  status TEXT NOT NULL DEFAULT 'active'
    CHECK (status IN ('active', 'expired', 'revoked', 'terminated')),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  expires_at INTEGER NOT NULL,
  idle_expires_at INTEGER NOT NULL,
  last_activity_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  revoked_at INTEGER,
  revoke_reason TEXT,
  -- A day after the session's end.
  keep_until INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, session_id)
) STRICT;
CREATE UNIQUE INDEX sessions_token ON sessions (tenant_uid, session_token_hash);
CREATE INDEX sessions_user ON sessions (tenant_uid, user_id) WHERE status = 'active';
CREATE INDEX sessions_keep ON sessions (keep_until);

CREATE TABLE consents (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  user_id BLOB NOT NULL,
  client_id TEXT NOT NULL,
  scope TEXT NOT NULL DEFAULT '',
  resources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(resources)),
  granted_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  PRIMARY KEY (tenant_uid, user_id, client_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX consents_client ON consents (tenant_uid, client_id);

-- ── grants, codes, tokens ────────────────────────────────────────────────────────────────────────

-- What a user consented to, for one client; the one row that is revoked. A refresh-token family is
-- part of it: one live head, no row per token.
CREATE TABLE grants (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  id BLOB NOT NULL DEFAULT (randomblob(16)),
  client_id TEXT NOT NULL,
  user_id BLOB,
  session_id BLOB,
  scope TEXT NOT NULL DEFAULT '',
  resources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(resources)),
  jkt TEXT,
  offline INTEGER NOT NULL DEFAULT 0 CHECK (offline IN (0, 1)),
  -- The whole of what was agreed, versioned.
  terms TEXT NOT NULL CHECK (json_valid(terms)),
  state TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'revoked')),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  revoked_at INTEGER,
  idle_exp INTEGER NOT NULL,
  abs_exp INTEGER NOT NULL,
  -- The horizon: the last token that came out of it has ended, and its refresh token, too.
  keep_until INTEGER NOT NULL,
  salt BLOB,
  head_kid INTEGER,
  head INTEGER,
  head_nonce BLOB,
  pred INTEGER,
  pred_nonce BLOB,
  rotated_at INTEGER,
  replaced_at INTEGER,
  replacements INTEGER NOT NULL DEFAULT 0,
  head_seen INTEGER NOT NULL DEFAULT 0 CHECK (head_seen IN (0, 1)),
  repeats INTEGER NOT NULL DEFAULT 0,
  rot_fp BLOB,
  differs INTEGER NOT NULL DEFAULT 0 CHECK (differs IN (0, 1)),
  streak INTEGER NOT NULL DEFAULT 0,
  epoch TEXT,
  PRIMARY KEY (tenant_uid, id)
) STRICT;
CREATE INDEX grants_user ON grants (tenant_uid, user_id) WHERE state = 'live';
CREATE INDEX grants_client ON grants (tenant_uid, client_id) WHERE state = 'live';
CREATE INDEX grants_session ON grants (tenant_uid, session_id)
  WHERE state = 'live' AND offline = 0 AND session_id IS NOT NULL;
CREATE INDEX grants_keep ON grants (keep_until);

CREATE VIEW refresh_tokens AS
SELECT tenant_uid, id AS grant_id, client_id, user_id, session_id, scope,
  CASE WHEN state = 'live' THEN 'active' ELSE 'revoked' END AS status,
  head AS generation, created_at, min(idle_exp, abs_exp) AS expires_at, rotated_at, revoked_at,
  jkt AS dpop_jkt
FROM grants WHERE head IS NOT NULL;

CREATE TABLE authorization_codes (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  code_hash BLOB NOT NULL,
  client_id TEXT NOT NULL,
  user_id BLOB NOT NULL,
  session_id BLOB,
  grant_id BLOB NOT NULL,
  terms TEXT NOT NULL CHECK (json_valid(terms)),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  expires_at INTEGER NOT NULL,
  consumed_at INTEGER,
  -- Digest of the request that spent it, where the same request may be answered again.
  retry_fp BLOB,
  wrong_verifiers INTEGER NOT NULL DEFAULT 0,
  dead_at INTEGER,
  -- Unspent: a day after it expired. Spent: its grant's horizon.
  keep_until INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, code_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX authorization_codes_keep ON authorization_codes (keep_until);

-- Opaque access tokens; signed ones have no row.
CREATE TABLE access_tokens (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  token_hash BLOB NOT NULL,
  jti TEXT NOT NULL,
  client_id TEXT NOT NULL,
  user_id BLOB,
  grant_id BLOB,
  -- The refresh generation that it came with: known only when it is written.
  generation INTEGER,
  claims TEXT NOT NULL CHECK (json_valid(claims)),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, token_hash)
) STRICT, WITHOUT ROWID;
-- Also finds a token by `jti`: whoever knows the one knows its `exp`.
CREATE INDEX access_tokens_expiry ON access_tokens (expires_at);

-- Identifiers that may be used once.
CREATE TABLE jti_replay (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  purpose TEXT NOT NULL,
  jti BLOB NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, purpose, jti)
) STRICT, WITHOUT ROWID;
CREATE INDEX jti_replay_expiry ON jti_replay (expires_at);

-- Authorization requests under a one-time id.
CREATE TABLE par_requests (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  request_hash BLOB NOT NULL,
  client_id TEXT,
  payload TEXT NOT NULL,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, request_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX par_requests_expiry ON par_requests (expires_at);

CREATE TABLE device_codes (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  device_code_hash BLOB NOT NULL,
  user_code_kid INTEGER NOT NULL,
  user_code_hash BLOB NOT NULL,
  client_id TEXT NOT NULL,
  scope TEXT NOT NULL DEFAULT '',
  resources TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(resources)),
  jkt TEXT,
  terms TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(terms)),
  status TEXT NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'approved', 'denied', 'redeemed')),
  user_id BLOB,
  grant_id BLOB,
  poll_interval INTEGER NOT NULL DEFAULT 5,
  last_polled_at INTEGER,
  requested_ip TEXT,
  requested_user_agent TEXT,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  decided_at INTEGER,
  redeemed_at INTEGER,
  expires_at INTEGER NOT NULL,
  keep_until INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, device_code_hash),
  UNIQUE (tenant_uid, user_code_kid, user_code_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_codes_keep ON device_codes (keep_until);

CREATE TABLE api_keys (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  id BLOB NOT NULL DEFAULT (randomblob(16)),
  client_id TEXT,
  user_id BLOB,
  name TEXT NOT NULL,
  description TEXT,
  key_prefix TEXT,
  api_key_hash TEXT NOT NULL,
  hash_version INTEGER NOT NULL DEFAULT 1,
  scopes TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(scopes)),
  audiences TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(audiences)),
  exchange INTEGER NOT NULL DEFAULT 0 CHECK (exchange IN (0, 1)),
  allowed_ips TEXT CHECK (allowed_ips IS NULL OR json_valid(allowed_ips)),
  rate_limit INTEGER NOT NULL DEFAULT 1000,
  rate_window_s INTEGER NOT NULL DEFAULT 3600,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  expires_at INTEGER,
  last_used_at INTEGER,
  last_used_ip TEXT,
  usage_count INTEGER NOT NULL DEFAULT 0,
  revoked_at INTEGER,
  revoked INTEGER GENERATED ALWAYS AS (revoked_at IS NOT NULL) STORED,
  replaced_by BLOB,
  grace_until INTEGER,
  PRIMARY KEY (tenant_uid, id)
) STRICT;
CREATE UNIQUE INDEX api_keys_hash ON api_keys (api_key_hash);
CREATE INDEX api_keys_client ON api_keys (tenant_uid, client_id);
CREATE INDEX api_keys_user ON api_keys (tenant_uid, user_id);
CREATE INDEX api_keys_old_hash ON api_keys (hash_version) WHERE revoked_at IS NULL;

-- ── the revocation log ───────────────────────────────────────────────────────────────────────────

-- Tells this file from every copy and restore of it. A restore replaces the id.
CREATE TABLE store_identity (
  only_row INTEGER NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
  id BLOB NOT NULL DEFAULT (randomblob(16))
) STRICT;
INSERT INTO store_identity DEFAULT VALUES;

-- Epochs that were seen, and since when.
CREATE TABLE epochs (
  epoch TEXT NOT NULL PRIMARY KEY,
  first_seen_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT, WITHOUT ROWID;

-- One row per thing revoked, only added to. There is one writer at a time, so `seq` is the order of
-- commits; AUTOINCREMENT, because the number of a deleted last row would be given again otherwise.
CREATE TABLE revocations (
  seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  epoch TEXT NOT NULL DEFAULT '',
  kind TEXT NOT NULL CHECK (kind IN
    ('jti', 'head', 'grant', 'session', 'subject', 'client', 'tenant', 'api_key', 'kid')),
  key TEXT NOT NULL DEFAULT '',
  aud TEXT CHECK (aud IS NULL OR json_valid(aud)),
  nbf INTEGER,
  exp INTEGER NOT NULL,
  at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;
CREATE INDEX revocations_key ON revocations (tenant_uid, kind, key);
CREATE INDEX revocations_expiry ON revocations (exp);

CREATE VIEW revoked_tokens AS
SELECT tenant_uid, key AS jti, exp AS expires_at, at AS revoked_at
FROM revocations WHERE kind = 'jti';

-- ── keys, limits, leases ─────────────────────────────────────────────────────────────────────────

CREATE TABLE encryption_keys (
  key_id TEXT NOT NULL PRIMARY KEY,
  tenant_uid TEXT DEFAULT 'default',
  key_type TEXT NOT NULL DEFAULT 'jwt' CHECK (key_type IN ('jwt', 'session', 'data', 'api')),
  algorithm TEXT NOT NULL,
  key_size INTEGER,
  key_value_encrypted BLOB,
  kek_id TEXT,
  public_key TEXT CHECK (public_key IS NULL OR json_valid(public_key)),
  status TEXT NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'active', 'rotated', 'retired', 'compromised')),
  is_primary INTEGER NOT NULL DEFAULT 0 CHECK (is_primary IN (0, 1)),
  rotation_policy TEXT NOT NULL DEFAULT '90_days',
  rotation_reason TEXT,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  activated_at INTEGER,
  rotated_at INTEGER,
  -- When it leaves the key set.
  expires_at INTEGER,
  usage_count INTEGER NOT NULL DEFAULT 0,
  compliance_tags TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(compliance_tags)),
  delete_at INTEGER
) STRICT;
CREATE UNIQUE INDEX encryption_keys_primary
  ON encryption_keys (coalesce(tenant_uid, ''), key_type, algorithm) WHERE is_primary = 1;
CREATE INDEX encryption_keys_tenant ON encryption_keys (tenant_uid, key_type);
CREATE INDEX encryption_keys_delete ON encryption_keys (delete_at) WHERE delete_at IS NOT NULL;

-- Check values of the key ring: a node with another secret under a known id must not start.
CREATE TABLE ring_keys (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
  check_value BLOB NOT NULL,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER))
) STRICT;

-- Shared counters; the key is a digest, so that no counter tells whom it counts.
CREATE TABLE login_limits (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  key_hash BLOB NOT NULL,
  attempts INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, key_hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX login_limits_expiry ON login_limits (expires_at);

CREATE TABLE failed_login_attempts (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  attempted_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  id BLOB NOT NULL DEFAULT (randomblob(16)),
  user_id BLOB,
  email_hash BLOB,
  ip_address TEXT,
  user_agent TEXT,
  country_code TEXT,
  reason TEXT NOT NULL,
  is_anomaly INTEGER NOT NULL DEFAULT 0 CHECK (is_anomaly IN (0, 1)),
  PRIMARY KEY (tenant_uid, attempted_at, id)
) STRICT;

CREATE TABLE leases (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  acquired_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- ── audit ────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE audit_logs (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  id BLOB NOT NULL DEFAULT (randomblob(16)),
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  retention_class TEXT NOT NULL DEFAULT 'standard'
    CHECK (retention_class IN ('standard', 'extended', 'hold')),
  retention_days INTEGER NOT NULL DEFAULT 90,
  delete_at INTEGER DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER) + 7776000000),
  actor_type TEXT NOT NULL DEFAULT 'user',
  user_id BLOB,
  session_id BLOB,
  api_key_id BLOB,
  client_id TEXT,
  action TEXT NOT NULL,
  resource_type TEXT,
  resource_id TEXT,
  old_values TEXT CHECK (old_values IS NULL OR json_valid(old_values)),
  new_values TEXT CHECK (new_values IS NULL OR json_valid(new_values)),
  description TEXT,
  metadata TEXT CHECK (metadata IS NULL OR json_valid(metadata)),
  request_id TEXT,
  method TEXT,
  endpoint TEXT,
  response_status INTEGER,
  duration_ms INTEGER,
  success INTEGER NOT NULL DEFAULT 1 CHECK (success IN (0, 1)),
  error_code TEXT,
  error_message TEXT,
  ip_address TEXT,
  user_agent TEXT,
  country_code TEXT,
  city TEXT,
  is_suspicious INTEGER NOT NULL DEFAULT 0 CHECK (is_suspicious IN (0, 1)),
  risk_level TEXT NOT NULL DEFAULT 'low'
    CHECK (risk_level IN ('low', 'medium', 'high', 'critical'))
) STRICT;
-- A batch of failures may be written later than what happened after them.
CREATE INDEX audit_logs_tenant ON audit_logs (tenant_uid, created_at, seq);
CREATE INDEX audit_logs_delete ON audit_logs (delete_at) WHERE delete_at IS NOT NULL;

-- Run by hand (`sqlite3 FILE < 001…`), this file enters itself into the ledger; the runner, which says
-- so by a temporary table, does that with its own figures.
INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
SELECT '001', 1, 'initial_schema', '001_initial_schema.up.sql', 'by-hand', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
