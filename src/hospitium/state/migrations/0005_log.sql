-- The run's own record for others: each transition adds one entry, in the same transaction. Entries
-- are numbered from 0 without a gap, are canonical JSON, and stay as they are; their Merkle tree is
-- what checkpoints are signed over. A run that was begun before has no entries of that time.
CREATE TABLE log (
  n    INTEGER PRIMARY KEY,
  leaf TEXT NOT NULL
) STRICT;

CREATE INDEX log_by_kind ON log (json_extract(leaf, '$.kind'), json_extract(leaf, '$.round_number'));

CREATE TRIGGER a_log_has_no_gap BEFORE INSERT ON log
WHEN NEW.n <> (SELECT coalesce(max(n), -1) + 1 FROM log)
BEGIN SELECT RAISE(ABORT, 'a log has no gap'); END;

CREATE TRIGGER a_log_entry_stays BEFORE UPDATE ON log
BEGIN SELECT RAISE(ABORT, 'a log entry stays as it is'); END;

CREATE TRIGGER a_log_entry_is_kept BEFORE DELETE ON log
BEGIN SELECT RAISE(ABORT, 'a log entry stays as it is'); END;

INSERT INTO log SELECT 0, json_object(
  'closed_rounds', (SELECT count(*) FROM rounds WHERE status = 'closed'),
  'kind', 'log_begun', 'plan_digest', plan_digest, 'run_id', run_id,
  'time_utc', strftime('%Y-%m-%dT%H:%M:%f', 'now') || '+00:00') FROM run;

-- Two different statements of one site for one place: both are kept, for a person.
CREATE TABLE conflicts (
  round_number INTEGER NOT NULL,
  site_id      TEXT NOT NULL,
  sha256       TEXT NOT NULL,
  statement    BLOB NOT NULL,
  PRIMARY KEY (round_number, site_id, sha256)
) STRICT;

CREATE TRIGGER a_conflict_stays BEFORE UPDATE ON conflicts
BEGIN SELECT RAISE(ABORT, 'a conflict stays as it is'); END;

CREATE TRIGGER a_conflict_is_kept BEFORE DELETE ON conflicts
BEGIN SELECT RAISE(ABORT, 'a conflict stays as it is'); END;

-- What is over stays over: nothing is taken out, no closed round changes its seats, and a finished
-- run has no further round and no other result.
CREATE TRIGGER a_run_is_kept BEFORE DELETE ON run
BEGIN SELECT RAISE(ABORT, 'a run stays'); END;

CREATE TRIGGER a_round_is_kept BEFORE DELETE ON rounds
BEGIN SELECT RAISE(ABORT, 'a round stays'); END;

CREATE TRIGGER a_seat_is_kept BEFORE DELETE ON seats
BEGIN SELECT RAISE(ABORT, 'a seat stays'); END;

CREATE TRIGGER a_refusal_is_kept BEFORE DELETE ON refusals
BEGIN SELECT RAISE(ABORT, 'a refusal stays'); END;

CREATE TRIGGER a_closed_rounds_seat_stays BEFORE UPDATE ON seats
WHEN EXISTS (SELECT 1 FROM rounds WHERE round_number = OLD.round_number AND status = 'closed')
BEGIN SELECT RAISE(ABORT, 'a seat of a closed round stays as it is'); END;

CREATE TRIGGER a_closed_round_seats_nobody BEFORE INSERT ON seats
WHEN EXISTS (SELECT 1 FROM rounds WHERE round_number = NEW.round_number AND status = 'closed')
BEGIN SELECT RAISE(ABORT, 'a closed round stays as it is'); END;

CREATE TRIGGER a_finished_run_opens_no_round BEFORE INSERT ON rounds
WHEN EXISTS (SELECT 1 FROM run WHERE status = 'finished')
BEGIN SELECT RAISE(ABORT, 'a finished run stays finished'); END;

CREATE TRIGGER a_finished_run_keeps_its_result BEFORE UPDATE OF
  run_id, plan, plan_digest, seats, chosen ON run
WHEN OLD.status = 'finished' BEGIN SELECT RAISE(ABORT, 'a finished run stays finished'); END;
