# make demo   from nothing to a policy acting in a simulator, about a quarter of an hour on two cores
# make libero   adds LIBERO to .venv: 340 MiB
# make libero-demo   one policy for the ten tasks of LIBERO-Object, about three hours on two cores
# make test   what CI runs, about a quarter of an hour
# make lint   style and types
# make test-interop   datasets and policies exchanged with the real lerobot, 0.4, 0.6 and 0.7, each in its own environment (7 GB each)
# make baselines-venv   an environment to train and serve LeRobot's ACT and Diffusion Policy in: baselines/README.md
# make mikasa-venv   an environment for MIKASA-Robo, whose ball a served policy intercepts: examples/12_mikasa_intercept.py
# make mutants   90 random small changes of the core: which does no test notice? About half an hour; not in CI
# make docs   the documentation as a site in site/; make docs-serve shows it while you write
# make clean   removes .venv, site, build and dist; what was trained and recorded, in runs/, stays
# make wheel   a wheel in dist/, installed into a clean environment and tried
# Each installs what it needs into .venv first.

PYTHON ?= python3
BIN := .venv/bin
# modules are compiled when they are first imported: most never are
PIP := $(BIN)/python -m pip install --quiet --no-compile -c constraints.txt
export MUJOCO_GL ?= egl
# otherwise each process compiles the libraries anew, which takes longer than importing them
unexport PYTHONDONTWRITEBYTECODE

.PHONY: docs docs-serve wheel libero libero-demo demo demo-three-tasks test test-slow test-interop baselines-venv mikasa-venv mutants lint install dev opengl browser clean

demo: install opengl
	$(BIN)/video2act demo --out runs/demo

libero-demo: libero
	$(BIN)/video2act demo --name libero --out runs/libero

demo-three-tasks: install opengl
	$(BIN)/video2act demo --name three_tasks --out runs/three_tasks

# one worker more than cores: tests also wait, for processes and servers
WORKERS ?= $$(n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n + 1 : 4)))
test: dev opengl
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test-slow: dev opengl
	$(BIN)/python -m pytest -q -m slow

# needs python3.11 and python3.12; VIRTUAL_ENVS may lie on another disk. A version that the index does not serve is left out
VIRTUAL_ENVS ?= .interop
LEROBOTS ?= 0.4.4 0.6.1 0.7.0
test-interop:
	scripts/interop_venvs.sh $(VIRTUAL_ENVS) $(LEROBOTS)
	set -e; for version in $(LEROBOTS); do \
		venv=$(abspath $(VIRTUAL_ENVS))/lerobot-$$version; [ -f $$venv/complete ] || continue; \
		export PYTHONPATH=src HF_HUB_OFFLINE=1 LD_LIBRARY_PATH=$$(echo $$venv/ffmpeg:$$venv/lib/python3*/site-packages/av.libs); \
		for part in exchange edited plugin rollout metaworld baselines worked_example; do \
			$$venv/bin/python tests/interop/lerobot_$$part.py runs/interop/$$part-$$version; \
		done; \
	done

baselines-venv:
	scripts/interop_venvs.sh $(VIRTUAL_ENVS) 0.6.1

mikasa-venv:
	scripts/mikasa_venv.sh .mikasa

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
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
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
	$(PIP) -e '.[sim,serve,study]'
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
	@ldconfig -p | grep -q libEGL.so.1 && ldconfig -p | grep -q libOSMesa.so || \
		sh scripts/install_packages.sh "MuJoCo needs EGL" libegl1 libgl1-mesa-dri libosmesa6

# in which a test opens a report's page; without one it is skipped
browser:
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do \
		command -v $$name >/dev/null && exit 0; \
	done; sh scripts/install_packages.sh "The test of a report's page needs Chromium" chromium

clean:
	rm -rf .venv site build dist
