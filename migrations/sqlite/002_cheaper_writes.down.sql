-- 002 undone.

CREATE INDEX revocations_expiry ON revocations (exp);

DELETE FROM schema_migrations WHERE version = '002'
  AND NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
