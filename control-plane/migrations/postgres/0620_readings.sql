-- What the gates of rollouts said over time, as far as charts show it.
-- Times are microseconds since the epoch, ids are text.

CREATE TABLE rollout_readings (
  tenant_id   TEXT   NOT NULL,
  rollout_id  TEXT   NOT NULL,
  -- Its place in the plan, from 0.
  gate        BIGINT NOT NULL,
  -- Strictly increasing within a gate.
  at_us       BIGINT NOT NULL,
  -- The wave that was judged, from 0.
  wave        BIGINT NOT NULL,
  candidate   DOUBLE PRECISION,
  baseline    DOUBLE PRECISION,
  devices     BIGINT NOT NULL,
  verdict     TEXT   NOT NULL CHECK (verdict IN ('holds', 'fails', 'unknown')),
  PRIMARY KEY (tenant_id, rollout_id, gate, at_us),
  FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id)
);
