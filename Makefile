# Every command of the project; `make help` lists them. Python and all tools come from the project's own files.
SHELL := /bin/sh
.SHELLFLAGS := -eu -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

CACHE := $(or $(ISTIO_VM_MESH_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/istio-vm-mesh)
VENV := $(CACHE)/venv-$(shell sha256sum requirements-dev.txt lab/bootstrap.sh | sha256sum | cut -c1-16)
READY := $(VENV)/.ready
PYTHON := $(VENV)/bin/python
RUN := $(PYTHON) -m lab.run
# Many of these tests wait for processes of their own, hence more workers than cores.
UNIT := $(PYTHON) -m pytest -m "not lab" --ignore tests/lab --numprocesses 3 --dist worksteal
export ISTIO_VM_MESH_CACHE := $(CACHE)
export PATH := $(VENV)/bin:$(PATH)
# Without compiled modules beside the sources, each worker would compile all tests anew, which takes 10 s of a processor.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help up preview status outputs manifests verify destroy down shell kubectl test long unit lint format bench requirements docs sudoers

help: ## List the commands
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

up: $(READY) ## Build the lab where it is missing, run the stack on it, print the VMs' registration (ARGS="--stack-file FILE")
	@$(RUN) up $(ARGS)

preview: $(READY) ## Show what `make up` would change, on the cluster and on the hosts (ARGS=--json for machines)
	@$(RUN) preview $(ARGS)

status: $(READY) ## Read every VM's registration now, and the lab's components with their logs
	@$(RUN) status

outputs: $(READY) ## Print the stack's outputs as JSON
	@$(RUN) outputs

manifests: $(READY) ## Write every Kubernetes object of a stack, one file each (ARGS="--stack-file FILE --folder FOLDER")
	@$(RUN) manifests $(ARGS)

verify: $(READY) ## Check a mesh that is up, by requests of a pod and of the VMs (ARGS="--stack-file FILE")
	@$(RUN) verify $(ARGS)

destroy: $(READY) ## Destroy the stack, and leave the lab running
	@$(RUN) destroy

down: $(READY) ## Destroy the stack, then remove everything of the lab but the tool cache
	@$(RUN) down

shell: $(READY) ## Open a shell on a VM: make shell VM=billing-1
	@$(RUN) shell "$(VM)"

kubectl: $(READY) ## Run kubectl on the lab: make kubectl ARGS="get pods -A"
	@$(RUN) kubectl $(ARGS)

test: $(READY) ## Run the tests without a lab, then those on it (it is started where it is not running)
	@$(UNIT)
	@$(PYTHON) -m pytest -m "lab and not long" $(ARGS)
	@echo "Not run here: agreement with the API server, secrets, bad input, static VMs, fresh joins, ssh, packages, reconnecting, host checks, most faults, lock-outs, waves and drifts, ways to istiod, credentials, removals, fifty VMs, and of the mesh around them: policies, canaries, migrations, an own authority, the CNI plugin, other networks, the examples, uninstalling. make long runs them."

long: $(READY) ## Run what mostly waits, on the lab: faults, lock-outs, waves, ways, canaries, migrations, uninstalling, fifty VMs (over an hour)
	@$(PYTHON) -m pytest -m long $(ARGS)

unit: $(READY) ## Run the tests that need no lab
	@$(UNIT) $(ARGS)

lint: $(READY) ## Check style, types and shell scripts
	@ruff check .
	@ruff format --check .
	@mypy .
	@shellcheck lab/bootstrap.sh .ci/run components/departure.sh bench/rivals/*.sh

bench: $(READY) ## Measure this project and others on the lab, and write docs/figures.md (ARGS="--sizes 1,10 --repeat 3")
	@$(PYTHON) -m bench $(ARGS)

format: $(READY) ## Format the code
	@ruff format .
	@ruff check --fix .

requirements: $(READY) ## Compile the pinned requirements from pyproject.toml
	@uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" -o requirements.txt pyproject.toml
	@uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" --extra dev -o requirements-dev.txt pyproject.toml
	@uv pip compile -q --generate-hashes --no-emit-index-url --python-version 3.11 --custom-compile-command "make requirements" -o bench/requirements.txt bench/requirements.in

sudoers: $(READY) ## Print the least sudoers file for VMs: make sudoers ARGS=<login>
	@$(PYTHON) -m hosts.sudoers $(ARGS)

docs: $(READY) ## Write docs/configuration.md anew from the settings' models
	@$(PYTHON) -m settings.reference > docs/configuration.md

$(READY):
	@sh lab/bootstrap.sh "$(VENV)" requirements-dev.txt >&2
