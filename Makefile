# make demo   from nothing to a policy acting in a simulator, about twelve minutes on two cores
# make libero   adds LIBERO to .venv: 340 MiB
# make libero-demo   one policy for the ten tasks of LIBERO-Object, about five hours on two cores
# make test   what CI runs, about twelve minutes
# make lint   style and types
# make test-interop   datasets exchanged with the real lerobot, 0.4 and 0.6, each in a virtual environment of its own (15 GB)
# make mutants   90 random small changes of the core: which does no test notice? About half an hour; not in CI
# make docs   the documentation as a site in site/; make docs-serve shows it while you write
# make wheel   a wheel in dist/, installed into a clean environment and tried
# Each installs what it needs into .venv first.

PYTHON ?= python3
BIN := .venv/bin
# modules are compiled when they are first imported: most never are
PIP := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt
export MUJOCO_GL ?= egl
# otherwise each process compiles the libraries anew, which takes longer than importing them
unexport PYTHONDONTWRITEBYTECODE

.PHONY: docs docs-serve wheel libero libero-demo demo demo-three-tasks test test-slow test-interop mutants lint install dev opengl clean

demo: install opengl
	$(BIN)/video2act demo --out runs/demo

libero-demo: libero
	$(BIN)/video2act demo --name libero --out runs/libero

demo-three-tasks: install opengl
	$(BIN)/video2act demo --name three_tasks --out runs/three_tasks

test: dev opengl
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile

test-slow: dev opengl
	$(BIN)/python -m pytest -q -m slow

# needs python3.11 and python3.12; VIRTUAL_ENVS may lie on another disk
VIRTUAL_ENVS ?= .interop
test-interop:
	scripts/interop_venvs.sh $(VIRTUAL_ENVS)
	set -e; for version in 0.4.4 0.6.1; do \
		venv=$(abspath $(VIRTUAL_ENVS))/lerobot-$$version; \
		export PYTHONPATH=src HF_HUB_OFFLINE=1 LD_LIBRARY_PATH=$$(echo $$venv/ffmpeg:$$venv/lib/python3*/site-packages/av.libs); \
		$$venv/bin/python tests/interop/lerobot_exchange.py runs/interop/$$version; \
		$$venv/bin/python tests/interop/lerobot_plugin.py runs/interop/plugin-$$version; \
		$$venv/bin/python tests/interop/lerobot_worked_example.py runs/interop/example-$$version; \
	done

# the first run of mutmut makes the mutants and finds out which test covers which function
COUNT ?= 90
SEED ?= 0
mutants: dev opengl
	$(PIP) mutmut
	PATH=$(abspath $(BIN)):$$PATH OMP_NUM_THREADS=1 mutmut run --max-children 2 'video2act.normalize*'
	PATH=$(abspath $(BIN)):$$PATH OMP_NUM_THREADS=1 mutmut run --max-children 2 \
		$$($(BIN)/python scripts/sample_mutants.py $(COUNT) --seed $(SEED))
	$(BIN)/mutmut results

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open site/index.html"

docs-serve: .venv/docs
	$(BIN)/mkdocs serve

wheel:
	rm -rf dist build
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .
	PYTHON=$(PYTHON) scripts/try_wheel.sh dist/*.whl build/wheel_venv

install: .venv/installed
dev: .venv/dev

# torch first and alone: the version that is pinned, whichever build the machine's package index offers for it
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"Python 3.11 or newer is needed, this is {sys.version}"'
	$(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e '.[sim,serve]'
	touch $@

.venv/dev: .venv/installed video2act_released/pyproject.toml
	$(PIP) -e '.[sim,serve,dev]'
	$(PIP) --no-deps -e video2act_released
	$(PIP) --no-deps openpi-client  # it asks for an older numpy, and works with this one
	touch $@

# the tools of the extra alone: docstrings are read, not imported
.venv/docs: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) $$($(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	touch $@

libero: .venv/libero opengl
.venv/libero: .venv/installed
	$(PIP) -e '.[libero]'
	touch $@

# MuJoCo draws without a screen through EGL; these are Debian's names for it
opengl:
	@ldconfig -p | grep -q libEGL.so.1 && ldconfig -p | grep -q libOSMesa.so || sh scripts/install_opengl.sh

clean:
	rm -rf .venv runs site build dist
