-- The registry: artifacts and their uploads, models, versions, aliases.
-- Times are microseconds since the epoch, ids, digests and JSON are text.

-- Keys that this room signs with; they belong to the deployment, not to a tenant.
CREATE TABLE registry_keys (
  name    TEXT NOT NULL PRIMARY KEY,
  secret  BLOB NOT NULL
);

CREATE TABLE artifacts (
  tenant_id   TEXT   NOT NULL,
  digest      TEXT   NOT NULL,
  size        BIGINT NOT NULL CHECK (size > 0),
  created_us  BIGINT NOT NULL,
  created_by  TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, digest)
);

-- Unfinished uploads: `stored` bytes are on disk, synced.
CREATE TABLE artifact_uploads (
  tenant_id   TEXT   NOT NULL,
  id          TEXT   NOT NULL UNIQUE,
  digest      TEXT   NOT NULL,
  size        BIGINT NOT NULL CHECK (size > 0),
  stored      BIGINT NOT NULL DEFAULT 0 CHECK (stored BETWEEN 0 AND size),
  created_us  BIGINT NOT NULL,
  created_by  TEXT   NOT NULL,
  expires_us  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, digest)
);

CREATE TABLE models (
  tenant_id     TEXT   NOT NULL,
  name          TEXT   NOT NULL,
  description   TEXT   NOT NULL,
  labels        TEXT   NOT NULL,
  card          TEXT   NOT NULL,
  -- The highest number ever given: numbers are not given twice.
  last_version  BIGINT NOT NULL DEFAULT 0,
  revision      BIGINT NOT NULL DEFAULT 1,
  created_us    BIGINT NOT NULL,
  updated_us    BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, name)
);

CREATE TABLE model_versions (
  tenant_id        TEXT   NOT NULL,
  model            TEXT   NOT NULL,
  version          BIGINT NOT NULL CHECK (version > 0),
  digest           TEXT   NOT NULL,
  size             BIGINT NOT NULL,
  facts            TEXT   NOT NULL,
  manifest         TEXT,
  -- The manifest as an artifact, where it is too long for a device's intent.
  manifest_digest  TEXT,
  card             TEXT   NOT NULL,
  source           TEXT,
  created_us       BIGINT NOT NULL,
  created_by       TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, model, version),
  FOREIGN KEY (tenant_id, model) REFERENCES models (tenant_id, name) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, digest) REFERENCES artifacts (tenant_id, digest),
  FOREIGN KEY (tenant_id, manifest_digest) REFERENCES artifacts (tenant_id, digest)
);
CREATE INDEX model_versions_by_digest ON model_versions (tenant_id, digest);
CREATE INDEX model_versions_by_manifest ON model_versions (tenant_id, manifest_digest);

CREATE TABLE model_aliases (
  tenant_id   TEXT   NOT NULL,
  model       TEXT   NOT NULL,
  alias       TEXT   NOT NULL,
  version     BIGINT NOT NULL,
  updated_us  BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, model, alias),
  FOREIGN KEY (tenant_id, model, version) REFERENCES model_versions (tenant_id, model, version) ON DELETE CASCADE
);

-- Who needs a version to stay: a model with holds cannot be deleted.
CREATE TABLE model_holds (
  tenant_id  TEXT   NOT NULL,
  model      TEXT   NOT NULL,
  version    BIGINT NOT NULL,
  holder     TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, model, version, holder),
  FOREIGN KEY (tenant_id, model, version) REFERENCES model_versions (tenant_id, model, version)
);
