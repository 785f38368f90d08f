"""A deterministic simulation of several schedulers on one store, in which everything that can go wrong does.

    from bgsched.testing import simulate

    for seed in range(1000):
        simulate(seed, make_store=MyStore)

One seed is one history: schedulers start, pass over the store, run what they claimed step by step, die and come back;
requests of all timings and policies are filed, changed and killed meanwhile; clocks jump; and any call of the store may
fail before or after its commit, take long, or be the last thing that its OS process does. There are no threads, and
time is what the simulation says. After every step the promises of the store and the scheduler are checked. A failure
tells the seed and the steps that lead to it: ``simulate(seed, steps=n)`` is its replay.

`world` holds the machines and the steps, `faults` the store's misfortunes, `checks` the promises.
"""

from bgsched.testing.simulation.checks import BrokenPromiseError
from bgsched.testing.simulation.world import simulate

__all__ = ["BrokenPromiseError", "simulate"]
