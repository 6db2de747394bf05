-- What each site measured of the params that were scored at the end of the run, after all rounds.
CREATE TABLE last_scores (
  digest  TEXT NOT NULL,              -- of the params
  site_id TEXT NOT NULL,
  sums    TEXT NOT NULL,
  PRIMARY KEY (digest, site_id)
) STRICT;
