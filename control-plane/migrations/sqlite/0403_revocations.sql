-- Devices whose certificates are not to be trusted although they are in force, so that the others of the tenant can be told. A row
-- outlives its device, and goes some time after the certificate ends.

CREATE TABLE revocations (
  tenant_id  TEXT   NOT NULL,
  device_id  TEXT   NOT NULL,
  until_us   BIGINT NOT NULL,
  PRIMARY KEY (tenant_id, device_id)
);

INSERT INTO revocations (tenant_id, device_id, until_us)
  SELECT tenant_id, id, cert_end_us FROM devices WHERE state = 'revoked';
