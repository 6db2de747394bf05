-- Seats that were given while the run was going on; a later row of a site takes the place of the
-- earlier one. And when a site was answered for: no part of its result, but a person asks.
CREATE TABLE late_seats (
  site_id    TEXT NOT NULL,
  num_cases  INTEGER NOT NULL,
  from_round INTEGER NOT NULL,
  PRIMARY KEY (site_id, from_round)
) STRICT;

CREATE TRIGGER a_closed_round_gets_no_seat BEFORE INSERT ON late_seats
WHEN EXISTS (SELECT 1 FROM rounds WHERE status = 'closed' AND round_number >= NEW.from_round)
BEGIN SELECT RAISE(ABORT, 'a closed round gets no further seat'); END;

ALTER TABLE seats ADD COLUMN answered_utc TEXT;
