-- The first schema. Instants and spans are integers in microseconds; instants count from 1970 UTC.

CREATE TABLE bgsched_requests (
    id             TEXT PRIMARY KEY NOT NULL,
    process        TEXT NOT NULL,
    params         TEXT NOT NULL,
    timing         TEXT NOT NULL,
    status         TEXT NOT NULL,
    user           TEXT,
    channel        TEXT NOT NULL,
    priority       INTEGER NOT NULL,
    created_at     INTEGER NOT NULL,
    revision       INTEGER NOT NULL,
    next_fire_time INTEGER,
    due_at         INTEGER,
    last_fire_time INTEGER,
    declared       TEXT,
    reason         TEXT,
    unscheduled_at INTEGER,
    sensitive      TEXT
) WITHOUT ROWID;

-- What is due: asked for each priority in turn, so that the cost does not grow with what is not due.
CREATE INDEX bgsched_requests_due ON bgsched_requests (priority, due_at, id, process) WHERE due_at IS NOT NULL;

CREATE TABLE bgsched_runs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id    TEXT NOT NULL,
    revision      INTEGER NOT NULL,
    parent_id     INTEGER,
    process       TEXT NOT NULL,
    params        TEXT NOT NULL,
    user          TEXT,
    channel       TEXT NOT NULL,
    fire_time     INTEGER NOT NULL,
    fire_until    INTEGER,
    fire_count    INTEGER NOT NULL,
    recorded_at   INTEGER NOT NULL,
    due_at        INTEGER,
    claimed_at    INTEGER,
    started_at    INTEGER,
    finished_at   INTEGER,
    duration      INTEGER,
    lateness      INTEGER,
    status        TEXT NOT NULL,
    reason        TEXT,
    attempt       INTEGER NOT NULL,
    attempts      TEXT,
    reruns_left   INTEGER NOT NULL,
    owner         TEXT,
    overlap_key   TEXT,
    kill_asked_at INTEGER,
    progress      TEXT,
    result        TEXT,
    error         TEXT,
    sensitive     TEXT
);

-- The second guard of exactly-once: a fire time of a revision has one record.
CREATE UNIQUE INDEX bgsched_runs_fire ON bgsched_runs (request_id, revision, fire_time);

-- Where several of the indexes of runs would do, each says a word of its own (true of every id) that the questions which
-- it is for say too: so a question goes along the index that is meant for it, whatever the planner believes to be in it.

-- What is going on: mostly few rows, which leave these indexes when they end.
CREATE INDEX bgsched_runs_active_request ON bgsched_runs (request_id, status, id) WHERE status IN ('waiting', 'running') AND id <> -1;
CREATE INDEX bgsched_runs_active_process ON bgsched_runs (process, status, id) WHERE status IN ('waiting', 'running') AND id <> -2;
CREATE INDEX bgsched_runs_active_user ON bgsched_runs (user, status, id) WHERE status IN ('waiting', 'running') AND id <> -3 AND user IS NOT NULL;
CREATE INDEX bgsched_runs_active_user_process ON bgsched_runs (user, process, status, id)
    WHERE status IN ('waiting', 'running') AND id <> -4 AND user IS NOT NULL;
CREATE INDEX bgsched_runs_active ON bgsched_runs (status, id) WHERE finished_at IS NULL;
CREATE INDEX bgsched_runs_kill ON bgsched_runs (owner) WHERE status IN ('waiting', 'running') AND kill_asked_at IS NOT NULL;
CREATE INDEX bgsched_runs_key ON bgsched_runs (overlap_key, owner) WHERE status IN ('waiting', 'running') AND overlap_key IS NOT NULL;
CREATE INDEX bgsched_runs_queue ON bgsched_runs (due_at) WHERE status = 'waiting' AND owner IS NULL;

-- What has ended, for the monitor's pages and figures: a row enters these indexes once, when it ends.
CREATE INDEX bgsched_runs_status ON bgsched_runs (status, id) WHERE status NOT IN ('waiting', 'running') AND id <> -5;
CREATE INDEX bgsched_runs_request ON bgsched_runs (request_id, status, id) WHERE status NOT IN ('waiting', 'running') AND id <> -1;
CREATE INDEX bgsched_runs_process ON bgsched_runs (process, status, id) WHERE status NOT IN ('waiting', 'running') AND id <> -2;
CREATE INDEX bgsched_runs_figures ON bgsched_runs (recorded_at, status, fire_count, duration, lateness) WHERE finished_at IS NOT NULL;
CREATE INDEX bgsched_runs_process_figures ON bgsched_runs (process, recorded_at, status, fire_count, duration, lateness)
    WHERE status NOT IN ('waiting', 'running') AND id <> -6;
CREATE INDEX bgsched_runs_user ON bgsched_runs (user, status, id) WHERE status NOT IN ('waiting', 'running') AND id <> -3 AND user IS NOT NULL;
CREATE INDEX bgsched_runs_user_process ON bgsched_runs (user, process, status, id)
    WHERE status NOT IN ('waiting', 'running') AND id <> -4 AND user IS NOT NULL;
CREATE INDEX bgsched_runs_parent ON bgsched_runs (parent_id, id) WHERE parent_id IS NOT NULL;

-- A request is complete once it has no fire time left and none of its runs goes on. That is told by what is there, not
-- written: a run of a one-shot request costs one write to it, not two.
CREATE VIEW bgsched_known_requests AS
SELECT id, process, params, timing,
       CASE WHEN status = 'scheduled' AND next_fire_time IS NULL AND NOT EXISTS (
                SELECT 1 FROM bgsched_runs AS run
                WHERE run.request_id = bgsched_requests.id AND run.status IN ('waiting', 'running') AND run.id <> -1)
            THEN 'complete' ELSE status END AS status,
       user, channel, priority, created_at, revision, next_fire_time, due_at, last_fire_time, declared, reason,
       unscheduled_at, sensitive
FROM bgsched_requests;

-- How many fire times ended in which status, by hour; outlives the runs. One row for each owner: nobody waits for another.
CREATE TABLE bgsched_ended (
    hour    INTEGER NOT NULL,
    process TEXT NOT NULL,
    status  TEXT NOT NULL,
    owner   TEXT NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (hour, process, status, owner)
) WITHOUT ROWID;
CREATE INDEX bgsched_ended_process ON bgsched_ended (process, hour);

CREATE TABLE bgsched_log (
    run_id  INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    level   TEXT NOT NULL,
    logger  TEXT NOT NULL,
    text    TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE bgsched_schedulers (
    owner         TEXT PRIMARY KEY NOT NULL,
    host          TEXT NOT NULL,
    pid           INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    heartbeat_at  INTEGER NOT NULL,
    lease_until   INTEGER NOT NULL,
    workers       INTEGER NOT NULL,
    paused        INTEGER NOT NULL,
    problem       TEXT,
    problem_since INTEGER,
    processes     TEXT NOT NULL,
    threaded      INTEGER NOT NULL
) WITHOUT ROWID;

-- When no scheduler lived; one that is not over has no end.
CREATE TABLE bgsched_absences (
    since INTEGER PRIMARY KEY NOT NULL,
    until INTEGER
);

-- By which time zone databases (a digest of each) the stored fire times may have been computed.
CREATE TABLE bgsched_zone_databases (
    digest TEXT PRIMARY KEY NOT NULL
) WITHOUT ROWID;
