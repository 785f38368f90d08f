"""The private rooms of :mod:`bgsched.timing`: integers in, integers out; no clock.

Three units are used throughout. An *instant* is a count of microseconds (engines) or seconds (zones) since
1970-01-01T00:00Z. A *local second* is what a wall clock reads, counted the same way as if it were UTC. A *day* is a
count of days since 1970-01-01, so that ``local // 86400`` is the local day.

Imports run one way: ``units``, ``effort`` <- ``zone``, ``days``, ``times`` <- ``engine`` <- ``exclusion`` <- ``plan``
for integers; ``frequency`` and ``parts`` make these of what people wrote, ``words`` and ``notes`` say it, ``stored``
reads it back.
"""
