-- Times are UTC seconds. JSON columns end in _json. Every text here has passed the redactor.
CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  state TEXT NOT NULL DEFAULT 'active',
  task_json TEXT NOT NULL,
  provider TEXT NOT NULL,
  results_dir TEXT NOT NULL,
  nonce TEXT NOT NULL,
  created_at REAL NOT NULL,
  ended_at REAL,
  wish TEXT,
  error_json TEXT,
  epoch INTEGER NOT NULL DEFAULT 0,       -- grows with each lease; the instance refuses lower ones
  lease_token TEXT,
  lease_holder_json TEXT,
  lease_expires_at REAL
) STRICT;

CREATE TABLE attempts (
  run_id TEXT NOT NULL REFERENCES runs(id),
  step TEXT NOT NULL,
  number INTEGER NOT NULL,
  started_at REAL NOT NULL,
  ended_at REAL,
  outcome TEXT,                           -- done | failed; NULL: cut short or under way
  result_json TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (run_id, step, number)
) STRICT;

-- The ledger: a row is committed before anything is rented, and closed only by proof.
CREATE TABLE instances (
  run_id TEXT NOT NULL REFERENCES runs(id),
  number INTEGER NOT NULL,
  provider TEXT NOT NULL,
  tag TEXT NOT NULL,
  offer_json TEXT NOT NULL,
  intent_at REAL NOT NULL,
  instance_id TEXT,
  created_at REAL,
  price_usd_per_h REAL NOT NULL DEFAULT 0,
  gone_at REAL,
  proof TEXT,
  PRIMARY KEY (run_id, number)
) STRICT;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  run_id TEXT NOT NULL REFERENCES runs(id),
  at REAL NOT NULL,
  kind TEXT NOT NULL,
  data_json TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_run ON events (run_id, seq);

CREATE TABLE facts (
  run_id TEXT NOT NULL REFERENCES runs(id),
  key TEXT NOT NULL,
  value_json TEXT NOT NULL,
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;
