# Two environments: .venv runs bundles and has no PyTorch; .venv-dev trains, exports and tests.

PYTHON ?= python3
PIP_FLAGS ?=
CONFIG ?= configs/mnad_prediction-lite.toml
DATA ?=
RUN ?= runs/train
OUT ?=
BUNDLE ?= bundle
EPOCHS ?=
RESUME ?=
FALSE_ALARMS_PER_HOUR ?= 1
PYTEST_FLAGS ?=
# Many tests wait for cameras and brokers; three processes keep two cores busy.
TEST_PROCESSES ?= 3
DEMO_SEEDS := synthetic:?clips=5&seed=0&frames=400
BENCH_FLAGS ?=
BUNDLE_FLAGS ?=
CALIBRATE_FLAGS ?=

run_bin := .venv/bin
dev_bin := .venv-dev/bin

.PHONY: help demo train bundle calibrate check test bench wheel clean

help:
	@echo "make demo                            score the built-in scene with the shipped bundle, into runs/demo"
	@echo "make train CONFIG= DATA= OUT=        train on normal footage (EPOCHS=, RESUME=1)"
	@echo "make bundle RUN= OUT=                split, export, check and calibrate a run"
	@echo "make calibrate BUNDLE= DATA=         gate, scale and threshold anew, from normal footage of this camera"
	@echo "make test                            every check and test"
	@echo "make bench                           benchmarks/results/*.json"

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(run_bin)/pip install -q $(PIP_FLAGS) --disable-pip-version-check -e '.[cpu,video,report,alerts]'
	touch $@

.venv-dev/ready: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	$(dev_bin)/pip install -q $(PIP_FLAGS) --disable-pip-version-check --upgrade 'pip>=25.1'
	$(dev_bin)/pip install -q $(PIP_FLAGS) --disable-pip-version-check -e '.[cpu,video,report,alerts]' --group train --group dev
	touch $@

demo: .venv/ready
	$(run_bin)/edge-run --bundle bundles/synthetic-lite --source 'synthetic:?seed=0&frames=400' --save-video --timeline --out runs/demo
	$(run_bin)/edge-report events --bundle bundles/synthetic-lite --source '$(DEMO_SEEDS)' --out runs/demo

train: .venv-dev/ready
	@test -n "$(DATA)" || { echo 'error: make train: expected DATA=, a folder with clips of normal footage. Example: make train DATA=footage/gate' >&2; exit 2; }
	$(dev_bin)/python -m train --config '$(CONFIG)' --data '$(DATA)' --out '$(or $(OUT),$(RUN))' $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(RESUME),--resume)

bundle: .venv-dev/ready
	$(dev_bin)/python -m export --run '$(RUN)' --out '$(or $(OUT),$(BUNDLE))' --false-alarms-per-hour $(FALSE_ALARMS_PER_HOUR) $(BUNDLE_FLAGS)

calibrate: .venv/ready
	@test -n "$(DATA)" || { echo 'error: make calibrate: expected DATA=, normal footage of this camera. Example: make calibrate DATA=footage/gate-today' >&2; exit 2; }
	$(run_bin)/python -m calibration --bundle '$(BUNDLE)' --data '$(DATA)' --false-alarms-per-hour $(FALSE_ALARMS_PER_HOUR) $(CALIBRATE_FLAGS)

check: .venv-dev/ready
	$(dev_bin)/ruff check .
	$(dev_bin)/ruff format --check .
	$(dev_bin)/mypy
	$(dev_bin)/lint-imports

test: check
	$(dev_bin)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(PYTEST_FLAGS)

bench: .venv-dev/ready
	$(dev_bin)/python -m benchmarks $(BENCH_FLAGS)

wheel: .venv-dev/ready
	$(dev_bin)/pip wheel -q $(PIP_FLAGS) --no-deps -w dist .

clean:
	rm -rf .venv .venv-dev dist
