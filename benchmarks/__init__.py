"""Side-by-side measurements of bgsched and its peers: ``python -m benchmarks``."""
