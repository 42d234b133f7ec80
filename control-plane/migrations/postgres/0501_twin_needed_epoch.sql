-- The earliest epoch that the device may have edits to send of; what ended before is forgotten.
ALTER TABLE twins RENAME COLUMN acked_epoch TO needed_epoch;
