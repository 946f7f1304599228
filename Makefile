# Two environments: .venv runs bundles and has no PyTorch; .venv-dev trains, exports and tests.

PYTHON ?= python3
PIP_FLAGS ?=
CONFIG ?= configs/mnad_prediction-lite.toml
DATA ?=
RUN ?= runs/train
OUT ?=
# make bundle writes a new one, not over the one in use.
new_bundle := $(or $(BUNDLE),bundle)
BUNDLE ?= $(or $(EDGE_BUNDLE),bundle)
EPOCHS ?=
DEVICE ?= auto
RESUME ?=
FROM ?=
CHECKPOINT ?=
ITEMS ?=
FPS ?=
FALSE_ALARMS_PER_HOUR ?= 1
PYTEST_FLAGS ?=
# Half of the processes begin with tests that wait for cameras and brokers; the others keep two cores busy meanwhile.
TEST_PROCESSES ?= 4
DEMO_SEEDS := synthetic:?clips=5&seed=0&frames=400
BENCH_FLAGS ?=
BUNDLE_FLAGS ?=
PRECISION ?= fp16
REBUILD ?=
FORCE ?=
INT8_MODE ?= qdq
ENGINE_FLAGS ?=
CALIBRATE_FLAGS ?=
METHOD ?= entropy
CLIPS ?= 256
INT8_FLAGS ?=
BUNDLES ?=
COMPARE_FLAGS ?=
GPU_CHECK_FLAGS ?=

# A misspelt variable would be as good as none. Under another make, which hands down its own as well, it may not be meant for this one.
variables := PYTHON PIP_FLAGS CONFIG DATA RUN OUT BUNDLE EPOCHS DEVICE RESUME FROM CHECKPOINT ITEMS FPS FALSE_ALARMS_PER_HOUR PYTEST_FLAGS TEST_PROCESSES BENCH_FLAGS \
  BUNDLE_FLAGS PRECISION REBUILD FORCE INT8_MODE ENGINE_FLAGS CALIBRATE_FLAGS METHOD CLIPS INT8_FLAGS BUNDLES COMPARE_FLAGS GPU_CHECK_FLAGS JETSON
environment := EDGE_% PED2_DIR FOOTAGE_DIR OUTAGE_S GPU_CHECK_BUNDLE CUDA_HOME
of_make := MAKE% GNUMAKEFLAGS MFLAGS SHELL .% V AR AS CC CXX LD CFLAGS CXXFLAGS CPPFLAGS LDFLAGS LDLIBS
given := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
unknown := $(filter-out $(variables) run_bin dev_bin $(environment) $(of_make),$(given))
ifneq ($(unknown),)
unknown_names := $(unknown): expected one of $(sort $(variables)). What is for the environment goes before make
$(if $(filter-out 0,$(MAKELEVEL)),$(warning warning: $(unknown_names)),$(error $(unknown_names)))
endif

# Empty where a switch is off.
switches := RESUME REBUILD FORCE
is_on = $(if $(filter 1 yes true,$($1)),yes,$(if $(filter-out 0 no false,$($1)),$(error $1: expected 1, yes or true, or 0, no or false, got $($1))))
checked := $(foreach name,$(filter $(switches),$(given)),$(call is_on,$(name)))

# On a Jetson, NumPy, OpenCV and TensorRT are JetPack's: .venv sees them, and pip may not put others over them.
JETSON ?= $(wildcard /etc/nv_tegra_release)
ifneq ($(JETSON),)
venv_flags := --system-site-packages
run_packages := -e '.[video,report,alerts]' onnxruntime -c jetson-constraints.txt
# pycuda is compiled against JetPack's CUDA, which is not on PATH. Where that fails, the rest is there, and edge-doctor says what is missing.
install_pycuda = PATH="$$PATH:/usr/local/cuda/bin" $(run_bin)/pip install -q $(PIP_FLAGS) \
  --disable-pip-version-check -e '.[cuda]' -c jetson-constraints.txt || echo 'pycuda was not built: nothing will run on the GPU' >&2
