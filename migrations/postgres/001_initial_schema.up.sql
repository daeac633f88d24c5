-- 001: the initial schema (PostgreSQL 13 or newer).
--
-- Conventions. The tenant comes first in every key; `tenant_uid` defaults to the setting
-- `app.tenant_uid`, else to the tenant `default`, so that SQL written by hand works. Secrets are
-- stored as digests (`*_hash`) or sealed (`*_encrypted`), never as they are. No enum types: text with
-- a CHECK, because a new enum value cannot be used in the transaction that adds it. No foreign keys on
-- hot tables: each would lock a parent row per insert, and clients of the configuration have no row;
-- and no CHECKs on `grants` and `audit_logs`: each is parsed again by every statement that writes them.
-- Times of deletion are columns (`keep_until`, `delete_at`, `expires_at`, `exp`), so that a changed
-- setting never deletes what was issued under another.

-- ledger: begin
DO $ledger$ BEGIN
IF to_regclass('schema_migrations') IS NULL THEN
  -- What is applied now: a row goes when its migration is rolled back.
  CREATE TABLE schema_migrations (
    version text PRIMARY KEY,
    sort_key numeric NOT NULL UNIQUE,
    name text NOT NULL,
    filename text NOT NULL,
    kind text NOT NULL DEFAULT 'sql' CHECK (kind IN ('sql', 'rust', 'backfill', 'baseline', 'marked')),
    checksum text NOT NULL,
    down_checksum text,
    applied_at timestamptz NOT NULL DEFAULT now(),
    execution_time_ms bigint NOT NULL,
    applied_by text NOT NULL DEFAULT current_user,
    tool_version text,
    batch int NOT NULL DEFAULT 1,
    transactional boolean NOT NULL DEFAULT true,
    state text NOT NULL DEFAULT 'applied' CHECK (state IN ('applied', 'incomplete')),
    steps_done int,
    steps_total int,
    schema_fingerprint text,
    rank bigint GENERATED ALWAYS AS IDENTITY
  );
  -- What ever happened: only added to.
  CREATE TABLE schema_migration_history (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    version text,
    action text NOT NULL CHECK (action IN
      ('up', 'down', 'mark', 'unmark', 'baseline', 'repair', 'backup', 'dry_run', 'verify')),
    outcome text NOT NULL CHECK (outcome IN ('ok', 'failed', 'skipped')),
    at timestamptz NOT NULL DEFAULT now(),
    duration_ms bigint,
    actor text NOT NULL DEFAULT current_user,
    host text,
    tool_version text,
    attempts int,
    backup_path text,
    backup_bytes bigint,
    sqlstate text,
    error text,
    details jsonb
  );
END IF;
END $ledger$;
-- ledger: end

CREATE FUNCTION current_tenant() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('app.tenant_uid', true), ''), 'default') $$;

-- ── tenants and clients ──────────────────────────────────────────────────────────────────────────

CREATE TABLE tenants (
  uid text PRIMARY KEY CHECK (uid ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  slug text NOT NULL CHECK (slug ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  name text,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deleted')),
  issuer text,
  settings jsonb NOT NULL DEFAULT '{}',
  audit_retention_days int NOT NULL DEFAULT 90 CHECK (audit_retention_days BETWEEN 1 AND 3650),
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);
-- A deleted tenant's slug may be used again, by another uid.
CREATE UNIQUE INDEX tenants_slug ON tenants (slug) WHERE status <> 'deleted';
INSERT INTO tenants (uid, slug, name) VALUES ('default', 'default', 'Default tenant');

-- Run-time clients; those of the configuration live in memory. `metadata` holds the whole client,
-- the columns are for people and for SQL.
CREATE TABLE clients (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  client_id text NOT NULL,
  name text NOT NULL,
  client_type text NOT NULL DEFAULT 'confidential' CHECK (client_type IN ('public', 'confidential')),
  client_secret_hash text,
  api_key_hash text,
  redirect_uris text[] NOT NULL DEFAULT '{}',
  grant_types text[] NOT NULL DEFAULT '{authorization_code}',
  scopes text[] NOT NULL DEFAULT '{}',
  metadata jsonb NOT NULL DEFAULT '{}',
  status text NOT NULL DEFAULT 'active',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_uid, client_id)
);
CREATE UNIQUE INDEX clients_legacy_key ON clients (api_key_hash) WHERE api_key_hash IS NOT NULL;

-- A row means disabled, wherever the client is defined.
CREATE TABLE client_states (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  client_id text NOT NULL,
  disabled_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_uid, client_id)
);

