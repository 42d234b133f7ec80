-- What the overview counts, in one index.
CREATE INDEX devices_at_a_glance ON devices (tenant_id, state, session, agent_version, cert_end_us, last_seen_us);
-- The order "heard of last".
CREATE INDEX devices_by_last_seen ON devices (tenant_id, COALESCE(last_seen_us, -1), id);
-- How far a rollout is and what it took, counted without its devices' rows.
DROP INDEX rollout_devices_by_wave;
CREATE INDEX rollout_devices_by_wave ON rollout_devices (tenant_id, rollout_id, wave, outcome, trial, fetched);
