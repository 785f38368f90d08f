"""A process request (`value`), its policies (`policies`), and what becomes of its due fire times (`planning`).

Pure: values in, values out, no clock, no store.
"""

from bgsched.request.planning import RUN_ALL_LIMIT, Beside, Plan, as_of_today, beside, passed_over, plan
from bgsched.request.policies import Misfire, OnAbandon, Overlap, Policies, Retention, Retry
from bgsched.request.value import (
    OWN_KEY,
    Request,
    RequestStatus,
    UnreadableTiming,
    member_key,
    overlap_key,
)

__all__ = [
    "OWN_KEY",
    "RUN_ALL_LIMIT",
    "Beside",
    "Misfire",
    "OnAbandon",
    "Overlap",
    "Plan",
    "Policies",
    "Request",
    "RequestStatus",
    "Retention",
    "Retry",
    "UnreadableTiming",
    "as_of_today",
    "beside",
    "member_key",
    "overlap_key",
    "passed_over",
    "plan",
]
