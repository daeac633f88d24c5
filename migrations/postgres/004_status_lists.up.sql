-- 004: access tokens have places in status lists (draft-ietf-oauth-status-list), for tenants that want it.

-- A list per hour in which tokens end, and another when that is full. Nodes take places in blocks.
CREATE TABLE status_lists (
  tenant_uid text NOT NULL DEFAULT current_tenant(),
  -- The last moment at which a token of the list can end.
  ends_at timestamptz NOT NULL,
  number int NOT NULL,
  -- As in its address.
  id text NOT NULL,
  -- From it follows which place comes after which.
  seed bytea NOT NULL,
  -- How many of its places were taken.
  taken int NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  keep_until timestamptz NOT NULL,
  PRIMARY KEY (tenant_uid, ends_at, number)
);
CREATE UNIQUE INDEX status_lists_id ON status_lists (tenant_uid, id);
CREATE INDEX status_lists_keep ON status_lists (keep_until);

-- A signed token with a place has a row as an opaque one has, until it ends: revoked or not, it must
-- be found by whatever revokes it.
ALTER TABLE access_tokens
  ADD COLUMN status_list text GENERATED ALWAYS AS (claims -> 'status' ->> 'list') STORED,
  ADD COLUMN status_idx int GENERATED ALWAYS AS ((claims -> 'status' ->> 'idx')::int) STORED;
-- No place is given twice.
CREATE UNIQUE INDEX access_tokens_place ON access_tokens (tenant_uid, status_list, status_idx)
  WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_jti ON access_tokens (tenant_uid, jti) WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_grant ON access_tokens (tenant_uid, (claims ->> 'grant'))
  WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_session ON access_tokens (tenant_uid, (claims ->> 'session'))
  WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_user ON access_tokens (tenant_uid, (claims ->> 'user'))
  WHERE status_list IS NOT NULL;

-- Deletes at most `p_batch` rows of each kind that nothing needs any more at `p_now`; returns how
-- many rows it deleted. Safe on many nodes at once: rows that another holds are skipped.
CREATE OR REPLACE FUNCTION cleanup_expired_data(p_batch int DEFAULT 10000, p_now timestamptz DEFAULT now())
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  total bigint := 0;
  n bigint;
  kind text[];
BEGIN
  FOREACH kind SLICE 1 IN ARRAY ARRAY[
    ['authorization_codes', 'keep_until'],
    ['access_tokens', 'expires_at'],
    ['status_lists', 'keep_until'],
    ['grants', 'keep_until'],
    ['sessions', 'keep_until'],
    ['revocations', 'exp'],
    ['jti_replay', 'expires_at'],
    ['par_requests', 'expires_at'],
    ['login_limits', 'expires_at'],
    ['device_codes', 'keep_until'],
    ['api_keys', 'keep_until'],
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

DO $$ BEGIN
IF coalesce(current_setting('pmp_auth.migrating', true), '') = '' THEN
  INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
  VALUES ('004', 4, 'status_lists', '004_status_lists.up.sql', 'by-hand', 0);
END IF;
END $$;
