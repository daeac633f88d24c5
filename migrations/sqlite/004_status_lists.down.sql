-- 004 undone.

DROP INDEX access_tokens_place;
DROP INDEX access_tokens_place_jti;
DROP INDEX access_tokens_place_grant;
DROP INDEX access_tokens_place_session;
DROP INDEX access_tokens_place_user;
-- Without its columns a place is nothing: the rows of signed tokens go.
DELETE FROM access_tokens WHERE status_list IS NOT NULL;
ALTER TABLE access_tokens DROP COLUMN status_idx;
ALTER TABLE access_tokens DROP COLUMN status_list;
DROP TABLE status_lists;

DELETE FROM schema_migrations WHERE version = '004'
  AND NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
