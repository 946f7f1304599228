from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from tests.kit.wording import missing, raises
from train.config import TrainConfig, config_values, load_config, parse_config
from train.mnad import LossConfig, MemoryConfig, MnadSections

SHIPPED = sorted(Path("configs").glob("*.toml"))
MINIMAL = 'name = "gate"\n[input]\nframes = 4\ntarget = 4\nchannels = 1\nheight = 32\nwidth = 32\n'
RECONSTRUCTION = '[model]\nname = "mnad_reconstruction"\n'


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_and_is_named_like_its_file(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_the_shipped_configurations_are_the_full_model_the_lite_one_and_one_without_memory() -> None:
    configs = {path.stem: load_config(path) for path in SHIPPED}
    full, lite = configs["mnad_prediction-full"], configs["mnad_prediction-lite"]
    assert (full.sections.model.width, full.input) == (64, InputSpec(frames=4, target=4, channels=3, height=256, width=256))
    assert (lite.sections.model.width, lite.input) == (16, InputSpec(frames=4, target=6, channels=1, height=128, width=192))
    assert configs["mnad_prediction-lite-no_memory"].sections.memory.items == 0


def test_what_a_file_leaves_out_has_the_defaults(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, MINIMAL))
    spec = InputSpec(frames=4, target=4, channels=1, height=32, width=32)
    assert config == TrainConfig("gate", spec, "mnad_prediction", MnadSections())
    assert (config.sections.memory, config.sections.loss) == (MemoryConfig(10, "all"), LossConfig("squared", 0.1, 0.1, 1.0))
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
        (
            MINIMAL + RECONSTRUCTION + "[loss]\nentropy = 4\n",
            "'loss.entropy'",
            "compactness, compactness_weight, margin, separateness_weight",
        ),
        (MINIMAL + '[model]\nname = "multi_scale"\nlayers = 4\n', "'model.layers'", "deepest, name, pools, read, skips, width"),
        (MINIMAL + "[pseudo_anomalies]\nspeed = 2\n", "'pseudo_anomalies.speed'", "box_share, share, speeds"),
    ],
)
def test_an_unknown_key_lists_the_valid_ones(tmp_path: Path, content: str, key: str, valid: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(_written(tmp_path, content))
    assert not missing(str(caught.value), key, valid)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (MINIMAL + '[model]\nwidth = "wide"\n', "`int` … `str` … `$.model.width`"),
        (MINIMAL + "[optimiser]\nepochs = 2.5\n", "`int` … `$.optimiser.epochs`"),
        (MINIMAL + '[memory]\nwrite_scale = "some"\n', "'some' … `$.memory.write_scale`"),
        (MINIMAL + '[loss]\ncompactness = "cubed"\n', "'cubed' … `$.loss.compactness`"),
        ("model = 3\n" + MINIMAL, "`object` … `int` … `$.model`"),
        (MINIMAL + "[model]\nname = 3\n", "model.name … mnad_prediction … 3"),
        ('name = "gate"\n', "`input`"),
    ],
)
def test_a_wrong_type_names_the_key(tmp_path: Path, content: str, names: str) -> None:
    path = _written(tmp_path, content)
    with raises(ConfigError, str(path), names):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (MINIMAL.replace("channels = 1", "channels = 2"), "input.channels … 1 … 3 … 2"),
        (MINIMAL.replace("frames = 4", "frames = 0"), "input.frames … 1 … 0"),
        (MINIMAL.replace("target = 4", "target = -1"), "input.target … 0 … -1"),
        (MINIMAL.replace("height = 32", "height = 36"), "input.height … 8 … 36"),
        (MINIMAL.replace("width = 32", "width = 0"), "input.width … 1 … 0"),
        (MINIMAL + "[model]\nwidth = 0\n", "model.width … 1 … 1024 … 0"),
        (MINIMAL + "[memory]\nitems = 1\n", "memory.items … 2 … 65536 … 1"),
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
            "pseudo_anomalies.share … 0 … input.frames … 0.5",
        ),
        ("seed = -1\n" + MINIMAL, "seed … 0 … 2^63 … -1"),
        (f"seed = {2**64}\n" + MINIMAL, f"seed … 0 … 2^63 … {2**64}"),
        (MINIMAL.replace("height = 32", "height = 800000000000"), "input.height … 8192 … 800000000000"),
        (MINIMAL.replace("width = 32", "width = 8200"), "input.width … 8192 … 8200"),
        (MINIMAL + "[model]\nwidth = 1000000\n", "model.width … 1024 … 1000000"),
        (MINIMAL + "[memory]\nitems = 1000000000\n", "memory.items … 65536 … 1000000000"),
        (MINIMAL + RECONSTRUCTION + "[memory]\nitems = 1\n", "memory.items … 65536 … 1"),
    ],
)
def test_a_value_out_of_range_says_what_was_expected(tmp_path: Path, content: str, names: str) -> None:
    with raises(ConfigError, names):
        load_config(_written(tmp_path, content))


def test_a_missing_file_points_to_the_shipped_ones(tmp_path: Path) -> None:
    with raises(ConfigError, "none.toml … 'No such file or directory' … configs/"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with raises(ConfigError, "'Is a directory'"):
        load_config(tmp_path)


@pytest.mark.parametrize("content", [b"name = ", b"name = 'gate'\nname = 'yard'", b"\xff\xfe\x00"])
def test_malformed_toml_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with raises(ConfigError, "config.toml … TOML"):
        load_config(path)


def test_a_configuration_as_plain_values_is_read_back(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, MINIMAL + RECONSTRUCTION))
    values = config_values(config)
    assert list(values) == ["name", "input", "model", "memory", "loss", "optimiser", "data", "pseudo_anomalies", "seed"]
    assert values["model"] == {"name": "mnad_reconstruction", "width": 64}
    assert parse_config(json.loads(json.dumps(values)), "run.json") == config


def _written(folder: Path, content: str) -> Path:
    path = folder / "config.toml"
    path.write_text(content, encoding="utf-8")
    return path
