-- What is on its way between a coordinator and its sites: open tasks and the answers to them.
CREATE TABLE tasks (
  n            INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id       TEXT NOT NULL,
  site_id      TEXT NOT NULL,
  nonce        TEXT NOT NULL,
  envelope     BLOB NOT NULL,         -- signed by the coordinator
  blob         TEXT NOT NULL,         -- SHA-256 of the params that go with it
  upload_bytes INTEGER NOT NULL,      -- the largest file that an answer may bring
  UNIQUE (site_id, nonce)
) STRICT;

CREATE TABLE answers (
  n         INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id    TEXT NOT NULL,
  site_id   TEXT NOT NULL,
  nonce     TEXT NOT NULL,
  kind      TEXT NOT NULL CHECK (kind IN ('update', 'error')),
  statement BLOB NOT NULL,            -- signed by the site
  sha256    TEXT NOT NULL,            -- of the statement
  found     TEXT NOT NULL,            -- SHA-256 of the file that came with it; '' for none
  UNIQUE (site_id, nonce)
) STRICT;

CREATE TABLE conflicts (              -- a second, different thing for a place that is taken
  site_id TEXT NOT NULL,
  place   TEXT NOT NULL,
  sha256  TEXT NOT NULL,
  content BLOB NOT NULL,
  PRIMARY KEY (site_id, place, sha256)
) STRICT;
