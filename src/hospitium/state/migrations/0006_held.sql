-- Updates that were looked at before they count. A held one keeps its file while its round is open;
-- at its close it is left out for good. What a person decided afterwards is kept beside it.
CREATE TABLE new_seats (
  round_number INTEGER NOT NULL REFERENCES rounds,
  site_id      TEXT NOT NULL,
  status       TEXT NOT NULL CHECK (status IN ('asked', 'accepted', 'held', 'excluded', 'left_out')),
  reason       TEXT,
  digest       TEXT,                  -- of the accepted or held update, while the round is open
  num_cases    INTEGER,
  num_steps    INTEGER,
  train_s      REAL,
  sums         TEXT,
  answered_utc TEXT,
  PRIMARY KEY (round_number, site_id)
) STRICT;

INSERT INTO new_seats SELECT round_number, site_id, status, reason, digest, num_cases, num_steps,
  train_s, sums, answered_utc FROM seats;
DROP TABLE seats;
ALTER TABLE new_seats RENAME TO seats;

CREATE TRIGGER a_seat_moves_only_on BEFORE UPDATE OF status ON seats
WHEN OLD.status <> NEW.status AND NOT (
  OLD.status = 'asked' AND NEW.status IN ('accepted', 'left_out')
  OR OLD.status = 'left_out' AND NEW.status = 'asked'
  OR OLD.status = 'accepted' AND (
    NEW.status = 'held'
    OR NEW.digest IS NULL AND (
      NEW.status = 'asked' OR NEW.status = 'left_out' AND NEW.reason IS NOT NULL
    )
  )
  OR OLD.status = 'held' AND NEW.status IN ('accepted', 'excluded', 'left_out')
  OR OLD.status = 'excluded' AND NEW.status = 'left_out'
) BEGIN SELECT RAISE(ABORT, 'a seat stays where it is'); END;

CREATE TRIGGER a_seat_is_kept BEFORE DELETE ON seats
BEGIN SELECT RAISE(ABORT, 'a seat stays'); END;

CREATE TRIGGER a_closed_rounds_seat_stays BEFORE UPDATE ON seats
WHEN EXISTS (SELECT 1 FROM rounds WHERE round_number = OLD.round_number AND status = 'closed')
BEGIN SELECT RAISE(ABORT, 'a seat of a closed round stays as it is'); END;

CREATE TRIGGER a_closed_round_seats_nobody BEFORE INSERT ON seats
WHEN EXISTS (SELECT 1 FROM rounds WHERE round_number = NEW.round_number AND status = 'closed')
BEGIN SELECT RAISE(ABORT, 'a closed round stays as it is'); END;

CREATE TABLE reviews (
  round_number INTEGER NOT NULL,
  site_id      TEXT NOT NULL,
  digest       TEXT NOT NULL,         -- of the update that was looked at
  figures      TEXT NOT NULL,         -- JSON: what was measured, in millionths
  scores       TEXT NOT NULL,         -- JSON: {measure: {rule: distance in hundredths}}
  verdict      TEXT NOT NULL CHECK (verdict IN ('clear', 'flagged', 'held')),
  why          TEXT NOT NULL,         -- JSON: which measures and rules led to it
  decision     TEXT CHECK (decision IN ('released', 'excluded')),
  decided_by   TEXT,
  reason       TEXT,
  reviewed_utc TEXT NOT NULL,
  decided_utc  TEXT,
  PRIMARY KEY (round_number, site_id),
  CHECK (decision IS NULL OR verdict = 'held' AND decided_by IS NOT NULL AND reason IS NOT NULL)
) STRICT;

CREATE TRIGGER a_decision_stays BEFORE UPDATE ON reviews
WHEN OLD.decision IS NOT NULL OR OLD.verdict <> NEW.verdict OR OLD.digest <> NEW.digest
  OR OLD.figures <> NEW.figures OR OLD.scores <> NEW.scores OR OLD.why <> NEW.why
BEGIN SELECT RAISE(ABORT, 'a decision stays'); END;

CREATE TRIGGER a_review_is_kept BEFORE DELETE ON reviews
BEGIN SELECT RAISE(ABORT, 'a review stays'); END;
