-- Who rented, and what proof of an end needs to know of a beginning.
ALTER TABLE instances ADD COLUMN renter_json TEXT;  -- core.renter.Renter; NULL: of an older towline
ALTER TABLE instances ADD COLUMN seen_at REAL;      -- when the provider first showed it
-- the clock that never jumps, at the intent and again at the create's answer; it starts anew with
-- each boot of this machine
ALTER TABLE instances ADD COLUMN tick REAL;
-- where acquire was done the provider had shown it
UPDATE instances SET seen_at = created_at WHERE EXISTS (
  SELECT 1 FROM attempts
  WHERE attempts.run_id = instances.run_id AND step = 'acquire' AND outcome = 'done'
);
