-- The golden cases of a model version: an artifact that travels with it.
ALTER TABLE model_versions ADD COLUMN golden_digest TEXT;
