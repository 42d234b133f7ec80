-- Releases of the agent: one counter per version, one binary per version and architecture. Never changed once written.

CREATE TABLE agent_releases (
  tenant_id     TEXT   NOT NULL,
  version       TEXT   NOT NULL,
  counter       BIGINT NOT NULL CHECK (counter > 0),
  -- 1: a device that runs it takes nothing older any more.
  raises_floor  BIGINT NOT NULL CHECK (raises_floor IN (0, 1)),
  PRIMARY KEY (tenant_id, version),
  UNIQUE (tenant_id, counter)
);

CREATE TABLE agent_binaries (
  tenant_id   TEXT   NOT NULL,
  version     TEXT   NOT NULL,
  arch        TEXT   NOT NULL,
  digest      TEXT   NOT NULL,
  size        BIGINT NOT NULL,
  created_us  BIGINT NOT NULL,
  created_by  TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, version, arch),
  FOREIGN KEY (tenant_id, version) REFERENCES agent_releases (tenant_id, version),
  FOREIGN KEY (tenant_id, digest) REFERENCES artifacts (tenant_id, digest)
);
CREATE INDEX agent_binaries_by_digest ON agent_binaries (tenant_id, digest);
