-- 002 undone.

DROP INDEX sessions_token;
CREATE UNIQUE INDEX sessions_token ON sessions (tenant_uid, session_token_hash);

DROP INDEX revocations_expiry;
CREATE INDEX revocations_expiry ON revocations (exp);
ALTER TABLE revocations DROP CONSTRAINT revocations_pkey;
ALTER TABLE revocations ADD PRIMARY KEY (seq);
CREATE INDEX revocations_xid ON revocations (xid);
ALTER TABLE revocations ADD CONSTRAINT revocations_kind_check CHECK (kind IN
  ('jti', 'head', 'grant', 'session', 'subject', 'client', 'tenant', 'api_key', 'kid'));

CREATE OR REPLACE FUNCTION revocation_epoch() RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN (SELECT encode(substr(sha256(convert_to(concat_ws('.',
      (SELECT system_identifier FROM pg_control_system()),
      left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
      (SELECT oid FROM pg_database WHERE datname = current_database()),
      'revocations'::regclass::oid,
      s.id), 'UTF8')), 1, 8), 'hex') FROM store_identity s);
END $$;

DO $$ BEGIN
IF coalesce(current_setting('pmp_auth.migrating', true), '') = '' THEN
  DELETE FROM schema_migrations WHERE version = '002';
END IF;
END $$;
