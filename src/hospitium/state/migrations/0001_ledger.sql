-- The record of one run: what was agreed, each round, each seat, each refusal.
CREATE TABLE run (
  id          INTEGER PRIMARY KEY CHECK (id = 1),
  run_id      TEXT NOT NULL,
  plan        BLOB NOT NULL,          -- canonical bytes
  plan_digest TEXT NOT NULL,
  seats       TEXT NOT NULL,          -- JSON: [[site_id, num_cases], ...]
  facts       TEXT NOT NULL,          -- JSON: command, versions, partition
  status      TEXT NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'finished')),
  chosen      TEXT,                   -- JSON: which params are the result, and why
  created_utc TEXT NOT NULL
) STRICT;

CREATE TABLE rounds (
  round_number  INTEGER PRIMARY KEY,
  status        TEXT NOT NULL CHECK (status IN ('open', 'closed')),
  attempt       INTEGER NOT NULL DEFAULT 1,
  base_digest   TEXT NOT NULL,
  max_norm      REAL NOT NULL,
  params_digest TEXT,
  slots         TEXT,                 -- JSON: {slot: digest}
  memory        TEXT,                 -- JSON
  sums          TEXT,                 -- JSON: summed metrics of the incoming params
  sum_weight    INTEGER,
  score         REAL,                 -- validation metric of the params this round made
  opened_utc    TEXT NOT NULL,
  closed_utc    TEXT
) STRICT;

CREATE TABLE seats (
  round_number INTEGER NOT NULL REFERENCES rounds,
  site_id      TEXT NOT NULL,
  status       TEXT NOT NULL CHECK (status IN ('asked', 'accepted', 'left_out')),
  reason       TEXT,
  digest       TEXT,                  -- of the accepted update, as long as the round is open
  num_cases    INTEGER,
  num_steps    INTEGER,
  train_s      REAL,
  sums         TEXT,
  PRIMARY KEY (round_number, site_id)
) STRICT;

CREATE TABLE refusals (
  round_number INTEGER NOT NULL,
  attempt      INTEGER NOT NULL,
  site_id      TEXT NOT NULL,
  reason       TEXT NOT NULL,
  PRIMARY KEY (round_number, attempt, site_id, reason)
) STRICT;

CREATE TRIGGER a_closed_round_stays_closed BEFORE UPDATE OF
  status, attempt, base_digest, max_norm, params_digest, slots, memory, sums, sum_weight ON rounds
WHEN OLD.status = 'closed' BEGIN SELECT RAISE(ABORT, 'a closed round stays closed'); END;

CREATE TRIGGER an_accepted_seat_stays_accepted BEFORE UPDATE OF status ON seats
WHEN OLD.status = 'accepted' AND NEW.status <> 'accepted'
BEGIN SELECT RAISE(ABORT, 'an accepted seat stays accepted'); END;

CREATE TRIGGER a_finished_run_stays_finished BEFORE UPDATE OF status ON run
WHEN OLD.status = 'finished' BEGIN SELECT RAISE(ABORT, 'a finished run stays finished'); END;
