-- 004 undone.

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

DROP INDEX access_tokens_place, access_tokens_place_jti, access_tokens_place_grant,
  access_tokens_place_session, access_tokens_place_user;
-- Without its columns a place is nothing: the rows of signed tokens go.
DELETE FROM access_tokens WHERE status_list IS NOT NULL;
ALTER TABLE access_tokens DROP COLUMN status_list, DROP COLUMN status_idx;
DROP TABLE status_lists;

DO $$ BEGIN
IF coalesce(current_setting('pmp_auth.migrating', true), '') = '' THEN
  DELETE FROM schema_migrations WHERE version = '004';
END IF;
END $$;
