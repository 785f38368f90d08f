"""What tests of bgsched, and of applications that use it, are made with."""

from bgsched.testing.clock import ManualClock
from bgsched.testing.contract import StoreContract
from bgsched.testing.simulation import simulate

__all__ = ["ManualClock", "StoreContract", "simulate"]
