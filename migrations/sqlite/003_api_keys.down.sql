-- 003 undone.

DROP TABLE api_key_peppers;
DROP INDEX api_keys_keep;
ALTER TABLE api_keys DROP COLUMN keep_until;

DELETE FROM schema_migrations WHERE version = '003'
  AND NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
