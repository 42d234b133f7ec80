-- Rollouts: deployments, and how far their devices are.
-- Times are microseconds since the epoch, ids, digests and JSON are text, flags are 0 or 1.

CREATE TABLE deployments (
  tenant_id      TEXT   NOT NULL,
  id             TEXT   NOT NULL UNIQUE,
  model          TEXT   NOT NULL,
  version        BIGINT NOT NULL,
  digest         TEXT   NOT NULL,
  -- What devices are told, as JSON: it never changes after the deployment is made.
  desired        TEXT   NOT NULL,
  -- Canonical text.
  selector       TEXT   NOT NULL,
  state          TEXT   NOT NULL CHECK (state IN ('active', 'stopped', 'superseded')),
  removed        BIGINT NOT NULL DEFAULT 0,
  -- Always the deployment that holds now or was the last to: chains are kept one step long.
  superseded_by  TEXT,
  -- Whether it still keeps its model version from being deleted.
  held           BIGINT NOT NULL DEFAULT 1,
  -- Strictly increasing within a tenant: the newest deployment of a model wins on a device.
  created_us     BIGINT NOT NULL,
  created_by     TEXT   NOT NULL,
  ended_us       BIGINT,
  PRIMARY KEY (tenant_id, id)
);
-- At most one deployment of a model on the same selector holds.
CREATE UNIQUE INDEX deployments_active ON deployments (tenant_id, model, selector) WHERE state = 'active';
CREATE INDEX deployments_by_age ON deployments (tenant_id, created_us);

-- What each device was told last about a model, and how far it is.
CREATE TABLE deployment_devices (
  tenant_id       TEXT   NOT NULL,
  device_id       TEXT   NOT NULL,
  model           TEXT   NOT NULL,
  deployment_id   TEXT   NOT NULL,
  progress        TEXT   NOT NULL CHECK (progress IN ('pending', 'downloading', 'ready', 'failed')),
  step            TEXT,
  active_version  BIGINT,
  error           TEXT,
  told_us         BIGINT NOT NULL,
  updated_us      BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id, model),
  FOREIGN KEY (tenant_id, deployment_id) REFERENCES deployments (tenant_id, id)
);
CREATE INDEX deployment_devices_by_deployment ON deployment_devices (tenant_id, deployment_id, device_id);