-- ── users, sessions, consents ────────────────────────────────────────────────────────────────────

CREATE TABLE users (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  email text NOT NULL,
  username text,
  -- The one spelling by which a login is looked up: NFKC, lower case, trimmed. Written by the
  -- server; filled in by a trigger for rows that are written by hand.
  login_email text NOT NULL,
  login_username text,
  password_hash text,
  first_name text,
  last_name text,
  display_name text,
  phone text,
  avatar_url text,
  is_active boolean NOT NULL DEFAULT true,
  is_verified boolean NOT NULL DEFAULT false,
  email_verified boolean GENERATED ALWAYS AS (is_verified) STORED,
  verified_at timestamptz,
  is_locked boolean NOT NULL DEFAULT false,
  failed_login_attempts int NOT NULL DEFAULT 0,
  account_locked_until timestamptz,
  mfa_enabled boolean NOT NULL DEFAULT false,
  last_login_at timestamptz,
  last_login_ip inet,
  password_changed_at timestamptz NOT NULL DEFAULT now(),
  password_expires_at timestamptz,
  require_password_change boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz,
  PRIMARY KEY (tenant_uid, id)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX users_email ON users (tenant_uid, login_email) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_username ON users (tenant_uid, login_username)
  WHERE deleted_at IS NULL AND login_username IS NOT NULL;

CREATE FUNCTION users_login_names() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.login_email IS NULL
     OR (TG_OP = 'UPDATE' AND NEW.email <> OLD.email AND NEW.login_email = OLD.login_email) THEN
    NEW.login_email := lower(normalize(btrim(NEW.email), NFKC));
  END IF;
  IF NEW.username IS NULL THEN
    NEW.login_username := NULL;
  ELSIF NEW.login_username IS NULL
     OR (TG_OP = 'UPDATE' AND NEW.username IS DISTINCT FROM OLD.username
         AND NEW.login_username = OLD.login_username) THEN
    NEW.login_username := lower(normalize(btrim(NEW.username), NFKC));
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER users_login_names BEFORE INSERT OR UPDATE OF email, username ON users
  FOR EACH ROW EXECUTE FUNCTION users_login_names();

CREATE TABLE sessions (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  session_id uuid NOT NULL DEFAULT gen_random_uuid(),
  session_token_hash bytea NOT NULL,
  user_id uuid,
  client_id text,
  refresh_token_hash bytea,
  device_id text,
  device_type text,
  platform text,
  user_agent text,
  device_fingerprint text,
  ip_address text,
  location_data jsonb,
  is_persistent boolean NOT NULL DEFAULT false,
  auth_time timestamptz NOT NULL DEFAULT now(),
  amr text[] NOT NULL DEFAULT '{}',
  acr text,
  risk_score smallint NOT NULL DEFAULT 0,
  data jsonb NOT NULL DEFAULT '{}',
  status text NOT NULL DEFAULT 'active'
    CHECK (status IN ('active', 'expired', 'revoked', 'terminated')),
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  idle_expires_at timestamptz NOT NULL,
  last_activity_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz,
  revoke_reason text,
  -- A day after the session's end.
  keep_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, session_id)
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX sessions_token ON sessions (tenant_uid, session_token_hash);
CREATE INDEX sessions_user ON sessions (tenant_uid, user_id) WHERE status = 'active';
CREATE INDEX sessions_keep ON sessions (keep_until);

CREATE TABLE consents (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  user_id uuid NOT NULL,
  client_id text NOT NULL,
  scope text NOT NULL DEFAULT '',
  resources text[] NOT NULL DEFAULT '{}',
  granted_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_uid, user_id, client_id)
);
CREATE INDEX consents_client ON consents (tenant_uid, client_id);

-- ── grants, codes, tokens ────────────────────────────────────────────────────────────────────────

