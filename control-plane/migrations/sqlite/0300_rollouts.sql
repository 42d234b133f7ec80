-- Rollouts: the plan and the course of deployments that go out in waves, and their devices.
-- Times are microseconds since the epoch, ids and JSON are text, flags are 0 or 1.

-- While it is gradual, only devices that its rollout has admitted get it; others keep what an older deployment says.
ALTER TABLE deployments ADD COLUMN gradual BIGINT NOT NULL DEFAULT 0;
-- Stopped, and its devices went back to what they had before.
ALTER TABLE deployments ADD COLUMN reverted BIGINT NOT NULL DEFAULT 0;
-- The highest wins on a device, and among equals the newest.
ALTER TABLE deployments ADD COLUMN priority BIGINT NOT NULL DEFAULT 0;
DROP INDEX deployments_active;
-- At most one deployment of a model on the same selector holds, and at most one is on its way to.
CREATE UNIQUE INDEX deployments_active ON deployments (tenant_id, model, selector, gradual) WHERE state = 'active';

CREATE TABLE rollouts (
  tenant_id   TEXT   NOT NULL,
  id          TEXT   NOT NULL UNIQUE,
  -- As it was made; it never changes.
  plan        TEXT   NOT NULL,
  course      TEXT   NOT NULL,
  -- The course's, for queries.
  phase       TEXT   NOT NULL,
  -- The last judgement of the gates, as JSON.
  readings    TEXT   NOT NULL DEFAULT '[]',
  -- The highest rank of each wave, as JSON: where those who come late belong.
  bounds      TEXT   NOT NULL,
  undoes      TEXT,
  -- Counts up with each change: who writes on an older one starts again.
  revision    BIGINT NOT NULL DEFAULT 0,
  updated_us  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  FOREIGN KEY (tenant_id, id) REFERENCES deployments (tenant_id, id)
);
CREATE INDEX rollouts_unfinished ON rollouts (tenant_id) WHERE phase IN ('running', 'paused');

CREATE TABLE rollout_devices (
  tenant_id   TEXT   NOT NULL,
  rollout_id  TEXT   NOT NULL,
  device_id   TEXT   NOT NULL,
  -- From 0.
  wave        BIGINT NOT NULL,
  outcome     TEXT   NOT NULL CHECK (outcome IN ('waiting', 'changing', 'trying', 'running', 'succeeded', 'failed', 'silent')),
  -- Told to take part in the experiment only.
  trial       BIGINT NOT NULL DEFAULT 0,
  reason      TEXT   NOT NULL DEFAULT '',
  -- The newest verified health report, as JSON.
  report      TEXT,
  -- Bytes that came over the site's line for the file, by the device's own word.
  fetched     BIGINT,
  -- What was wanted there before the rollout, as JSON (`null`: nothing); absent until the device is told.
  before      TEXT,
  told_us     BIGINT,
  updated_us  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, rollout_id, device_id),
  FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id)
);
CREATE INDEX rollout_devices_by_device ON rollout_devices (tenant_id, device_id);
CREATE INDEX rollout_devices_by_wave ON rollout_devices (tenant_id, rollout_id, wave, outcome);
