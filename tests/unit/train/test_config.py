from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.preprocess import InputSpec
from train.config import LossConfig, MemoryConfig, TrainConfig, load_config

SHIPPED = sorted(Path("configs").glob("*.toml"))
MINIMAL = 'name = "gate"\n[input]\nframes = 4\ntarget = 4\nchannels = 1\nheight = 32\nwidth = 32\n'


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_loads_and_is_named_like_its_file(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_the_shipped_configurations_are_the_full_model_the_lite_one_and_one_without_memory() -> None:
    configs = {path.stem: load_config(path) for path in SHIPPED}
    full, lite = configs["mnad_prediction-full"], configs["mnad_prediction-lite"]
    assert (full.model.width, full.input) == (64, InputSpec(frames=4, target=4, channels=3, height=256, width=256))
    assert (lite.model.width, lite.input) == (16, InputSpec(frames=4, target=6, channels=1, height=128, width=192))
    assert configs["mnad_prediction-lite-no_memory"].memory.items == 0


def test_what_a_file_leaves_out_has_the_defaults(tmp_path: Path) -> None:
    config = load_config(_written(tmp_path, MINIMAL))
    assert config == TrainConfig(name="gate", input=InputSpec(frames=4, target=4, channels=1, height=32, width=32))
    assert (config.memory, config.loss) == (MemoryConfig(10, "all"), LossConfig("squared", 0.1, 0.1, 1.0))
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
    ],
)
def test_an_unknown_key_lists_the_valid_ones(tmp_path: Path, content: str, key: str, valid: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(_written(tmp_path, content))
    assert str(caught.value).endswith(f"unknown key {key}. Valid here: {valid}.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MINIMAL + '[model]\nwidth = "wide"\n', r"Expected `int`, got `str` - at `\$.model.width`"),
        (MINIMAL + "[optimiser]\nepochs = 2.5\n", r"Expected `int`.*at `\$.optimiser.epochs`"),
        (MINIMAL + '[memory]\nwrite_scale = "some"\n', r"Invalid enum value 'some' - at `\$.memory.write_scale`"),
        (MINIMAL + '[loss]\ncompactness = "cubed"\n', r"Invalid enum value 'cubed' - at `\$.loss.compactness`"),
        ("model = 3\n" + MINIMAL, r"Expected `object`, got `int` - at `\$.model`"),
        ('name = "gate"\n', "missing required field `input`"),
    ],
)
def test_a_wrong_type_names_the_key(tmp_path: Path, content: str, message: str) -> None:
    path = _written(tmp_path, content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MINIMAL.replace("channels = 1", "channels = 2"), "input.channels: expected 1 or 3, got 2"),
        (MINIMAL.replace("frames = 4", "frames = 0"), "input.frames: expected 1 or more, got 0"),
        (MINIMAL.replace("target = 4", "target = -1"), "input.target: expected 0 or more, got -1"),
        (MINIMAL.replace("height = 32", "height = 36"), "input.height: expected a multiple of 8, 8192 at most, got 36"),
        (MINIMAL.replace("width = 32", "width = 0"), "input.width: expected a multiple of 8, 8192 at most, got 0"),
        (MINIMAL + "[model]\nwidth = 0\n", "model.width: expected 1 to 1024, got 0"),
        (MINIMAL + "[memory]\nitems = 1\n", "memory.items: expected 0, or 2 to 65536, got 1"),
        (MINIMAL + "[loss]\nmargin = -1.0\n", "loss.margin: expected 0 or more, got -1.0"),
        (MINIMAL + "[loss]\ncompactness_weight = nan\n", "loss.compactness_weight: expected 0 or more, got nan"),
        (MINIMAL + "[loss]\nseparateness_weight = -0.1\n", "loss.separateness_weight: expected 0 or more, got -0.1"),
        (MINIMAL + "[optimiser]\nepochs = 0\n", "optimiser.epochs: expected 1 or more, got 0"),
        (MINIMAL + "[optimiser]\nbatch_size = 1\n", "optimiser.batch_size: expected 2 or more"),
        (MINIMAL + "[optimiser]\nlearning_rate = 0.0\n", "optimiser.learning_rate: expected more than 0, got 0.0"),
        (MINIMAL + "[optimiser]\nlearning_rate = inf\n", "optimiser.learning_rate: expected more than 0, got inf"),
        (MINIMAL + "[loss]\nmargin = inf\n", "loss.margin: expected 0 or more, got inf"),
        (MINIMAL + "[data]\nheld_out_share = 1.0\n", "data.held_out_share: expected between 0 and 1, got 1.0"),
        (MINIMAL + "[data]\nfps = 0.0\n", "data.fps: expected more than 0, got 0.0"),
        (MINIMAL + "[pseudo_anomalies]\nshare = 1.1\n", "pseudo_anomalies.share: expected between 0 and 1, got 1.1"),
        (MINIMAL + "[pseudo_anomalies]\nbox_share = -1.0\n", "pseudo_anomalies.box_share: expected between 0 and 1, got -1.0"),
        (MINIMAL + "[pseudo_anomalies]\nspeeds = [1, 2]\n", r"pseudo_anomalies.speeds: expected whole numbers from 2 on, got \[1, 2\]"),
        (MINIMAL + "[pseudo_anomalies]\nspeeds = []\n", r"pseudo_anomalies.speeds: expected whole numbers from 2 on, got \[\]"),
        (
            MINIMAL.replace("frames = 4", "frames = 1") + "[pseudo_anomalies]\nshare = 0.5\n",
            "pseudo_anomalies.share: expected 0 where input.frames is 1: one frame has no speed, got 0.5",
        ),
        ("seed = -1\n" + MINIMAL, "seed: expected 0 or more, below 2\\^63, got -1"),
        (f"seed = {2**64}\n" + MINIMAL, f"seed: expected 0 or more, below 2\\^63, got {2**64}"),
        (MINIMAL.replace("height = 32", "height = 800000000000"), "input.height: expected a multiple of 8, 8192 at most, got 800000000000"),
        (MINIMAL.replace("width = 32", "width = 8200"), "input.width: expected a multiple of 8, 8192 at most, got 8200"),
        (MINIMAL + "[model]\nwidth = 1000000\n", "model.width: expected 1 to 1024, got 1000000"),
        (MINIMAL + "[memory]\nitems = 1000000000\n", "memory.items: expected 0, or 2 to 65536, got 1000000000"),
    ],
)
def test_a_value_out_of_range_says_what_was_expected(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(_written(tmp_path, content))


def test_a_missing_file_points_to_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: expected a configuration, got 'No such file.*configs/"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a configuration, got 'Is a directory'"):
        load_config(tmp_path)


@pytest.mark.parametrize("content", [b"name = ", b"name = 'gate'\nname = 'yard'", b"\xff\xfe\x00"])
def test_malformed_toml_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"config\.toml: expected TOML, got: "):
        load_config(path)


def _written(folder: Path, content: str) -> Path:
    path = folder / "config.toml"
    path.write_text(content, encoding="utf-8")
    return path
