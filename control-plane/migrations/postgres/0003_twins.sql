-- The twins of devices: intent documents, those of earlier epochs, and what devices report.
-- Times are microseconds since the epoch, ids and JSON are text.

CREATE TABLE twins (
  tenant_id    TEXT   NOT NULL,
  device_id    TEXT   NOT NULL,
  revision     BIGINT NOT NULL,
  epoch        BIGINT NOT NULL,
  document     BYTEA  NOT NULL,
  -- Length of the document as its epoch began.
  birth_bytes  BIGINT NOT NULL,
  -- The newest epoch that the device has held; its document is kept for as long.
  acked_epoch  BIGINT NOT NULL,
  -- JSON: authors of whom a change was refused in this epoch, and why.
  quarantine   TEXT   NOT NULL,
  updated_us   BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);

-- Documents of earlier epochs: a device that was away edits the one it has.
CREATE TABLE twin_epochs (
  tenant_id  TEXT   NOT NULL,
  device_id  TEXT   NOT NULL,
  epoch      BIGINT NOT NULL,
  document   BYTEA  NOT NULL,
  ended_us   BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id, epoch),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);

-- Up to where a device's status is held here.
CREATE TABLE device_status_position (
  tenant_id   TEXT   NOT NULL,
  device_id   TEXT   NOT NULL,
  boot_id     BIGINT NOT NULL,
  seq         BIGINT NOT NULL,
  updated_us  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);

-- What devices report, one row for each path; `value` is JSON.
CREATE TABLE device_status (
  tenant_id  TEXT NOT NULL,
  device_id  TEXT NOT NULL,
  path       TEXT NOT NULL,
  value      TEXT NOT NULL,
  PRIMARY KEY (tenant_id, device_id, path),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX device_status_by_path ON device_status (tenant_id, path);
