-- What was rolled out to a device, whatever rollout it came by.
CREATE INDEX rollout_devices_by_device ON rollout_devices (tenant_id, device_id, rollout_id);
-- Rollouts in a phase: by whether their deployment holds, newest first, and whether a device is still on its way.
CREATE INDEX deployments_by_state ON deployments (tenant_id, state, created_us);
CREATE INDEX deployment_devices_unfinished ON deployment_devices (tenant_id, deployment_id) WHERE progress IN ('pending', 'downloading');
