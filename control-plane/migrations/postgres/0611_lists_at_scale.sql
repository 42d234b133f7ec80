-- What a device is found by, in one short row: all of them are read for a part of a word. `folded`, `address` and `labels` are in lower case.
CREATE TABLE device_search (
  tenant_id  TEXT NOT NULL,
  device_id  TEXT NOT NULL,
  -- As it is shown, for the order.
  name       TEXT NOT NULL,
  folded     TEXT NOT NULL,
  address    TEXT NOT NULL DEFAULT '',
  labels     TEXT NOT NULL DEFAULT '',
  -- The three, a line each. No generated column: SQLite would look it up in the table for each entry of the index.
  text       TEXT NOT NULL,
  PRIMARY KEY (tenant_id, device_id),
  FOREIGN KEY (tenant_id, device_id) REFERENCES devices (tenant_id, id) ON DELETE CASCADE
);
INSERT INTO device_search (tenant_id, device_id, name, folded, address, labels, text)
  SELECT tenant_id, id, name, LOWER(name), LOWER(COALESCE(address, '')), COALESCE((SELECT LOWER(STRING_AGG(value, chr(10)))
    FROM device_labels l WHERE l.tenant_id = devices.tenant_id AND l.device_id = devices.id), ''), '' FROM devices;
UPDATE device_search SET text = folded || chr(10) || address || chr(10) || labels;
-- The order by name. An entry has no room for the text: it may be longer than a page takes.
CREATE INDEX device_search_by_name ON device_search (tenant_id, name, device_id);

-- What the overview counts, in the order that it is counted in.
DROP INDEX devices_at_a_glance;
CREATE INDEX devices_at_a_glance ON devices (tenant_id, state, agent_version, session, cert_end_us);

-- A rollout's devices in one outcome.
CREATE INDEX rollout_devices_by_outcome ON rollout_devices (tenant_id, rollout_id, outcome, device_id, wave);