-- What a user consented to, for one client; the one row that is revoked. A refresh-token family is
-- part of it: one live head, no row per token. No refresh column is indexed, so that a rotation is
-- a heap-only update.
CREATE TABLE grants (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  client_id text NOT NULL,
  user_id uuid,
  session_id uuid,
  scope text NOT NULL DEFAULT '',
  resources text[] NOT NULL DEFAULT '{}',
  jkt text,
  offline boolean NOT NULL DEFAULT false,
  -- The whole of what was agreed, versioned. `json` and not `jsonb`: kept as it was written.
  terms json NOT NULL,
  -- `live`, then `revoked`, never the other way.
  state text NOT NULL DEFAULT 'live',
  created_at timestamptz NOT NULL DEFAULT now(),
  revoked_at timestamptz,
  idle_exp timestamptz NOT NULL,
  abs_exp timestamptz NOT NULL,
  -- The horizon: the last token that came out of it has ended, and its refresh token, too.
  keep_until timestamptz NOT NULL,
  salt bytea,
  head_kid smallint,
  head bigint,
  head_nonce bytea,
  pred bigint,
  pred_nonce bytea,
  rotated_at timestamptz,
  replaced_at timestamptz,
  replacements int NOT NULL DEFAULT 0,
  head_seen boolean NOT NULL DEFAULT false,
  repeats int NOT NULL DEFAULT 0,
  rot_fp bytea,
  differs boolean NOT NULL DEFAULT false,
  streak int NOT NULL DEFAULT 0,
  epoch text,
  PRIMARY KEY (tenant_uid, id)
) WITH (fillfactor = 70);
CREATE INDEX grants_user ON grants (tenant_uid, user_id) WHERE state = 'live';
CREATE INDEX grants_client ON grants (tenant_uid, client_id) WHERE state = 'live';
CREATE INDEX grants_session ON grants (tenant_uid, session_id)
  WHERE state = 'live' AND NOT offline AND session_id IS NOT NULL;
CREATE INDEX grants_keep ON grants (keep_until);

CREATE VIEW refresh_tokens AS
SELECT tenant_uid, id AS grant_id, client_id, user_id, session_id, scope,
  CASE WHEN state = 'live' THEN 'active' ELSE 'revoked' END AS status,
  head AS generation, created_at, least(idle_exp, abs_exp) AS expires_at, rotated_at, revoked_at,
  jkt AS dpop_jkt
FROM grants WHERE head IS NOT NULL;

CREATE TABLE authorization_codes (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  code_hash bytea NOT NULL,
  client_id text NOT NULL,
  user_id uuid NOT NULL,
  session_id uuid,
  grant_id uuid NOT NULL,
  terms json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  consumed_at timestamptz,
  -- Digest of the request that spent it, where the same request may be answered again.
  retry_fp bytea,
  wrong_verifiers int NOT NULL DEFAULT 0,
  dead_at timestamptz,
  -- Unspent: a day after it expired. Spent: its grant's horizon.
  keep_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, code_hash)
) WITH (fillfactor = 85);
CREATE INDEX authorization_codes_keep ON authorization_codes (keep_until);

-- Opaque access tokens; signed ones have no row.
CREATE TABLE access_tokens (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  token_hash bytea NOT NULL,
  jti text NOT NULL,
  client_id text NOT NULL,
  user_id uuid,
  grant_id uuid,
  -- The refresh generation that it came with: known only when it is written.
  generation bigint,
  claims json NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, token_hash)
);
-- Also finds a token by `jti`: whoever knows the one knows its `exp`.
CREATE INDEX access_tokens_expiry ON access_tokens (expires_at);

-- Identifiers that may be used once.
CREATE TABLE jti_replay (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  purpose text NOT NULL,
  jti bytea NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, purpose, jti)
);
CREATE INDEX jti_replay_expiry ON jti_replay (expires_at);

-- Authorization requests under a one-time id.
CREATE TABLE par_requests (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  request_hash bytea NOT NULL,
  client_id text,
  payload text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, request_hash)
);
CREATE INDEX par_requests_expiry ON par_requests (expires_at);

CREATE TABLE device_codes (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  device_code_hash bytea NOT NULL,
  user_code_kid smallint NOT NULL,
  user_code_hash bytea NOT NULL,
  client_id text NOT NULL,
  scope text NOT NULL DEFAULT '',
  resources text[] NOT NULL DEFAULT '{}',
  jkt text,
  terms json NOT NULL DEFAULT '{}',
  status text NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'approved', 'denied', 'redeemed')),
  user_id uuid,
  grant_id uuid,
  poll_interval int NOT NULL DEFAULT 5,
  last_polled_at timestamptz,
  requested_ip text,
  requested_user_agent text,
  created_at timestamptz NOT NULL DEFAULT now(),
  decided_at timestamptz,
  redeemed_at timestamptz,
  expires_at timestamptz NOT NULL,
  keep_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, device_code_hash),
  UNIQUE (tenant_uid, user_code_kid, user_code_hash)
) WITH (fillfactor = 85);
CREATE INDEX device_codes_keep ON device_codes (keep_until);

