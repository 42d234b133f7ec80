-- The update repositories: one per tenant. Times are microseconds since the epoch.

-- Signed metadata files, byte for byte. Roots stay for ever, so that a device that was away for years finds the way.
CREATE TABLE trust_files (
  tenant_id   TEXT   NOT NULL,
  role        TEXT   NOT NULL,
  version     BIGINT NOT NULL CHECK (version > 0),
  body        BYTEA  NOT NULL,
  expires_us  BIGINT NOT NULL,
  created_us  BIGINT NOT NULL,
  created_by  TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, role, version)
);
CREATE INDEX trust_files_by_age ON trust_files (role, created_us);
