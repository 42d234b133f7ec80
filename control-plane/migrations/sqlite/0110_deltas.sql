-- Other ways to an artifact's bytes: in chunks, and as a delta from another artifact. What these rows name is made from artifacts
-- and can be made again; the files themselves are artifacts, too. Times are microseconds since the epoch.

-- One artifact in chunks. `state`: due, building, ready, failed.
CREATE TABLE artifact_chunks (
  tenant_id   TEXT   NOT NULL,
  digest      TEXT   NOT NULL,
  state       TEXT   NOT NULL,
  -- How often it was begun.
  tries       BIGINT NOT NULL DEFAULT 0,
  -- Since when it is in its state.
  since_us    BIGINT NOT NULL,
  recipe      TEXT,
  packed      TEXT,
  reason      TEXT   NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, digest),
  FOREIGN KEY (tenant_id, digest) REFERENCES artifacts (tenant_id, digest) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, recipe) REFERENCES artifacts (tenant_id, digest),
  FOREIGN KEY (tenant_id, packed) REFERENCES artifacts (tenant_id, digest)
);
CREATE INDEX artifact_chunks_by_state ON artifact_chunks (state, since_us);
CREATE INDEX artifact_chunks_by_recipe ON artifact_chunks (tenant_id, recipe);
CREATE INDEX artifact_chunks_by_packed ON artifact_chunks (tenant_id, packed);

-- One pair that devices asked for. `state`: counting, due, building, ready, useless, failed.
CREATE TABLE artifact_deltas (
  tenant_id   TEXT   NOT NULL,
  base        TEXT   NOT NULL,
  target      TEXT   NOT NULL,
  -- No block of it makes more than two to this power of bytes.
  window_log  BIGINT NOT NULL,
  state       TEXT   NOT NULL,
  tries       BIGINT NOT NULL DEFAULT 0,
  since_us    BIGINT NOT NULL,
  -- How often devices asked, and when last: what was not asked for longest gives way first.
  asked       BIGINT NOT NULL,
  asked_us    BIGINT NOT NULL,
  patch       TEXT,
  size        BIGINT NOT NULL DEFAULT 0,
  algorithm   TEXT   NOT NULL DEFAULT '',
  reason      TEXT   NOT NULL DEFAULT '',
  PRIMARY KEY (tenant_id, base, target, window_log),
  FOREIGN KEY (tenant_id, base) REFERENCES artifacts (tenant_id, digest) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, target) REFERENCES artifacts (tenant_id, digest) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, patch) REFERENCES artifacts (tenant_id, digest)
);
CREATE INDEX artifact_deltas_by_state ON artifact_deltas (state, asked_us);
CREATE INDEX artifact_deltas_by_target ON artifact_deltas (tenant_id, target);
CREATE INDEX artifact_deltas_by_patch ON artifact_deltas (tenant_id, patch);