CREATE TABLE api_keys (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  client_id text,
  user_id uuid,
  name text NOT NULL,
  description text,
  key_prefix text,
  api_key_hash text NOT NULL,
  hash_version int NOT NULL DEFAULT 1,
  scopes text[] NOT NULL DEFAULT '{}',
  audiences text[] NOT NULL DEFAULT '{}',
  exchange boolean NOT NULL DEFAULT false,
  allowed_ips cidr[],
  rate_limit int NOT NULL DEFAULT 1000,
  rate_window_s int NOT NULL DEFAULT 3600,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  last_used_ip inet,
  usage_count bigint NOT NULL DEFAULT 0,
  revoked_at timestamptz,
  revoked boolean GENERATED ALWAYS AS (revoked_at IS NOT NULL) STORED,
  replaced_by uuid,
  grace_until timestamptz,
  PRIMARY KEY (tenant_uid, id)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX api_keys_hash ON api_keys (api_key_hash);
CREATE INDEX api_keys_client ON api_keys (tenant_uid, client_id);
CREATE INDEX api_keys_user ON api_keys (tenant_uid, user_id);
CREATE INDEX api_keys_old_hash ON api_keys (hash_version) WHERE revoked_at IS NULL;

-- ── the revocation log ───────────────────────────────────────────────────────────────────────────

-- Tells this database from every copy, restore and fail-over of it. A restore replaces the id.
CREATE TABLE store_identity (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  id uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO store_identity DEFAULT VALUES;

-- Epochs that were seen, and since when.
CREATE TABLE epochs (
  epoch text PRIMARY KEY,
  first_seen_at timestamptz NOT NULL DEFAULT now()
);

-- One row per thing revoked, only added to. `seq` names a row and is no cursor: a reader that is past
-- 2 would never see a 1 that commits later. Readers keep a snapshot and ask for what it does not see.
CREATE TABLE revocations (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  epoch text NOT NULL,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  kind text NOT NULL CHECK (kind IN
    ('jti', 'head', 'grant', 'session', 'subject', 'client', 'tenant', 'api_key', 'kid')),
  key text NOT NULL DEFAULT '',
  aud text[],
  nbf timestamptz,
  exp timestamptz NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);

-- System identifier, timeline, database, table, and the random id; hashed to 16 letters. The timeline
-- is read from the WAL position, because the control file lags a promotion by seconds.
CREATE FUNCTION revocation_epoch() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT encode(substr(sha256(convert_to(concat_ws('.',
      (SELECT system_identifier FROM pg_control_system()),
      left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
      (SELECT oid FROM pg_database WHERE datname = current_database()),
      'revocations'::regclass::oid,
      s.id), 'UTF8')), 1, 8), 'hex') FROM store_identity s);
END $$;
ALTER TABLE revocations ALTER COLUMN epoch SET DEFAULT revocation_epoch();
CREATE INDEX revocations_xid ON revocations (xid);
CREATE INDEX revocations_key ON revocations (tenant_uid, kind, key);
CREATE INDEX revocations_expiry ON revocations (exp);
INSERT INTO epochs (epoch) VALUES (revocation_epoch());

CREATE VIEW revoked_tokens AS
SELECT tenant_uid, key AS jti, exp AS expires_at, at AS revoked_at
FROM revocations WHERE kind = 'jti';

-- ── keys, limits, leases ─────────────────────────────────────────────────────────────────────────

CREATE TABLE encryption_keys (
  key_id text PRIMARY KEY,
  tenant_uid text DEFAULT current_tenant(),
  key_type text NOT NULL DEFAULT 'jwt' CHECK (key_type IN ('jwt', 'session', 'data', 'api')),
  algorithm text NOT NULL,
  key_size int,
  key_value_encrypted bytea,
  kek_id text,
  public_key jsonb,
  status text NOT NULL DEFAULT 'pending'
    CHECK (status IN ('pending', 'active', 'rotated', 'retired', 'compromised')),
  is_primary boolean NOT NULL DEFAULT false,
  rotation_policy text NOT NULL DEFAULT '90_days',
  rotation_reason text,
  created_at timestamptz NOT NULL DEFAULT now(),
  activated_at timestamptz,
  rotated_at timestamptz,
  -- When it leaves the key set.
  expires_at timestamptz,
  usage_count bigint NOT NULL DEFAULT 0,
  compliance_tags text[] NOT NULL DEFAULT '{}',
  delete_at timestamptz
);
CREATE UNIQUE INDEX encryption_keys_primary
  ON encryption_keys (coalesce(tenant_uid, ''), key_type, algorithm) WHERE is_primary;
CREATE INDEX encryption_keys_tenant ON encryption_keys (tenant_uid, key_type);
CREATE INDEX encryption_keys_delete ON encryption_keys (delete_at) WHERE delete_at IS NOT NULL;

-- Check values of the key ring: a node with another secret under a known id must not start.
CREATE TABLE ring_keys (
  id smallint PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
  check_value bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Shared counters; the key is a digest, so that no counter tells whom it counts.
CREATE TABLE login_limits (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  key_hash bytea NOT NULL,
  attempts int NOT NULL,
  first_at timestamptz NOT NULL,
  last_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, key_hash)
) WITH (fillfactor = 80);
CREATE INDEX login_limits_expiry ON login_limits (expires_at);

CREATE TABLE failed_login_attempts (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  attempted_at timestamptz NOT NULL DEFAULT now(),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  user_id uuid,
  email_hash bytea,
  ip_address inet,
  user_agent text,
  country_code char(2),
  reason text NOT NULL,
  is_anomaly boolean NOT NULL DEFAULT false,
  PRIMARY KEY (tenant_uid, attempted_at, id)
);

CREATE TABLE leases (
  name text PRIMARY KEY,
  holder text NOT NULL,
  acquired_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);

-- ── audit ────────────────────────────────────────────────────────────────────────────────────────

CREATE TABLE audit_logs (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  seq bigint GENERATED ALWAYS AS IDENTITY,
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now(),
  -- `standard`, `extended` or `hold`.
  retention_class text NOT NULL DEFAULT 'standard',
  retention_days int NOT NULL DEFAULT 90,
  delete_at timestamptz DEFAULT now() + interval '90 days',
  actor_type text NOT NULL DEFAULT 'user',
  user_id uuid,
  session_id uuid,
  api_key_id uuid,
  client_id text,
  action text NOT NULL,
  resource_type text,
  resource_id text,
  old_values jsonb,
  new_values jsonb,
  description text,
  metadata jsonb,
  request_id text,
  method text,
  endpoint text,
  response_status int,
  duration_ms int,
  success boolean NOT NULL DEFAULT true,
  error_code text,
  error_message text,
  ip_address text,
  user_agent text,
  country_code char(2),
  city text,
  is_suspicious boolean NOT NULL DEFAULT false,
  -- `low`, `medium`, `high` or `critical`.
  risk_level text NOT NULL DEFAULT 'low',
  -- A batch of failures may be written later than what happened after them.
  PRIMARY KEY (tenant_uid, created_at, seq)
);
CREATE INDEX audit_logs_delete ON audit_logs (delete_at) WHERE delete_at IS NOT NULL;

-- ── cleanup ──────────────────────────────────────────────────────────────────────────────────────

-- Deletes at most `p_batch` rows of each kind that nothing needs any more at `p_now`; returns how
-- many rows it deleted. Safe on many nodes at once: rows that another holds are skipped.
CREATE FUNCTION cleanup_expired_data(p_batch int DEFAULT 10000, p_now timestamptz DEFAULT now())
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  total bigint := 0;
  n bigint;
  kind text[];
BEGIN
  FOREACH kind SLICE 1 IN ARRAY ARRAY[
    ['authorization_codes', 'keep_until'],
    ['access_tokens', 'expires_at'],
    ['grants', 'keep_until'],
    ['sessions', 'keep_until'],
    ['revocations', 'exp'],
    ['jti_replay', 'expires_at'],
    ['par_requests', 'expires_at'],
    ['login_limits', 'expires_at'],
    ['device_codes', 'keep_until'],
    ['encryption_keys', 'delete_at'],
    ['audit_logs', 'delete_at'],
    ['leases', 'expires_at']]
  LOOP
    EXECUTE format(
      'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE %2$I <= $2
       ORDER BY %2$I LIMIT $1 FOR UPDATE SKIP LOCKED))', kind[1], kind[2]) USING p_batch, p_now;
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;
  END LOOP;
  RETURN total;
END $$;

-- Run by hand (`psql -f`), this file enters itself into the ledger; the runner does so with its own
-- figures, and completes the checksum of a file that was run by hand.
DO $$ BEGIN
IF coalesce(current_setting('pmp_auth.migrating', true), '') = '' THEN
  INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
  VALUES ('001', 1, 'initial_schema', '001_initial_schema.up.sql', 'by-hand', 0);
END IF;
END $$;
