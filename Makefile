# SPDX-License-Identifier: Apache-2.0
# Set up, run and test on a fresh Debian or Ubuntu with python3 and make; `make` alone lists the targets.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo demo-tasks demo-keyphrases check test setup setup-hf setup-tune setup-dev build-env peers-env ray-env train-demo lint fmt render clean bench bench-long chaos gpu-check docs
.NOTPARALLEL:

# Interpreter of the environments, when the system's python3 does not fit: make setup PYTHON=/path
PYTHON ?=
export PYTHON
SETUP := python3 scripts/setup.py

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## set up, then start a server with three small LLMs and ask it
	.venv/bin/quorum demo

demo-tasks: setup-tune ## tune encoders and an LLM on four kinds of task, serve them as one, report: minutes
	.venv/bin/python examples/tasks/run.py

demo-keyphrases: setup-tune ## judge, distil, index, publish, recommend keyphrases, on public data (QUORUM_DATA): minutes
	.venv/bin/python examples/keyphrases/run.py $(ARGS)

check: setup-dev ## set up without PyTorch, then lint, type-check and run the unit tests: before each commit
	scripts/check

test: ## set up, then lint, type-check and run every test
	@$(SETUP) dev tune build
	scripts/test

setup: ## make .venv: server, models, command line
	@$(SETUP) run

setup-hf: ## add PyTorch and Transformers to .venv, for members of runtime hf
	@$(SETUP) hf

setup-tune: ## add what `quorum tune` needs: PyTorch, Transformers, PEFT, ONNX
	@$(SETUP) tune

setup-dev:
	@$(SETUP) dev

build-env: ## make .venv-build: PyTorch and the converters (about 1.5 GB)
	@$(SETUP) build

peers-env: ## make .venv-peers: the benchmark's peers FastAPI, LitServe, Ray Serve and crowd-kit
	@$(SETUP) peers

ray-env: ## make .venv-ray: bulk runs on Ray, exporters to Delta Lake and Iceberg (about 1 GB)
	@$(SETUP) ray

train-demo: build-env ## train the demo's LLMs; examples/demo/README.md shows how to convert and score them
	.venv-build/bin/python examples/demo/train.py

lint: setup-dev ## lint and type-check only
	scripts/lint

fmt: setup-dev ## format the code
	.venv/bin/ruff check --fix-only -q .
	.venv/bin/ruff format -q .

render: setup ## write model_repository/ from deploy.yaml
	.venv/bin/quorum render

bench: setup ## measure this machine, about 7 minutes; report in benchmarks/out/
	.venv/bin/quorum-bench run benchmarks/out/short

bench-long: setup ## measure every point, longer and more often: about an hour
	.venv/bin/quorum-bench run benchmarks/out/long --long

chaos: setup ## break a server under load, part by part, and show what callers notice: 100 s (ARGS=--help)
	.venv/bin/quorum-bench chaos $(ARGS)

gpu-check: setup-tune ## check members and graph on a GPU, and measure them (ARGS=--help lists options)
	.venv/bin/quorum-bench gpu-check $(ARGS)

docs: setup-dev ## write the documentation as a site to .cache/site; any warning fails
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "written to .cache/site, for any web server; to read it here: .venv/bin/mkdocs serve"

clean: ## remove environments, caches and files of a demo
	rm -rf .venv .venv-build .venv-peers .venv-ray .cache .quorum .ruff_cache .mypy_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
