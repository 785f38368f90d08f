# The two commands of the README are `make demo` and `make test`. They need make and Python 3.11 or later, nothing else:
# a `uv` on PATH is used; without one, a copy is installed into .uv/ inside this checkout.
# `make clean` removes everything that these targets put there.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo test lint docs bench clean

# The first interpreter on PATH that is new enough, by its real path. Each is tried: behind the name that comes first,
# say a pyenv shim, there may be any version, or none. `make PYTHON=...` decides it; an environment variable does not, as
# other tools keep other things there.
ifneq ($(origin PYTHON),command line)
PYTHON := $(shell IFS=:; for folder in $$PATH; do for name in python3 python3.13 python3.12 python3.11 python; do \
	"$$folder/$$name" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1); print(sys._base_executable)' \
	2>/dev/null && exit; done; done)
endif

# `command -v` alone would also find a shim that has no uv behind it.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)

# The uv that is installed here keeps all it has here: there may be no home that can be written.
ifeq ($(UV),.uv/bin/uv)
export UV_CACHE_DIR ?= .uv/cache
endif

# uv shall use that interpreter, never fetch one, and take uv.lock as it is.
ifneq ($(PYTHON),)
export UV_PYTHON ?= $(PYTHON)
endif
export UV_PYTHON_DOWNLOADS ?= never
export UV_FROZEN ?= 1

# Trust what the machine trusts: uv's own list of authorities lacks the one that a company's network may add.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem),)
export UV_SYSTEM_CERTS ?= 1
endif

RUN := $(UV) run --no-default-groups

help:
	@echo "make demo   schedule real work and watch it      make lint   ruff, mypy, pyright"
	@echo "make test   run the tests                        make docs   build the documentation"
	@echo "make bench  measure it beside its peers          make clean  remove what these made"

demo: $(UV)
	$(RUN) --extra rich bgsched demo

test: $(UV)
	$(RUN) --group test pytest

lint: RUN += --group lint --group test --group docs --group bench
lint: $(UV)
	@UV_FROZEN=0 $(UV) lock --check --quiet || { echo "uv.lock does not fit pyproject.toml: run uv lock"; exit 1; }
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy src tests $(wildcard examples benchmarks)
	$(RUN) pyright

docs: $(UV)
	$(RUN) --group docs --group test sphinx-build -W --keep-going -n -q -b html docs docs/_build/html

bench: $(UV)
	$(RUN) --group bench --group test python -m benchmarks $(ARGS)

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "bgsched needs Python 3.11 or later; none was found on PATH (or say make PYTHON=...)"; exit 1; }
	@echo "no uv on PATH: installing one into .uv/"
	@"$(PYTHON)" -m venv .uv || { echo "$(PYTHON) has no working venv (on Debian: apt install python3-venv)"; rm -rf .uv; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv || { rm -rf .uv; exit 1; }

clean:
	rm -rf .uv .venv dist build docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage coverage.xml
	find src tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
