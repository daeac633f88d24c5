-- 003: API keys are cleaned up, and their peppers are known.

-- Until 90 days after the key ended; null, for a row that was written by hand, is for ever.
ALTER TABLE api_keys ADD COLUMN keep_until timestamptz;
UPDATE api_keys SET keep_until = least(expires_at, revoked_at, grace_until) + interval '90 days';
CREATE INDEX api_keys_keep ON api_keys (keep_until);

-- Check values of the peppers of API keys: never the secret. Keys under a retired one are refused.
CREATE TABLE api_key_peppers (
  id smallint PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
  check_value bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  retired_at timestamptz
);

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
  VALUES ('003', 3, 'api_keys', '003_api_keys.up.sql', 'by-hand', 0);
END IF;
END $$;