say_what_is_there := .venv/bin/edge-doctor --bundle bundles/synthetic-lite || true
else
venv_flags :=
run_packages := -e '.[cpu,video,report,alerts]'
install_pycuda := true
say_what_is_there := true
endif

run_bin := .venv/bin
dev_bin := .venv-dev/bin

.PHONY: bundle-is-there help demo train bundle import-mnad calibrate calibrate-int8 compare engine gpu-check check test test-fast bench wheel clean

help:
	@echo "make demo                            score the built-in scene with the shipped bundle, into runs/demo"
	@echo "make train CONFIG= DATA= OUT=        train on normal footage (EPOCHS=, DEVICE=auto|cpu|cuda, RESUME=1, FROM=another run)"
	@echo "make bundle RUN= OUT=                split, export, check and calibrate a run"
	@echo "make import-mnad CHECKPOINT= ITEMS= DATA= OUT=   a bundle from a checkpoint of the public MNAD code (FPS= of folders of images)"
	@echo "make calibrate BUNDLE= DATA=         gate, scale and threshold anew, from normal footage of this camera"
	@echo "make calibrate-int8 BUNDLE= DATA=    int8 graphs from normal footage (METHOD=entropy|percentile|minmax, CLIPS=256 windows)"
	@echo "make compare BUNDLES= DATA=          which bundle tells anomalies best, from normal footage alone"
	@echo "make engine BUNDLE= PRECISION=       TensorRT engines, on the device that runs them (REBUILD=1, FORCE=1, INT8_MODE=, DATA=)"
	@echo "make test                            every check and test"
	@echo "make test-fast                       while working: what needs no waiting, no training and no apt package (PYTEST_FLAGS='-k gate')"
	@echo "make bench                           benchmarks/results/*.json"
	@echo "make gpu-check                       hardware tests and benchmark on this machine's GPU, with what is installed; under 9 minutes"

.venv/ready: pyproject.toml jetson-constraints.txt
	$(PYTHON) -m venv $(venv_flags) .venv
	$(run_bin)/pip install -q $(PIP_FLAGS) --disable-pip-version-check $(run_packages)
	@$(install_pycuda)
	@$(say_what_is_there)
	touch $@

# Without a GPU it is TensorRT-RTX that builds engines, so that is what comes to a machine that has no TensorRT and is no Jetson.
# That none is there is no error then; where it stays one, the builder says so.
.venv/tensorrt: .venv/ready
	@$(run_bin)/python -m export.engine.which_tensorrt 2>/dev/null || test -n '$(JETSON)' || { echo 'installing TensorRT-RTX (95 MB)'; \
	  $(run_bin)/pip install -q $(PIP_FLAGS) --disable-pip-version-check tensorrt-rtx-cu13; }
	@touch $@

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
	$(dev_bin)/python -m train --config '$(CONFIG)' --data '$(DATA)' --out '$(or $(OUT),$(RUN))' --device '$(DEVICE)' $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(FROM),--from '$(FROM)') $(if $(call is_on,RESUME),--resume)

bundle: .venv-dev/ready
	$(dev_bin)/python -m export --run '$(RUN)' --out '$(or $(OUT),$(new_bundle))' --false-alarms-per-hour $(FALSE_ALARMS_PER_HOUR) $(BUNDLE_FLAGS)

import-mnad: .venv-dev/ready
	@test -n "$(CHECKPOINT)" -a -n "$(ITEMS)" -a -n "$(DATA)" || { echo 'error: make import-mnad: expected CHECKPOINT=, ITEMS= and DATA=, normal footage to calibrate on. Example: make import-mnad CHECKPOINT=model.pth ITEMS=keys.pt DATA=footage/gate OUT=bundles/gate' >&2; exit 2; }
	$(dev_bin)/python -m export.import_mnad --checkpoint '$(CHECKPOINT)' --items '$(ITEMS)' --data '$(DATA)' --out '$(or $(OUT),$(new_bundle))' $(if $(FPS),--fps $(FPS)) --false-alarms-per-hour $(FALSE_ALARMS_PER_HOUR)

