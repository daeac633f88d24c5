-- 004: access tokens have places in status lists (draft-ietf-oauth-status-list), for tenants that want it.

-- A list per hour in which tokens end, and another when that is full. Places are taken in blocks.
CREATE TABLE status_lists (
  tenant_uid TEXT NOT NULL DEFAULT 'default',
  -- The last moment at which a token of the list can end.
  ends_at INTEGER NOT NULL,
  number INTEGER NOT NULL,
  -- As in its address.
  id TEXT NOT NULL,
  -- From it follows which place comes after which.
  seed BLOB NOT NULL,
  -- How many of its places were taken.
  taken INTEGER NOT NULL,
  created_at INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000 AS INTEGER)),
  keep_until INTEGER NOT NULL,
  PRIMARY KEY (tenant_uid, ends_at, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX status_lists_id ON status_lists (tenant_uid, id);

-- A signed token with a place has a row as an opaque one has, until it ends: revoked or not, it must
-- be found by whatever revokes it.
ALTER TABLE access_tokens
  ADD COLUMN status_list TEXT GENERATED ALWAYS AS (claims -> 'status' ->> 'list') VIRTUAL;
ALTER TABLE access_tokens
  ADD COLUMN status_idx INTEGER GENERATED ALWAYS AS (claims -> 'status' ->> 'idx') VIRTUAL;
-- No place is given twice.
CREATE UNIQUE INDEX access_tokens_place ON access_tokens (tenant_uid, status_list, status_idx)
  WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_jti ON access_tokens (tenant_uid, jti) WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_grant ON access_tokens (tenant_uid, claims ->> 'grant')
  WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_session ON access_tokens (tenant_uid, claims ->> 'session')
  WHERE status_list IS NOT NULL;
CREATE INDEX access_tokens_place_user ON access_tokens (tenant_uid, claims ->> 'user')
  WHERE status_list IS NOT NULL;

INSERT INTO schema_migrations (version, sort_key, name, filename, checksum, execution_time_ms)
SELECT '004', 4, 'status_lists', '004_status_lists.up.sql', 'by-hand', 0
WHERE NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
