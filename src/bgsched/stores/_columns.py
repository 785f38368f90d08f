"""What the SQL stores call the columns of their tables, and conditions that they share."""

from bgsched.run import FINAL

__all__ = [
    "ACTIVE_STATUS",
    "ADVANCING_COLUMNS",
    "CHANGING_COLUMNS",
    "FIGURES",
    "FIRST",
    "IS_INSTANT",
    "LOG_COLUMNS",
    "LOOK_WAITING",
    "REPORTED_COLUMNS",
    "REQUEST_COLUMNS",
    "RUN_COLUMNS",
    "SCHEDULER_COLUMNS",
    "WHOLE",
    "active_by",
    "ended_by",
    "has_newer",
]

REQUEST_COLUMNS = (
    "id",
    "process",
    "params",
    "timing",
    "status",
    "user",
    "channel",
    "priority",
    "created_at",
    "revision",
    "next_fire_time",
    "due_at",
    "last_fire_time",
    "declared",
    "reason",
    "unscheduled_at",
    "sensitive",
)

CHANGING_COLUMNS = (
    "due_at",
    "claimed_at",
    "started_at",
    "finished_at",
    "duration",
    "lateness",
    "status",
    "reason",
    "attempt",
    "attempts",
    "reruns_left",
    "owner",
    "progress",
    "result",
    "error",
)
"""What a report may change of a run; ``kill_asked_at`` is only ever set, and kept."""

REPORTED_COLUMNS = (*CHANGING_COLUMNS, "kill_asked_at", "id")
"""What a report says of a run, its id last."""

ADVANCING_COLUMNS = (
    "status",
    "revision",
    "next_fire_time",
    "due_at",
    "last_fire_time",
    "reason",
    "unscheduled_at",
    "id",
)
"""What a claim says of a request, its id last."""

RUN_COLUMNS = (
    "id",
    "request_id",
    "revision",
    "parent_id",
    "process",
    "params",
    "user",
    "channel",
    "fire_time",
    "fire_until",
    "fire_count",
    "recorded_at",
    "overlap_key",
    "sensitive",
    *CHANGING_COLUMNS,
    "kill_asked_at",
)

WHOLE = 1 << 53
"""Numbers in a row are below this; what is not was put there by nobody of ours, and would not bear to be counted on."""

FIRST = -62_135_596_800 * 1_000_000
"""The first instant that there is, the begin of the year 1."""

IS_INSTANT = f"BETWEEN {FIRST} AND {253_402_214_400 * 1_000_000}"
"""What holds for instants up to the horizon, and for nothing else that somebody may have put into such a column."""

LOOK_WAITING = 1_000
"""At how many waiting runs a question looks for one that nothing is in the way of."""

ACTIVE_STATUS = "status IN ('waiting', 'running')"
"""Written as the partial indexes say it, or they are not used."""

FIGURES = "finished_at IS NOT NULL"
"""Of ended runs, in words of the index of the figures of all, and of no other."""

_BEGINNINGS = (("request_id",), ("process",), ('"user"',), ('"user"', "process"), (), ("process", "recorded_at"))

_FINAL_STATUS = "status IN ({})".format(", ".join(f"'{status.value}'" for status in sorted(FINAL)))

LOG_COLUMNS = ("run_id", "seq", "at", "level", "logger", "text", "attempt")

SCHEDULER_COLUMNS = (
    "owner",
    "host",
    "pid",
    "started_at",
    "heartbeat_at",
    "lease_until",
    "workers",
    "paused",
    "problem",
    "problem_since",
    "processes",
    "threaded",
)


def active_by(*columns: str, of: str = "") -> str:
    """Return the condition of active runs in the words of the index that begins with *columns*, and of no other.

    *of*: an alias of the table, with its dot.
    """
    if not columns:  # to say which statuses there are would have each looked up in that index, which begins with them
        return f"{of}finished_at IS NULL"
    return f"{of}{ACTIVE_STATUS} AND {of}{_word(columns)}"


def ended_by(*columns: str, of: str = "") -> str:
    """Return the same of ended runs."""
    return f"{of}status NOT {ACTIVE_STATUS.removeprefix('status ')} AND {of}{_word(columns)}"


def _word(columns: tuple[str, ...]) -> str:
    return f"id <> -{1 + _BEGINNINGS.index(columns)}"


def active_processes(runs: str) -> str:
    """Return the question for the processes of active runs: their index is looked into once for each."""
    least = f"SELECT min(process) FROM {runs} WHERE {active_by('process')}"  # noqa: S608  our own
    return (
        f"WITH RECURSIVE found(process) AS ({least} UNION ALL SELECT ({least} AND process > found.process) "  # noqa: S608
        "FROM found WHERE found.process IS NOT NULL) SELECT process FROM found WHERE process IS NOT NULL"
    )


def has_newer(runs: str) -> str:
    """Return the condition that the request of a ``run`` has a newer one in the table *runs*, by a few looks at most.

    The members of a group are one with it, and so are theirs: what is newer is younger than the last of them all.
    """
    newer = (
        f"EXISTS (SELECT 1 FROM {runs} AS newer WHERE newer.request_id = run.request_id "  # noqa: S608
        f"AND newer.id > {_last_of_family(runs)}"
    )
    ended = f"{ended_by('request_id', of='newer.')} AND newer.{_FINAL_STATUS}"
    return f"({newer} AND {ended}) OR {newer} AND {active_by('request_id', of='newer.')}))"


def _last_of_family(runs: str) -> str:
    """Return the id of the last run in the family of a ``run``: up to the outermost group, then down by last members.

    Most runs have no family, and no more is asked for them. UNION looks at each once: damage may make a circle.
    """
    up = f"SELECT parent.id, parent.parent_id FROM up JOIN {runs} AS parent ON parent.id = up.parent_id"  # noqa: S608
    last_member = f"SELECT max(member.id) FROM {runs} AS member WHERE member.parent_id"  # noqa: S608
    down = f"SELECT ({last_member} = down.id) FROM down WHERE down.id IS NOT NULL"  # noqa: S608
    last = (
        f"WITH RECURSIVE up (id, parent_id) AS (SELECT run.id, run.parent_id UNION {up}), "  # noqa: S608
        f"down (id) AS (SELECT min(id) FROM up UNION {down}) SELECT max(id) FROM down"
    )
    return f"CASE WHEN run.parent_id IS NULL AND ({last_member} = run.id) IS NULL THEN run.id ELSE ({last}) END"
