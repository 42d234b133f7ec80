-- Sessions of browsers, by the hash of what their cookie holds. Each stands for a key.
CREATE TABLE sessions (
  secret_hash  BYTEA   NOT NULL PRIMARY KEY,
  tenant_id    TEXT   NOT NULL,
  key_id       TEXT   NOT NULL,
  created_us   BIGINT NOT NULL,
  used_us      BIGINT NOT NULL,
  expires_us   BIGINT NOT NULL,
  FOREIGN KEY (tenant_id, key_id) REFERENCES api_keys (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX sessions_of_key ON sessions (tenant_id, key_id, created_us);

-- One-time login links, by the hash of their code.
CREATE TABLE login_links (
  code_hash   BYTEA   NOT NULL PRIMARY KEY,
  tenant_id   TEXT   NOT NULL,
  key_id      TEXT   NOT NULL,
  created_us  BIGINT NOT NULL,
  expires_us  BIGINT NOT NULL,
  FOREIGN KEY (tenant_id, key_id) REFERENCES api_keys (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX login_links_of_key ON login_links (tenant_id, key_id, created_us);
