-- Tenants, their API keys, what was done in them, and answers kept for repeated requests.
-- Times are microseconds since the epoch, ids and JSON are text, flags are 0 or 1.

CREATE TABLE tenants (
  id          TEXT   NOT NULL PRIMARY KEY,
  name        TEXT   NOT NULL UNIQUE,
  root        BIGINT NOT NULL DEFAULT 0,
  created_us  BIGINT NOT NULL
);

CREATE TABLE api_keys (
  tenant_id     TEXT   NOT NULL REFERENCES tenants (id),
  id            TEXT   NOT NULL UNIQUE,
  name          TEXT   NOT NULL,
  role          TEXT   NOT NULL CHECK (role IN ('viewer', 'operator', 'owner')),
  hint          TEXT   NOT NULL,
  secret_hash   BYTEA  NOT NULL UNIQUE,
  created_us    BIGINT NOT NULL,
  created_by    TEXT   NOT NULL,
  expires_us    BIGINT,
  revoked_us    BIGINT,
  last_used_us  BIGINT,
  PRIMARY KEY (tenant_id, id)
);

CREATE TABLE activity (
  tenant_id     TEXT   NOT NULL REFERENCES tenants (id),
  id            TEXT   NOT NULL,
  at_us         BIGINT NOT NULL,
  actor         TEXT   NOT NULL,
  action        TEXT   NOT NULL,
  target        TEXT   NOT NULL,
  detail        TEXT   NOT NULL,
  from_address  TEXT,
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX activity_by_time ON activity (tenant_id, at_us, id);
CREATE INDEX activity_by_target ON activity (tenant_id, target, at_us);

-- Append-only, also for whoever has a defect in hand.
CREATE FUNCTION activity_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'activity is append-only';
END
$$;
CREATE TRIGGER activity_is_kept BEFORE UPDATE OR DELETE ON activity
  FOR EACH ROW EXECUTE FUNCTION activity_is_append_only();

-- The answers of requests that carried an Idempotency-Key; status is NULL while the first request runs.
CREATE TABLE idempotency (
  tenant_id     TEXT   NOT NULL REFERENCES tenants (id),
  actor         TEXT   NOT NULL,
  key           TEXT   NOT NULL,
  request_hash  BYTEA  NOT NULL,
  created_us    BIGINT NOT NULL,
  status        BIGINT,
  headers       TEXT,
  body          BYTEA,
  PRIMARY KEY (tenant_id, actor, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_us);
