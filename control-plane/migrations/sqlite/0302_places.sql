-- A device's place is looked for by the rollout and the device; a search over all rollouts by the device alone is not made any more.
DROP INDEX rollout_devices_by_device;
