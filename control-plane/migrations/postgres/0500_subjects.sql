-- Deployments of the agent's releases and settings beside those of models: what was a model's name is now the name of any
-- subject, and a version is shown as people name it.
ALTER TABLE deployments RENAME COLUMN model TO subject;
ALTER TABLE deployment_devices RENAME COLUMN model TO subject;
-- Filled again by the first comparison of everything at the next start.
ALTER TABLE deployment_devices DROP COLUMN active_version;
ALTER TABLE deployment_devices ADD COLUMN active_version TEXT;
