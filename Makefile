# Needs Python 3.11 or newer and nothing else; another one than python3: make run PYTHON=python3.12

.DEFAULT_GOAL := help
.PHONY: help run test bench test-faults test-container test-cluster test-pgbouncer audit lint format lock clean

# With these, the Python of .venv would import modules from elsewhere, or not those of the project.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH

SETUP = PYTHON='$(PYTHON)' sh scripts/setup.sh
VENV = .venv/bin/python

# Recipes end with exec if they can: then Ctrl-C ends make without a message.

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s%s\n", $$1, $$2 }' Makefile

run: ## Serve the API and its Swagger UI (settings: .env.example)
	@$(SETUP) requirements.txt
	@exec $(VENV) -m app

test: ## Run the tests (some of them: make test ARGS='-k etag')
	@$(SETUP) requirements-dev.txt
	@exec $(VENV) -m pytest -n auto --dist loadscope $(ARGS)

bench: ## Measure the speed beside other servers (needs wrk; Node for one of them)
	@$(SETUP) requirements-dev.txt
	@exec $(VENV) -m lab.bench $(ARGS)

test-faults: ## Flood, fuzz and kill the service (minutes; some of it: ARGS='-k idle')
	@$(SETUP) requirements-dev.txt
	@exec $(VENV) -m pytest tests/faults $(ARGS)

test-container: ## Build the image and try docker compose for real (needs Docker)
	@$(SETUP) requirements-dev.txt
	@exec $(VENV) -m pytest tests/container $(ARGS)

test-cluster: ## Kill and freeze the leader of a PostgreSQL cluster under load (minutes; Linux)
	@$(SETUP) requirements-dev.txt
	@exec $(VENV) -m pytest tests/cluster $(ARGS)

test-pgbouncer: ## Run the tests through a PgBouncer that pools transactions (Linux)
	@$(SETUP) requirements-dev.txt
	@exec $(VENV) -m lab.cluster.pgbouncer $(ARGS)

audit: ## Look for known vulnerabilities of what is pinned
	@$(SETUP) requirements-dev.txt
	@sh scripts/audit.sh

lint: ## Check style, format, types and the direction of imports
	@$(SETUP) requirements-dev.txt
	$(VENV) -m ruff check
	$(VENV) -m ruff format --check
	$(VENV) -m mypy
# By path, because import-linter is no module that can be run; by Python, because the first line of
# a script cannot hold every path.
	$(VENV) .venv/bin/lint-imports

format: ## Format the code, and fix what can be fixed automatically
	@$(SETUP) requirements-dev.txt
	$(VENV) -m ruff check --fix --exit-zero
	$(VENV) -m ruff format

lock: ## Renew requirements*.txt: the newest versions that pyproject.toml allows
	@PYTHON='$(PYTHON)' sh scripts/lock.sh

clean: ## Remove .venv and caches (the data in .data stays)
	rm -rf .venv .venv.new .*_cache .hypothesis .cluster node_modules lab/bench/.data lab/bench/results \
		lab/bench/peers/fastify/node_modules
	find app lab main.py migrations scripts tests -name __pycache__ -prune -exec rm -rf {} +
