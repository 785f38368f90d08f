"""The commands that look: they hold a `Monitor`, so they cannot change anything."""

import argparse
import json
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from bgsched._cli_options import moment, one_of, open_monitor, positive, shared_options
from bgsched._cli_text import STATUS_STYLES, Cell, Column, Terminal, clock_time, params_text, span_text
from bgsched.errors import StoreUnavailableError
from bgsched.monitor import Health, Monitor
from bgsched.request import Request, RequestStatus
from bgsched.run import LogLine, Run, RunStatus
from bgsched.stores.base import Page

__all__ = ["add_parsers", "outcome", "requests_table", "runs_table", "write_line"]

_LEVEL_STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red", "DEBUG": "dim"}
_EXCERPT = 20
_PAGE = 1000
_LATE = timedelta(seconds=5)

RUN_COLUMNS = (
    Column("run", right=True),
    Column("process", rank=1, least=16),
    Column("status", rank=2),
    Column("fire time", rank=4),
    Column("started", rank=6),
    Column("took", rank=5, right=True),
    Column("late", rank=7, right=True),
    Column("params", rank=8, least=12),
    Column("request", rank=9, least=12),
    Column("what came of it", rank=3, least=30),  # at night, this is what one looks for
)
REQUEST_COLUMNS = (
    Column("request", least=16),
    Column("process", rank=6, least=16),
    Column("status", rank=2),
    Column("next", rank=4),
    Column("in", rank=5, right=True),
    Column("timing", rank=3, least=12),
    Column("last", rank=7),
    Column("user", rank=8, least=4),
    Column("params", rank=9, least=8),
)


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to the parser."""
    shared = shared_options()
    runs = commands.add_parser("runs", parents=[shared], help="what ran, newest first")
    _add_run_filters(runs)
    runs.set_defaults(command=_runs)

    show = commands.add_parser("show", parents=[shared], help="one run: its times, error, attempts, the end of its log")
    show.add_argument("run", type=positive, metavar="RUN", help="the run's number")
    show.set_defaults(command=_show)

    logs = commands.add_parser("logs", parents=[shared], help="the log of a run; --json writes one object per line")
    logs.add_argument("run", type=positive, metavar="RUN", help="the run's number")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    logs.set_defaults(command=_logs)

    requests = commands.add_parser("requests", parents=[shared], help="the stored requests")
    requests.add_argument("request", nargs="?", metavar="REQUEST", help="only this one")
    requests.add_argument("--process", metavar="NAME")
    requests.add_argument("--status", type=one_of(RequestStatus), help="scheduled, unscheduled, complete")
    requests.add_argument("--user", metavar="NAME")
    requests.add_argument("--limit", type=positive, default=100, metavar="N", help="how many at most (default: 100)")
    requests.add_argument("--after", metavar="REQUEST", help="the last of the page before")
    requests.set_defaults(command=_requests)

    upcoming = commands.add_parser("upcoming", parents=[shared], help="what is due next")
    upcoming.add_argument("--limit", type=positive, default=10, metavar="N", help="how many at most (default: 10)")
    upcoming.set_defaults(command=_upcoming)

    why = commands.add_parser("why", parents=[shared], help="why a request did not run")
    why.add_argument("request", metavar="REQUEST")
    why.set_defaults(command=_why)

    summary = commands.add_parser("summary", parents=[shared], help="figures: runs by status, durations, lateness")
    summary.add_argument("--process", metavar="NAME")
    summary.add_argument("--since", type=moment, metavar="WHEN", help="an instant, or 2h for two hours ago")
    summary.set_defaults(command=_summary)

    health = commands.add_parser(
        "health", parents=[shared], help="for probes: exit code 0 if the work gets done, else 1"
    )
    health.set_defaults(command=_health)


def _add_run_filters(runs: argparse.ArgumentParser) -> None:
    runs.add_argument("--process", metavar="NAME")
    runs.add_argument("--request", metavar="REQUEST")
    runs.add_argument("--status", type=one_of(RunStatus), help="one or more: error,timed_out")
    runs.add_argument("--since", type=moment, metavar="WHEN", help="an instant, or 2h for two hours ago")
    runs.add_argument("--until", type=moment, metavar="WHEN")
    runs.add_argument("--text", metavar="TEXT", help="to be found in the reason, the error or the log")
    runs.add_argument("--user", metavar="NAME")
    runs.add_argument("--limit", type=positive, default=20, metavar="N", help="how many at most (default: 20)")
    runs.add_argument("--before", type=positive, metavar="RUN", help="the last of the page before")


# -- runs --------------------------------------------------------------------------------------------------------


def _runs(args: argparse.Namespace, terminal: Terminal) -> int:
    found = _looked_for(open_monitor(args.store), args)
    if args.json:
        terminal.json([run.to_dict() for run in found])
    elif not found:
        terminal.say("no run matches", "dim")
    else:
        runs_table(terminal, found)
        if found.before is not None:
            terminal.say(f"older ones: --before {found.before}", "dim")
    return 0


def _looked_for(monitor: Monitor, args: argparse.Namespace) -> Page:
    """Return as many runs as are asked for, question by question: each looks at a bounded number."""
    found = Page(before=args.before)
    while True:
        page = monitor.runs(
            process=args.process,
            request=args.request,
            status=args.status,
            since=args.since,
            until=args.until,
            text=args.text,
            user=args.user,
            limit=args.limit - len(found),
            before=found.before,
        )
        found = Page([*found, *page], page.before)
        if found.before is None or len(found) == args.limit:
            return found


def runs_table(terminal: Terminal, runs: Iterable[Run]) -> None:
    """Write runs as a table."""
    now = datetime.now(UTC)
    terminal.table(
        RUN_COLUMNS,
        [
            (
                str(run.id),
                run.process,
                Cell(run.status.value, STATUS_STYLES[run.status]),
                clock_time(run.fire_time, now),
                clock_time(run.started_at, now),
                span_text(run.duration),
                span_text(run.lateness),
                params_text(run.params),
                run.request_id,
                outcome(run),
            )
            for run in runs
        ],
    )


def outcome(run: Run) -> str:
    """Return what came of a run, in a few words."""
    if run.error is not None:
        return f"{run.error.type}: {run.error.message}"
    if run.reason is not None:
        return run.reason
    if run.is_active:
        asked = "" if run.kill_asked_at is None else "asked to stop"
        return ", ".join(filter(None, (asked, progress_text(run))))
    return run.result if isinstance(run.result, str) else _json(run.result)


def _json(value: object) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def progress_text(run: Run) -> str:
    """Return how far a run has come."""
    if run.progress is None:
        return ""
    total = "" if run.progress.total is None else f"/{run.progress.total}"
    return " ".join(filter(None, (f"{run.progress.done}{total}", run.progress.message)))


def _show(args: argparse.Namespace, terminal: Terminal) -> int:
    monitor = open_monitor(args.store)
    run = monitor.run(args.run)
    if args.json:
        terminal.json(run.to_dict())
        return 0
    terminal.say(f"run {run.id} of {run.process}", "bold")
    for name, value, style in _facts(run):
        if value:
            terminal.line(f"{name:>11}  ", Cell(value, style))
    for attempt in run.attempts:
        error = f"{attempt.error.type}: {attempt.error.message}" if attempt.error else ""
        terminal.say(f"{'attempt ' + str(attempt.number):>11}  {attempt.status.value} {error}", "dim")
    members = monitor.runs(parent=run.id)
    if members:
        terminal.say()
        runs_table(terminal, reversed(members))
    _write_excerpt(terminal, monitor, run)
    return 0


def _facts(run: Run) -> Iterator[tuple[str, str, str]]:
    yield "status", run.status.value, STATUS_STYLES[run.status]
    yield "request", run.request_id, ""
    yield "params", params_text(run.params), ""
    yield "user", run.user or "", ""
    yield "fire time", clock_time(run.fire_time) + (f", {run.fire_count} fire times" if run.fire_count > 1 else ""), ""
    yield "started", clock_time(run.started_at), ""
    yield "late", span_text(run.lateness), ""
    yield "finished", clock_time(run.finished_at), ""
    yield "took", span_text(run.duration), ""
    yield "asked", f"to stop, at {clock_time(run.kill_asked_at)}" if run.kill_asked_at else "", ""
    yield "attempt", str(run.attempt) if run.attempt > 1 else "", ""
    yield "progress", progress_text(run), ""
    yield "result", _json(run.result), ""
    yield "reason", run.reason or "", ""
    yield "error", f"{run.error.type}: {run.error.message}" if run.error else "", "red"
    yield "part of", f"run {run.parent_id}" if run.parent_id is not None else "", ""


def _write_excerpt(terminal: Terminal, monitor: Monitor, run: Run) -> None:
    last = deque(_lines(monitor, run.id), maxlen=_EXCERPT)
    if last:
        terminal.say()
        if last[0].seq > 1:
            terminal.say(f"the last {len(last)} lines; all of them: bgsched logs {run.id}", "dim")
        for line in last:
            write_line(terminal, line)


# -- logs --------------------------------------------------------------------------------------------------------


def _logs(args: argparse.Namespace, terminal: Terminal) -> int:
    monitor = open_monitor(args.store)
    for line in monitor.follow(args.run) if args.follow else _lines(monitor, args.run):
        if args.json:
            terminal.json(line.to_dict(), indent=None)
        else:
            write_line(terminal, line)
        if args.follow:
            terminal.out.flush()
    return 0


def _lines(monitor: Monitor, run_id: int) -> Iterator[LogLine]:
    after = 0
    while lines := monitor.log(run_id, after, _PAGE):
        yield from lines
        after = lines[-1].seq


def write_line(terminal: Terminal, line: LogLine) -> None:
    """Write a line of a run log; what has several lines, like a traceback, is indented."""
    first, *rest = line.text.split("\n")
    style = _LEVEL_STYLES.get(line.level, "")
    at = f"{line.at.astimezone():%H:%M:%S.%f}"[:12]
    terminal.line(Cell(at, "dim"), " ", Cell(f"{line.level:<7}", style), f" {first}")
    for text in rest:
        terminal.say(f"{'':12} {text}", style)


# -- requests ----------------------------------------------------------------------------------------------------


def _requests(args: argparse.Namespace, terminal: Terminal) -> int:
    monitor = open_monitor(args.store)
    if args.request is not None:
        found = [monitor.request(args.request)]
    else:
        found = monitor.requests(args.process, args.status, user=args.user, limit=args.limit, after=args.after)
    if args.json:
        terminal.json([request.to_dict() for request in found])
    elif not found:
        terminal.say("no request matches", "dim")
    else:
        requests_table(terminal, found)
        if args.request is None and len(found) == args.limit:
            terminal.say(f"further ones: --after {found[-1].id}", "dim")
    return 0


def _upcoming(args: argparse.Namespace, terminal: Terminal) -> int:
    found = open_monitor(args.store).upcoming(args.limit)
    if args.json:
        terminal.json([request.to_dict() for request in found])
    elif not found:
        terminal.say("nothing is due", "dim")
    else:
        requests_table(terminal, found)
    return 0


def _why(args: argparse.Namespace, terminal: Terminal) -> int:
    answer = open_monitor(args.store).why(args.request)
    if args.json:
        terminal.json({"request": args.request, "why": answer})
    else:
        terminal.say(answer)
    return 0


def requests_table(terminal: Terminal, requests: Iterable[Request]) -> None:
    """Write requests as a table."""
    now = datetime.now(UTC)
    terminal.table(REQUEST_COLUMNS, [_request_row(request, now) for request in requests])


def _request_row(request: Request, now: datetime) -> tuple[str | Cell, ...]:
    due = request.next_fire_time
    return (
        request.id,
        request.process,
        Cell(request.status.value, STATUS_STYLES[request.status]),
        clock_time(due, now),
        _until(due, now),
        request.timing.describe() + (f" ({request.reason})" if request.reason else ""),
        clock_time(request.last_fire_time, now),
        request.user or "",
        params_text(request.params),
    )


def _until(due: datetime | None, now: datetime) -> str:
    if due is None:
        return ""
    if now - due > _LATE:
        return f"{span_text(now - due)} ago"
    return span_text(due - now) if due > now else "now"


# -- the whole ---------------------------------------------------------------------------------------------------


def _summary(args: argparse.Namespace, terminal: Terminal) -> int:
    figures = open_monitor(args.store).summary(args.process, args.since)
    if args.json:
        terminal.json(figures.to_dict())
        return 0
    for status in RunStatus:
        if count := figures.counts.get(status, 0):
            terminal.line(f"{count:>8}  ", Cell(status.value, STATUS_STYLES[status]))
    if figures.success_rate is not None:
        terminal.say(f"{figures.success_rate:>8.1%}  of those that came to an end succeeded")
    for what in ("duration", "lateness"):
        spans = [span_text(getattr(figures, f"{what}_{part}")) for part in ("p50", "p95", "p99")]
        if any(spans):
            terminal.say(f"{what:>8}  {' / '.join(spans)}  (p50 / p95 / p99)")
    if not figures.counts:
        terminal.say("no run yet" if args.since is None else f"no run since {args.since:%Y-%m-%d %H:%M:%S %Z}", "dim")
    return 0


def _health(args: argparse.Namespace, terminal: Terminal) -> int:
    try:
        health = open_monitor(args.store).health()
    except StoreUnavailableError as error:
        health = Health(ok=False, problems=(str(error),))
    if args.json:
        terminal.json(health.to_dict())
    else:
        _write_health(terminal, health)
    return 0 if health.ok else 1


def _write_health(terminal: Terminal, health: Health) -> None:
    terminal.say("ok" if health.ok else "not ok", "green" if health.ok else "red")
    for problem in health.problems:
        terminal.say(f"  {problem}")
    for record in health.schedulers:
        beat = span_text(datetime.now(UTC) - record.heard_at)
        where = f"on {record.host}, OS process {record.pid}, last heard of {beat} ago"
        terminal.say(f"  scheduler {record.owner[:8]} {where}{', paused' if record.paused else ''}", "dim")
