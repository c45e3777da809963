# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
#   PYTHON=python3.12 make demo      another interpreter (3.11 or newer)
#   HTTP=127.0.0.1:8090 make demo    another address
#   TESTS=tests/scenarios/test_drop.py make test    part of the tests

VENV := .venv
HTTP ?= 127.0.0.1:8080
TESTS ?=

.PHONY: help demo test soak kill-matrix hostile-tenant slow-clients fuzz bench lint venv test-deps

help:
	@echo "make demo    build into $(VENV), serve ops/vassals.example at http://$(HTTP)/ until Ctrl-C"
	@echo "make test    everything: lint, types, import contracts, tests; as CI runs it"
	@echo "make soak    205 reloads, edits, failures, upgrades and kills under 500 requests a second, none of which may fail (ten minutes)"
	@echo "make kill-matrix   20 kills of each process, at random instants under load (a quarter of an hour)"
	@echo "make hostile-tenant   what a flooding, scribbling tenant does to a neighbour's tail (four minutes, idle machine)"
	@echo "make fuzz    ten million inputs for every codec (an hour; FUZZ='http1 --inputs 1000000' for a part)"
	@echo "make slow-clients   10,000 slow senders and 64 slow readers beside good clients, a log that nobody reads (a quarter of an hour, idle machine)"
	@echo "make lint    the cheap checks alone: ruff, mypy, import-linter"
	@echo "make bench   us beside haproxy + granian, nginx + uWSGI and others, in all rows (half an hour, idle machine; BENCH='--rows hello' for one)"
	@echo "make venv    only build $(VENV)"

venv:
	@ops/prepare-venv

demo:
	@ops/prepare-venv
	@exec $(VENV)/bin/python ops/demo.py ops/vassals.example --http $(HTTP)

test-deps:
	@ops/install-test-deps
	@ops/prepare-venv test

lint:
	@ops/prepare-venv test
	@ops/lint

test: test-deps
	@ops/lint
	@ops/test $(TESTS)

soak: test-deps
	$(VENV)/bin/python ops/soak/run.py $(SOAK)

kill-matrix: test-deps
	PROMISE=1 KILLS=20 $(VENV)/bin/python -m pytest tests/scenarios/test_kill_matrix.py tests/scenarios/test_kill_surroundings.py

hostile-tenant: test-deps
	PROMISE=1 $(VENV)/bin/python -m pytest -s tests/scenarios/test_hostile_tenant.py

fuzz: test-deps
	$(VENV)/bin/python ops/fuzz/run.py $(or $(FUZZ),--inputs 10000000)

slow-clients: test-deps
	PROMISE=1 $(VENV)/bin/python -m pytest -s tests/scenarios/test_slow_clients.py tests/scenarios/test_stopped_stdout.py

bench:
	@ops/install-test-deps
	@ops/prepare-venv bench
	@exec $(VENV)/bin/python ops/bench/run.py $(BENCH)
