-- A site that is revoked, or withdraws, while a round is open contributes nothing to it: its accepted
-- seat closes as left out, with the reason. One whose accepted file a power cut tore is asked again.
-- Once the round is closed nothing changes any more.
DROP TRIGGER an_accepted_seat_stays_accepted;

CREATE TRIGGER an_accepted_seat_stays_accepted BEFORE UPDATE OF status ON seats
WHEN OLD.status = 'accepted' AND NEW.status <> 'accepted' AND NOT (
  NEW.digest IS NULL
  AND (NEW.status = 'left_out' AND NEW.reason IS NOT NULL OR NEW.status = 'asked')
  AND EXISTS (SELECT 1 FROM rounds WHERE round_number = OLD.round_number AND status = 'open')
)
BEGIN SELECT RAISE(ABORT, 'an accepted seat stays accepted'); END;
