"""A Flask site that makes reports in the background.

flask --app examples/flask_app.py run
curl -X POST localhost:5000/reports/acme
curl localhost:5000/reports/<the request's id>
"""

import os

from flask import Flask
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from bgsched import Immediate, Scheduler, UnknownRequestError, current_run

scheduler = Scheduler(os.environ.get("BGSCHED_STORE", "sqlite:///flask.db"), workers=4)


@scheduler.process("make-report")
def make_report(customer: str) -> str:
    current_run().log.info("adding up for %s", customer)
    return f"{customer}: 17 orders"


def create_app() -> Flask:
    """Make the site; the server calls this once in each of its OS processes, which is where the scheduler starts."""
    app = Flask(__name__)

    @app.post("/reports/<customer>")
    def ask_for_report(customer: str) -> tuple[dict[str, str], int]:
        request = make_report.schedule(Immediate(), customer=customer)
        return {"request": request.id}, 202

    @app.get("/reports/<request_id>")
    def show_report(request_id: str) -> tuple[dict[str, object], int]:
        try:
            request = scheduler.monitor.request(request_id)
        except UnknownRequestError as error:
            return {"error": str(error)}, 404
        runs = scheduler.monitor.runs(request=request.id, limit=1)
        return {"request": request.to_dict(), "run": runs[0].to_dict() if runs else None}, 200

    @app.get("/health")
    def health() -> tuple[dict[str, object], int]:
        found = scheduler.monitor.health()
        return found.to_dict(), 200 if found.ok else 503

    # `flask run --debug` makes the site twice: in the OS process that serves, and in the one that watches the files.
    # The latter keeps its code when they change, so it must run nothing.
    if is_running_from_reloader() or not get_debug_flag():
        scheduler.start()  # it shuts down by itself when the OS process ends
    return app
