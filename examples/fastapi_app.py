"""A FastAPI service that makes reports in the background.

    fastapi dev examples/fastapi_app.py
    curl -X POST localhost:8000/reports/acme
    curl localhost:8000/reports/<the request's id>

Endpoints that file or ask are plain functions, which FastAPI calls on a thread: they wait for the disk.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from bgsched import Immediate, Scheduler, UnknownRequestError, current_run

scheduler = Scheduler(os.environ.get("BGSCHED_STORE", "sqlite:///fastapi.db"), workers=4)


@scheduler.process("make-report")
async def make_report(customer: str) -> str:
    current_run().log.info("asking the shop about %s", customer)
    await asyncio.sleep(0)  # async processes run beside each other on the scheduler's own event loop
    return f"{customer}: 17 orders"


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Start with the server, in each of its OS processes, and end with it."""
    scheduler.start()
    yield
    await asyncio.to_thread(scheduler.shutdown, timeout=10)


app = FastAPI(lifespan=lifespan)


@app.post("/reports/{customer}", status_code=202)
def ask_for_report(customer: str) -> dict[str, str]:
    request = make_report.schedule(Immediate(), customer=customer)
    return {"request": request.id}


@app.get("/reports/{request_id}")
def show_report(request_id: str) -> dict[str, Any]:
    try:
        request = scheduler.monitor.request(request_id)
    except UnknownRequestError as error:
        raise HTTPException(404, str(error)) from None
    runs = scheduler.monitor.runs(request=request.id, limit=1)
    return {"request": request.to_dict(), "run": runs[0].to_dict() if runs else None}
