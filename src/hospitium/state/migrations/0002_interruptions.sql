-- When a run was taken up again: no part of its result, but a person asks.
CREATE TABLE interruptions (
  at_utc       TEXT NOT NULL,
  round_number INTEGER NOT NULL
) STRICT;
