-- 003: API keys are cleaned up, and their peppers are known.

-- Until 90 days after the key ended; null, for a row that was written by hand, is for ever.
ALTER TABLE api_keys ADD COLUMN keep_until INTEGER;
UPDATE api_keys SET keep_until = min(coalesce(expires_at, revoked_at, grace_until),
  coalesce(revoked_at, grace_until, expires_at), coalesce(grace_until, expires_at, revoked_at)) + 7776000000;
CREATE INDEX api_keys_keep ON api_keys (keep_until);

-- Check values of the peppers of API keys: never the secret. Keys under a retired one are refused.
CREATE TABLE api_key_peppers (
  id INTEGER NOT NULL PRIMARY KEY CHECK (id BETWEEN 1 AND 255),
  check_value BLOB NOT NULL,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  retired_at INTEGER
) STRICT;

INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
SELECT '003', 3, 'api_keys', '003_api_keys.up.sql', 'by-hand', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