calibrate: .venv/ready
	@test -n "$(DATA)" || { echo 'error: make calibrate: expected DATA=, normal footage of this camera. Example: make calibrate DATA=footage/gate-today' >&2; exit 2; }
	$(run_bin)/python -m calibration --bundle '$(BUNDLE)' --data '$(DATA)' --false-alarms-per-hour $(FALSE_ALARMS_PER_HOUR) $(CALIBRATE_FLAGS)

# The runtime needs no onnx, and on a device few need it at all.
.venv/int8: .venv/ready
	@$(run_bin)/python -c 'import onnx' 2>/dev/null || { echo 'installing onnx (20 MB)'; \
	  $(run_bin)/pip install -q $(PIP_FLAGS) --disable-pip-version-check 'onnx>=1.17' $(if $(JETSON),-c jetson-constraints.txt); }
	@touch $@

calibrate-int8: .venv/int8
	@test -n "$(DATA)" || { echo 'error: make calibrate-int8: expected DATA=, normal footage of this camera. Example: make calibrate-int8 DATA=footage/gate-today' >&2; exit 2; }
	$(run_bin)/python -m calibration.int8 --bundle '$(BUNDLE)' --data '$(DATA)' --method '$(METHOD)' --windows '$(CLIPS)' $(if $(OUT),--out '$(OUT)') $(INT8_FLAGS)

compare: .venv/ready
	@test -n "$(BUNDLES)" -a -n "$(DATA)" || { echo "error: make compare: expected BUNDLES= and DATA=, normal footage that none was trained on. Example: make compare BUNDLES='bundles/gate bundles/gate-large' DATA=footage/gate-new" >&2; exit 2; }
	$(run_bin)/python -m calibration.compare $(BUNDLES) --data '$(DATA)' $(COMPARE_FLAGS)

engine: bundle-is-there .venv/tensorrt
	$(run_bin)/python -m export.engine --bundle '$(BUNDLE)' --precision '$(PRECISION)' --int8-mode '$(INT8_MODE)' \
	  $(if $(DATA),--data '$(DATA)') $(if $(call is_on,REBUILD),--rebuild) $(if $(call is_on,FORCE),--force) $(ENGINE_FLAGS)

# Said before anything is installed.
bundle-is-there:
	@test -f '$(BUNDLE)/manifest.json' || { echo "error: $(BUNDLE): expected a bundle (a folder with manifest.json), found none. Make one (make bundle), or say which: make engine BUNDLE=bundles/ped2-lite" >&2; exit 1; }

check: .venv-dev/ready
	$(dev_bin)/ruff check .
	$(dev_bin)/ruff format --check .
	$(dev_bin)/mypy
	$(dev_bin)/lint-imports

# Hundreds of processes load the same modules: their bytecode is kept, whatever the shell says.
test test-fast: export PYTHONDONTWRITEBYTECODE =
test: check
	$(dev_bin)/python -m pytest -n $(TEST_PROCESSES) --dist worksteal $(PYTEST_FLAGS)

# None of them waits, so a process a core is enough.
test-fast: .venv-dev/ready
	$(dev_bin)/python -m pytest -n auto --dist worksteal -m fast $(PYTEST_FLAGS)

bench: .venv-dev/ready
	$(dev_bin)/python -m benchmarks $(BENCH_FLAGS)

# It stands on machines without a network: nothing is installed. A .venv that is there is taken, else PYTHON as it is.
gpu-check:
	$(if $(wildcard .venv/ready),$(run_bin)/python,$(PYTHON)) -m benchmarks.gpu_check $(GPU_CHECK_FLAGS)

wheel: .venv-dev/ready
	$(dev_bin)/pip wheel -q $(PIP_FLAGS) --no-deps -w dist .

clean:
	rm -rf .venv .venv-dev dist
