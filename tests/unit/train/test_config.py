from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from tests.kit.wording import raises
from train.config import TrainConfig, check_config, config_values, load_config, parse_config
from train.mnad import LossConfig, MemoryConfig, MnadSections

SHIPPED = sorted(Path("configs").glob("*.toml"))
MODELS = ("mnad_prediction", "mnad_reconstruction", "multi_scale")
MINIMAL = 'name = "gate"\n[input]\nframes = 4\ntarget = 4\nchannels = 1\nheight = 32\nwidth = 32\n'
RECONSTRUCTION = MINIMAL.replace("frames = 4\ntarget = 4", "frames = 1\ntarget = 0") + '[model]\nname = "mnad_reconstruction"\n'
MULTI_SCALE = MINIMAL + '[model]\nname = "multi_scale"\n'


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_and_is_named_like_its_file(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_the_shipped_configurations_are_full_and_lite_of_both_variants_and_one_without_memory() -> None:
    configs = {path.stem: load_config(path) for path in SHIPPED}
    full, lite = configs["mnad_prediction-full"], configs["mnad_prediction-lite"]
    assert (full.sections.model.width, full.input) == (64, InputSpec(frames=4, target=4, channels=3, height=256, width=256))
    assert (lite.sections.model.width, lite.input) == (16, InputSpec(frames=4, target=6, channels=1, height=128, width=192))
    for path, side in (("mnad_reconstruction-full", (256, 256)), ("mnad_reconstruction-lite", (96, 144))):
        config = configs[path]
        assert (config.model, config.input.frames, config.input.target) == ("mnad_reconstruction", 1, 0)
        assert (config.input.height, config.input.width) == side
        assert (config.sections.loss.compactness_weight, config.sections.loss.separateness_weight) == (0.01, 0.01)
    assert configs["mnad_prediction-lite-no_memory"].sections.memory.items == 0


def test_what_a_file_leaves_out_has_the_defaults(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, MINIMAL))
    spec = InputSpec(frames=4, target=4, channels=1, height=32, width=32)
    assert config == TrainConfig(name="gate", input=spec, model="mnad_prediction", sections=MnadSections())
    assert (config.sections.memory, config.sections.loss) == (MemoryConfig(10, "all"), LossConfig("squared", 0.1, 0.1, 1.0))
    assert config.optimiser.precision == "fp32"
    assert config.pseudo_anomalies.share == 0


@pytest.mark.parametrize(
    ("content", "key", "valid"),
    [
        ("sede = 1\n" + MINIMAL, "'sede'", "data, input, loss, memory, model, name, optimiser, pseudo_anomalies, seed"),
        (MINIMAL + "depth = 8\n", "'input.depth'", "channels, frames, height, target, width"),
        (MINIMAL + "[model]\nlayers = 4\n", "'model.layers'", "name, width"),
        (MINIMAL + "[memory]\nslots = 4\n", "'memory.slots'", "items, write_scale"),
        (MINIMAL + "[loss]\nweight = 4\n", "'loss.weight'", "compactness, compactness_weight, margin, separateness_weight"),
        (MINIMAL + "[optimiser]\nlr = 0.1\n", "'optimiser.lr'", "batch_size, epochs, learning_rate, precision"),
        (MINIMAL + "[data]\nrate = 0.1\n", "'data.rate'", "fps, held_out_share"),
        (MINIMAL + "[pseudo_anomalies]\nspeed = 2\n", "'pseudo_anomalies.speed'", "box_share, share, speeds"),
        (RECONSTRUCTION + "layers = 4\n", "'model.layers'", "name, width"),
        (MULTI_SCALE + "layers = 4\n", "'model.layers'", "deepest, name, pools, read, skips, width"),
        (RECONSTRUCTION + "pools = [4]\n", "'model.pools'", "name, width"),  # another model's
        ("sections = 1\n" + MINIMAL, "'sections'", "data, input, loss, memory, model, name, optimiser, pseudo_anomalies, seed"),
    ],
)
def test_an_unknown_key_lists_the_valid_ones(tmp_path: Path, content: str, key: str, valid: str) -> None:
    with raises(ConfigError, "config.toml", key, valid):
        load_config(_written(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (MINIMAL + '[model]\nwidth = "wide"\n', "`int` … `str` … `$.model.width`"),
        (RECONSTRUCTION + 'width = "wide"\n', "`int` … `str` … `$.model.width`"),
        (MINIMAL + "[optimiser]\nepochs = 2.5\n", "`int` … `$.optimiser.epochs`"),
        (MINIMAL + '[optimiser]\nprecision = "fp16"\n', "'fp16' … `$.optimiser.precision`"),
        (MINIMAL + '[memory]\nwrite_scale = "some"\n', "'some' … `$.memory.write_scale`"),
        (MINIMAL + '[loss]\ncompactness = "cubed"\n', "'cubed' … `$.loss.compactness`"),
        ("model = 3\n" + MINIMAL, "`object` … `int` … `$.model`"),
        ('name = "gate"\n', "`input`"),
    ],
)
def test_a_wrong_type_names_the_key(tmp_path: Path, content: str, names: str) -> None:
    path = _written(tmp_path, content)
    with raises(ConfigError, str(path), names):
        load_config(path)


@pytest.mark.parametrize("name", ['"mnad"', '""', "3", '["mnad_prediction"]'])
def test_an_unknown_model_lists_those_that_there_are(tmp_path: Path, name: str) -> None:
    with raises(ConfigError, "config.toml", "model.name", *MODELS, name.replace('"', "'")):
        load_config(_written(tmp_path, MINIMAL + f"[model]\nname = {name}\n"))


