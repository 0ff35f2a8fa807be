# A private environment in .venv, made again when pyproject.toml changes, and the native modules, built when their sources change.
# Wants python3, python3-dev, python3-venv, gcc, make; git for nothing but the clone.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/built
NATIVE := setup.py $(shell find proxy -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
NATIVE += $(wildcard $(NATIVE:.pxd=.py))  # modules of Python that are compiled with their types
# A file's tests stay together, as they share servers; tests/conftest.py says which files begin.
FILES := --dist loadfile --no-loadscope-reorder
# Twice as many as the two processors of the machine that the suite is timed on: tests wait more than they work.
WORKERS := -n 4 $(FILES)
# Root alone: for everybody else these tests run in a second process, under unshare(1).
SPREAD := $(if $(filter 0,$(shell id -u)),$(WORKERS))

# Tests of time bounds share two processors with three others.  What fails there must pass alone, in a second run.
tested = $(BIN)/python -m pytest $(1) $(2) || { test $$? = 1 && \
	echo "once more, one after the other:" && $(BIN)/python -m pytest $(1) --last-failed --last-failed-no-failures none --reruns 1 -rR; }

build: $(READY)  ## the environment and the native modules

SHIP := PYTHONPATH=packaging $(BIN)/python -m shipping

.PHONY: build demo test lint behaviours breakages bench load soak sanitize wheel lock deb deb-test container-test docs pictures

demo: $(READY)  ## queries and connections balanced over embedded servers, one of which dies and returns
	$(BIN)/steelyard demo

# Each of pytest's processes rewrites the assertions of every test module, unless it may keep what it has rewritten.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(READY)  ## the whole suite; as root it installs the real servers it needs (tests/packages.txt)
	$(BIN)/python tests/packages.py tests/packages.txt
	$(BIN)/python -m compileall -q -j 0 proxy health vrrp bench tests  # once, not at each start of each of their processes
	$(call tested,--ignore=tests/e2e,$(WORKERS))
	$(call tested,tests/e2e -m "not load",$(SPREAD))
	$(BIN)/python -m pytest tests/e2e -m load --reruns 1 -rR

lint: $(READY)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/cython-lint proxy && $(BIN)/mypy && $(BIN)/lint-imports

behaviours: $(READY)  ## the behaviours that no test names
	$(BIN)/python tests/behaviours.py

breakages: $(READY)  ## breaks each behaviour in turn: is it seen? IDS="T4 U20" for some; tests/breakages
	$(BIN)/python tests/packages.py tests/packages.txt
	$(BIN)/python -m tests.breakages $(IDS)

bench: $(READY)  ## beside dnsdist, HAProxy, nginx, NAT and no balancer; WORKS="dns http" for some; more in bench/README.md
	$(BIN)/python tests/packages.py tests/packages.txt bench/packages.txt
	$(BIN)/python -m bench compare $(WORKS)

load: $(READY)  ## a hundred reloads and ten reexecs under 2,000 connections and 8,000 queries a second; wants a quiet machine
	$(BIN)/python tests/packages.py tests/packages.txt
	LOAD=full $(BIN)/python -m pytest -s tests/e2e/test_reload_load.py tests/e2e/test_reexec_load.py

soak: $(READY)  ## ten minutes of both processors saturated beneath a pair whose address must stay; SOAK=180 for three
	$(BIN)/python tests/packages.py tests/packages.txt
	$(BIN)/python -m tests.soak $(if $(SOAK),--seconds $(SOAK))

sanitize: $(READY)  ## the native modules under sanitizers: tests, failing calls, fuzzers; INPUTS=10000000 for more of these
	$(BIN)/python -m tests.sanitize $(if $(INPUTS),--inputs $(INPUTS)) $(STEPS)

wheel: $(READY)  ## what `pip install` takes, in dist/
	$(SHIP) wheel

lock: $(READY)  ## packaging/requirements.lock, on Debian 12; UPGRADE=--upgrade takes the newest versions
	$(SHIP) lock $(UPGRADE)

deb: $(READY)  ## the package of this Debian release, in dist/; TREE=/srv/trixie for the release in that directory tree
	$(SHIP) deb --wheels build/wheels $(if $(TREE),--tree $(TREE))

deb-test: $(READY)  ## what `make deb` makes, installed, upgraded under load and purged; TREE=/srv/trixie as above
	$(BIN)/python tests/packages.py tests/packages.txt
	$(SHIP) deb --wheels build/wheels --output build/deb-test $(if $(TREE),--tree $(TREE))
	TREE=$(or $(TREE),/) DEB=$$(ls -t build/deb-test/*.deb | head -1) \
	    $(BIN)/python -m pytest -s tests/e2e/test_deb.py tests/packaging/test_lintian.py

container-test: $(READY)  ## the steps of packaging/Containerfile, over a directory tree of Debian 13: TREE=/srv/trixie
	TREE=$(TREE) $(BIN)/python -m pytest tests/packaging/test_container.py

docs: $(READY)  ## the documentation as one searchable site, in build/site
	$(BIN)/mkdocs build --strict --quiet --config-file packaging/mkdocs.yml

pictures: $(READY)  ## draws docs/pictures again: steelyard top at each size
	$(BIN)/python -m tests.pictures

$(READY): .venv/stamp $(NATIVE)
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2
	touch $@

.venv/stamp: pyproject.toml setup.py
	rm -rf build
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'setuptools>=77' 'Cython>=3.1,<4'
	NATIVE_LATER=1 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	touch $@
