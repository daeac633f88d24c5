-- 001 undone: everything but the ledger of migrations goes.

DROP VIEW revoked_tokens;
DROP VIEW refresh_tokens;
DROP TABLE audit_logs;
DROP TABLE leases;
DROP TABLE failed_login_attempts;
DROP TABLE login_limits;
DROP TABLE ring_keys;
DROP TABLE encryption_keys;
DROP TABLE revocations;
DROP TABLE epochs;
DROP TABLE store_identity;
DROP TABLE api_keys;
DROP TABLE device_codes;
DROP TABLE par_requests;
DROP TABLE jti_replay;
DROP TABLE access_tokens;
DROP TABLE authorization_codes;
DROP TABLE grants;
DROP TABLE consents;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE client_states;
DROP TABLE clients;
DROP TABLE tenants;

DELETE FROM schema_migrations WHERE version = '001'
  AND NOT EXISTS (SELECT 1 FROM sqlite_temp_master WHERE name = 'pmp_auth_migrating');