def test_sections_of_the_reconstruction_are_its_own(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, RECONSTRUCTION + "width = 4\n[memory]\nitems = 6\n[loss]\nmargin = 0.5\n"))
    assert config.model == "mnad_reconstruction"
    assert (config.sections.model.width, config.sections.memory.items, config.sections.loss.margin) == (4, 6, 0.5)
    with raises(ConfigError, "config.toml", "memory.items", "0 … 2 … 65536 … 1"):
        load_config(_written(tmp_path, RECONSTRUCTION + "[memory]\nitems = 1\n"))


@pytest.mark.parametrize("content", [MINIMAL, RECONSTRUCTION + "width = 4\n", MULTI_SCALE + "pools = [3, 4]\n"])
def test_a_configuration_as_plain_values_is_read_back_as_it_was(tmp_path: Path, content: str) -> None:
    config = load_config(_written(tmp_path, content + '[optimiser]\nprecision = "auto"\n'))
    values = json.loads(json.dumps(config_values(config)))
    assert parse_config(values, "run.json") == config
    assert list(values) == ["name", "input", "model", "memory", "loss", "optimiser", "data", "pseudo_anomalies", "seed"]
    assert values["model"]["name"] == config.model


def test_what_a_model_asks_for_is_checked_again_when_a_value_is_changed(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, MINIMAL))
    with raises(ConfigError, "gate … input.height … 8 … 36"):
        check_config(replace(config, input=replace(config.input, height=36)), "gate")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (MINIMAL.replace("channels = 1", "channels = 2"), "input.channels … 1 … 3 … 2"),
        (MINIMAL.replace("frames = 4", "frames = 0"), "input.frames … 1 … 0"),
        (MINIMAL.replace("target = 4", "target = -1"), "input.target … 0 … -1"),
        (MINIMAL.replace("height = 32", "height = 36"), "input.height … 8 … 36"),
        (MINIMAL.replace("width = 32", "width = 0"), "input.width … 1 … 8192 … 0"),
        (MINIMAL + "[model]\nwidth = 0\n", "model.width … 1 … 1024 … 0"),
        (MINIMAL + "[memory]\nitems = 1\n", "memory.items … 0 … 2 … 65536 … 1"),
        (MINIMAL + "[loss]\nmargin = -1.0\n", "loss.margin … 0 … -1.0"),
        (MINIMAL + "[loss]\ncompactness_weight = nan\n", "loss.compactness_weight … 0 … nan"),
        (MINIMAL + "[loss]\nseparateness_weight = -0.1\n", "loss.separateness_weight … 0 … -0.1"),
        (MINIMAL + "[optimiser]\nepochs = 0\n", "optimiser.epochs … 1 … 0"),
        (MINIMAL + "[optimiser]\nbatch_size = 1\n", "optimiser.batch_size … 2 … 1"),
        (MINIMAL + "[optimiser]\nlearning_rate = 0.0\n", "optimiser.learning_rate … 0 … 0.0"),
        (MINIMAL + "[optimiser]\nlearning_rate = inf\n", "optimiser.learning_rate … 0 … inf"),
        (MINIMAL + "[loss]\nmargin = inf\n", "loss.margin … 0 … inf"),
        (MINIMAL + "[data]\nheld_out_share = 1.0\n", "data.held_out_share … 0 … 1 … 1.0"),
        (MINIMAL + "[data]\nfps = 0.0\n", "data.fps … 0 … 0.0"),
        (MINIMAL + "[pseudo_anomalies]\nshare = 1.1\n", "pseudo_anomalies.share … 0 … 1 … 1.1"),
        (MINIMAL + "[pseudo_anomalies]\nbox_share = -1.0\n", "pseudo_anomalies.box_share … 0 … 1 … -1.0"),
        (MINIMAL + "[pseudo_anomalies]\nspeeds = [1, 2]\n", "pseudo_anomalies.speeds … 2 … [1, 2]"),
        (MINIMAL + "[pseudo_anomalies]\nspeeds = []\n", "pseudo_anomalies.speeds … 2 … []"),
        (
            MINIMAL.replace("frames = 4", "frames = 1") + "[pseudo_anomalies]\nshare = 0.5\n",
            "pseudo_anomalies.share … 0 … input.frames … 1 … 0.5",
        ),
        ("seed = -1\n" + MINIMAL, "seed … 0 … 2^63 … -1"),
        (f"seed = {2**64}\n" + MINIMAL, f"seed … 0 … 2^63 … {2**64}"),
        (MINIMAL.replace("height = 32", "height = 800000000000"), "input.height … 8192 … 800000000000"),
        (MINIMAL.replace("width = 32", "width = 8200"), "input.width … 8192 … 8200"),
        (MINIMAL + "[model]\nwidth = 1000000\n", "model.width … 1 … 1024 … 1000000"),
        (MINIMAL + "[memory]\nitems = 1000000000\n", "memory.items … 0 … 2 … 65536 … 1000000000"),
    ],
)
def test_a_value_out_of_range_says_what_was_expected(tmp_path: Path, content: str, names: str) -> None:
    with raises(ConfigError, "config.toml", names):
        load_config(_written(tmp_path, content))


def test_a_missing_file_points_to_the_shipped_ones(tmp_path: Path) -> None:
    with raises(ConfigError, "none.toml … No such file or directory … configs/"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with raises(ConfigError, str(tmp_path), "Is a directory"):
        load_config(tmp_path)


@pytest.mark.parametrize("content", [b"name = ", b"name = 'gate'\nname = 'yard'", b"\xff\xfe\x00"])
def test_malformed_toml_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with raises(ConfigError, "config.toml … TOML"):
        load_config(path)


def _written(folder: Path, content: str) -> Path:
    path = folder / "config.toml"
    path.write_text(content, encoding="utf-8")
    return path
