-- The fleet: devices and their keys, join tokens, commands, telemetry.
-- Times are microseconds since the epoch, ids and JSON are text, flags are 0 or 1.

CREATE TABLE devices (
  tenant_id      TEXT   NOT NULL,
  id             TEXT   NOT NULL UNIQUE,
  name           TEXT   NOT NULL,
  state          TEXT   NOT NULL CHECK (state IN ('active', 'revoked')),
  token_id       TEXT,
  created_us     BIGINT NOT NULL,
  revision       BIGINT NOT NULL DEFAULT 1,
  -- The session that made the device online; null: offline.
  session        BIGINT,
  transport      TEXT,
  address        TEXT,
  agent_version  TEXT,
  last_seen_us   BIGINT,
  cert_end_us    BIGINT NOT NULL,
  revoked_us     BIGINT,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX devices_by_name ON devices (tenant_id, name);

-- The labels of the device's intent, mirrored so that selectors are SQL.
CREATE TABLE device_labels (
  tenant_id  TEXT NOT NULL,
  device_id  TEXT NOT NULL,
  key        TEXT NOT NULL,
  value      TEXT NOT NULL,
  PRIMARY KEY (tenant_id, device_id, key),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX device_labels_by_value ON device_labels (tenant_id, key, value);

-- Every key that a device was ever certified with: old ones still verify edits signed before a renewal.
CREATE TABLE device_keys (
  tenant_id   TEXT   NOT NULL,
  device_id   TEXT   NOT NULL,
  key_id      TEXT   NOT NULL,
  spki        BYTEA  NOT NULL,
  serial      TEXT   NOT NULL,
  created_us  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id, key_id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE tokens (
  tenant_id     TEXT   NOT NULL,
  id            TEXT   NOT NULL UNIQUE,
  secret_hash   BYTEA  NOT NULL,
  labels        TEXT   NOT NULL,
  uses          BIGINT NOT NULL CHECK (uses > 0),
  used          BIGINT NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND uses),
  created_us    BIGINT NOT NULL,
  created_by    TEXT   NOT NULL,
  expires_us    BIGINT NOT NULL,
  last_used_us  BIGINT,
  PRIMARY KEY (tenant_id, id)
);

-- `request` holds the arguments as they travel, and nothing once the command has finished; `arguments` is what people see.
CREATE TABLE commands (
  tenant_id        TEXT   NOT NULL,
  id               TEXT   NOT NULL UNIQUE,
  device_id        TEXT   NOT NULL,
  kind             TEXT   NOT NULL,
  arguments        TEXT   NOT NULL,
  request          BYTEA  NOT NULL,
  state            TEXT   NOT NULL,
  offline_policy   TEXT   NOT NULL,
  actor            TEXT   NOT NULL,
  created_us       BIGINT NOT NULL,
  expires_us       BIGINT NOT NULL,
  delivered_us     BIGINT,
  finished_us      BIGINT,
  message          TEXT   NOT NULL DEFAULT '',
  payload          BYTEA,
  content_type     TEXT,
  header_length    BIGINT,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX commands_by_device ON commands (tenant_id, device_id, state, id);
CREATE INDEX commands_by_end ON commands (state, expires_us);

-- The metric names that many rows share; `id` is the digest of `names`. Per device, so that no device can use up the
-- names of another.
CREATE TABLE telemetry_schemas (
  tenant_id  TEXT NOT NULL,
  device_id  TEXT NOT NULL,
  id         TEXT NOT NULL,
  names      TEXT NOT NULL,
  PRIMARY KEY (tenant_id, device_id, id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);

-- One row per sample: `samples` holds one little-endian f64 per name of the schema.
CREATE TABLE telemetry (
  tenant_id  TEXT   NOT NULL,
  device_id  TEXT   NOT NULL,
  seq        BIGINT NOT NULL,
  time_us    BIGINT NOT NULL,
  schema_id  TEXT   NOT NULL,
  samples    BYTEA  NOT NULL,
  PRIMARY KEY (tenant_id, device_id, seq),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX telemetry_by_time ON telemetry (tenant_id, device_id, time_us);

-- One row per device that ever sent telemetry: what its bounded spool had to drop, cumulative over its life, and what came
-- and was not kept.
CREATE TABLE telemetry_loss (
  tenant_id        TEXT   NOT NULL,
  device_id        TEXT   NOT NULL,
  lost_samples     BIGINT NOT NULL,
  lost_bytes       BIGINT NOT NULL,
  refused_samples  BIGINT NOT NULL DEFAULT 0,
  updated_us       BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);
