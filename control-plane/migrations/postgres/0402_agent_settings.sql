-- Settings for agents, version by version: what was sent once can be sent again.

CREATE TABLE agent_settings (
  tenant_id   TEXT   NOT NULL,
  version     BIGINT NOT NULL CHECK (version > 0),
  settings    TEXT   NOT NULL,
  created_us  BIGINT NOT NULL,
  created_by  TEXT   NOT NULL,
  PRIMARY KEY (tenant_id, version)
);
