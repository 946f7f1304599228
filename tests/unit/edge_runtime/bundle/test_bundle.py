from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from edge_runtime import Bundle
from edge_runtime.bundle.manifest_file import encode_manifest, parse_manifest
from edge_runtime.errors import BundleError, IntegrityError, ManifestError
from tests.kit.wording import missing, raises

Toy = Callable[[str], Bundle]


def values_of(bundle: Bundle) -> dict[str, Any]:
    return json.loads((bundle.path / "manifest.json").read_text())


def at(values: Any, *path: str | int) -> Any:
    for key in path:
        values = values[key]
    return values


def refused(bundle: Bundle, values: Any) -> str:
    """What loading the bundle says with these values for a manifest."""
    (bundle.path / "manifest.json").write_text(json.dumps(values))
    with pytest.raises(ManifestError) as caught:
        Bundle.load(bundle.path)
    message = str(caught.value)
    assert message.startswith(str(bundle.path / "manifest.json"))
    return message


def put_items(bundle: Bundle, items: dict[str, np.ndarray]) -> Bundle:
    """The bundle with another memory file and its right hash."""
    return put_memory(bundle, safetensors.numpy.save(items))


def put_memory(bundle: Bundle, content: bytes) -> Bundle:
    values = values_of(bundle)
    (bundle.path / "memory.safetensors").write_bytes(content)
    values["memory"]["sha256"] = hashlib.sha256(content).hexdigest()
    (bundle.path / "manifest.json").write_text(json.dumps(values))
    return Bundle.load(bundle.path)


# whole bundles


@pytest.mark.parametrize("name", ["one_pool", "two_banks", "three_pools"])
def test_a_manifest_survives_writing_and_reading(name: str, toy: Toy) -> None:
    bundle = toy(name)
    content = encode_manifest(bundle.manifest)
    assert parse_manifest(content, "again") == bundle.manifest
    assert content == (bundle.path / "manifest.json").read_bytes()


def test_the_identity_changes_with_the_manifest(toy: Toy) -> None:
    bundle = toy("one_pool")
    assert Bundle.load(bundle.path) == bundle
    values = values_of(bundle)
    values["gate"]["limit"] = 0.5
    (bundle.path / "manifest.json").write_text(json.dumps(values))
    assert Bundle.load(bundle.path).identity != bundle.identity


def test_the_items_are_those_in_the_file(toy: Toy) -> None:
    bundle = put_items(toy("one_pool"), {"memory": np.eye(3, 16, dtype=np.float32)})
    assert bundle.read_items()["memory"].tolist() == np.eye(3, 16).tolist()


def test_keys_that_this_version_does_not_know_are_passed_over(toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle) | {"from_the_future": 1}
    assert parse_manifest(json.dumps(values).encode(), "manifest") == bundle.manifest


def test_a_precision_that_is_not_there_is_named_with_those_that_are(toy: Toy) -> None:
    with raises(ManifestError, "'int8' … fp32"):
        toy("one_pool").precision("int8")


# the manifest


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with raises(ManifestError, "'No such file or directory' … --bundle"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_not_json_is_refused(content: bytes, toy: Toy) -> None:
    bundle = toy("one_pool")
    (bundle.path / "manifest.json").write_bytes(content)
    with raises(ManifestError, "manifest.json … JSON"):
        Bundle.load(bundle.path)


@pytest.mark.parametrize("values", [[], 7, {}, {"schema": "1"}, {"schema": True}, {"schema": None}])
def test_json_without_a_schema_is_no_manifest(values: Any, toy: Toy) -> None:
    assert not missing(refused(toy("one_pool"), values), "'schema'")


@pytest.mark.parametrize(("schema", "remedy"), [(2, "edge-runtime"), (0, "the bundle")])
def test_another_schema_says_which_side_to_renew(schema: int, remedy: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    assert not missing(refused(bundle, {"schema": schema}), f"schema 1 … {schema} … {remedy}")


@pytest.mark.parametrize(
    "path",
    [
        ("name",),
        ("gate",),
        ("update", "rate"),
        ("pools", 0, "query"),
        ("memory", "sha256"),
        ("precisions", "fp32", "threshold", "score"),
        ("precisions", "fp32", "encoder", "outputs"),
    ],
)
def test_a_missing_key_is_named(path: tuple[str | int, ...], toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    del at(values, *path[:-1])[path[-1]]
    message = refused(bundle, values)
    assert not missing(message, f"`{path[-1]}`")


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (("input", "frames"), "4", "$.input.frames"),
        (("pools",), {}, "$.pools"),
        (("gate", "limit"), None, "$.gate.limit"),
        (("pools", 0, "update"), 3, "$.pools[0].update"),
        (("precisions", "fp32", "score_scale", "knots"), ["a"], "$.precisions[...].score_scale.knots[0]"),
    ],
)
def test_a_wrong_type_is_named_with_its_path(path: tuple[str | int, ...], value: Any, where: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    at(values, *path[:-1])[path[-1]] = value
    message = refused(bundle, values)
    assert "Expected `" in message and "got `" in message and where in message


@pytest.mark.parametrize(
    ("path", "value", "what"),
    [
        (("input", "frames"), 0, "input size … 0"),
        (("input", "channels"), 2, "input.channels 1 or 3 … 2"),
        (("fps",), 0, "fps … 0"),
        (("fps",), float("nan"), "fps … nan"),
        (("gate", "limit"), float("nan"), "gate.limit … nan"),
        (("paper_weight",), 1.5, "paper_weight … [0, 1] … 1.5"),
        (("update", "rate"), 0, "update.rate … (0, 1] … 0"),
        (("update", "drift_limit"), 3, "update.drift_limit … (0, 2] … 3.0"),
        (("update", "write_scale"), "some", "update.write_scale … ('claimed', 'all') … 'some'"),
        (("pools", 0, "addressing"), "hash", "addressing … ('softmax', 'hard_shrink') … 'hash'"),
        (("pools", 0, "update"), "adam", "update … ('mnad', 'ema', 'none') … 'adam'"),
        (("pools", 0, "query"), "query_9", "encoder … pool 'memory' … 'query_9'"),
        (("pools", 0, "read"), "read_9", "decoder inputs … ['read']"),
        (("precisions",), {}, "one precision"),
        (("precisions", "fp32", "threshold", "score"), float("nan"), "precisions.fp32.threshold.score … nan"),
        (("precisions", "fp32", "threshold", "hold_s"), -1, "precisions.fp32.threshold.hold_s … 0 … -1.0"),
        (("precisions", "fp32", "score_scale", "tail"), 0, "tail … 0"),
        (("precisions", "fp32", "score_scale", "quantity"), "colour", "quantity … local_error"),
        (("precisions", "fp32", "encoder", "inputs", 0, "shape"), ["batch", 5, 1, 32, 32], "encoder … 'clip' (4, 1, 32, 32)"),
        (("precisions", "fp32", "decoder", "outputs"), [], "decoder … ['error_map', 'prediction'"),
        (
            ("precisions", "fp32", "decoder", "outputs", 2, "shape"),
            [],
            "decoder 'score/psnr_db' … 1 … ()",
        ),
        (("precisions", "fp32", "decoder", "outputs", 2, "shape"), ["batch", 1], "decoder … 'score/psnr_db' (B, ) … (B, *(1,))"),
        (("precisions", "fp32", "decoder", "outputs", 1, "shape"), ["batch", 3, 32, 32], "'error_map' (B, 1, 32, 32)"),
        (("precisions", "fp32", "encoder", "inputs", 0, "shape", 0), 0, "encoder 'clip' … 1 … (0, 4,"),
        (("precisions", "fp32", "encoder", "outputs", 0, "shape", 1), "batch", "encoder 'query' … 1 … shape"),
        (("precisions", "fp32", "score_scale", "smoothing_frames"), 10**30, "smoothing_frames … 10000"),
        (("input", "target"), 10**9, "input window … 268435456 … 1024000001024"),
        (("memory", "sha256"), "A" * 64, "memory.sha256 … 64"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(path: tuple[str | int, ...], value: Any, what: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    at(values, *path[:-1])[path[-1]] = value
    message = refused(bundle, values)
    assert not missing(message, "expected", what)


def test_a_query_has_the_same_size_in_every_precision(toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    values["precisions"]["fp16"] = json.loads(json.dumps(values["precisions"]["fp32"]))
    values["precisions"]["fp16"]["encoder"]["outputs"][0]["shape"][1] = 8
    assert not missing(refused(bundle, values), "same shape")


@pytest.mark.parametrize("key", ["verdict", "\ud800"])
def test_text_that_cannot_be_written_again_is_refused(key: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    values["precisions"]["fp32"][key] = "half a pair: \ud800"
    assert not missing(refused(bundle, values), "surrogates")


@pytest.mark.parametrize("depth", [900, 970, 980, 985, 990, 995, 1000])
def test_values_nested_to_any_depth_are_taken_or_refused(depth: int, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    values["provenance"] = {"deep": "DEPTH"}
    content = json.dumps(values).replace('"DEPTH"', "[" * depth + "]" * depth)
    (bundle.path / "manifest.json").write_text(content)
    try:
        assert Bundle.load(bundle.path).manifest.name == "one_pool"
    except ManifestError as error:
        assert "recursion" in str(error)  # noqa: PT017  (either is right)


@pytest.mark.parametrize(("key", "what"), [("name", "different names"), ("read", "different reads")])
def test_two_pools_may_not_share_a_name_or_a_read(key: str, what: str, toy: Toy) -> None:
    bundle = toy("three_pools")
    values = values_of(bundle)
    values["pools"][1][key] = values["pools"][0][key]
    assert not missing(refused(bundle, values), what)


def test_a_read_that_the_decoder_does_not_take_is_refused(toy: Toy) -> None:
    bundle = toy("two_banks")
    values = values_of(bundle)
    values["pools"][1]["read"] = "read_anomalous"
    assert not missing(refused(bundle, values), "decoder … ['read_anomalous', 'read_normal']")


def test_a_decoder_input_that_nobody_gives_is_refused(toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    values["precisions"]["fp32"]["decoder"]["inputs"].append({"name": "flow", "dtype": "float32", "shape": ["batch", 2, 32, 32]})
    assert "got ['flow'] besides" in refused(bundle, values)


# the fast form of a precision's graphs


def with_fast(bundle: Bundle) -> dict[str, Any]:
    """The manifest with the graphs of fp32 named once more as its fast ones."""
    values = values_of(bundle)
    fp32 = values["precisions"]["fp32"]
    fp32["fast"] = json.loads(json.dumps({key: fp32[key] for key in ("encoder", "decoder", "parity")}))
    return values


def test_fast_graphs_survive_writing_and_reading(toy: Toy) -> None:
    content = json.dumps(with_fast(toy("two_banks"))).encode()
    manifest = parse_manifest(content, "first")
    fast = manifest.precisions["fp32"].fast
    assert fast is not None and fast.encoder == manifest.precisions["fp32"].encoder
    assert parse_manifest(encode_manifest(manifest), "again") == manifest


def test_a_manifest_without_fast_graphs_does_not_speak_of_them(toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    values["precisions"]["fp32"]["fast"] = None
    assert parse_manifest(json.dumps(values).encode(), "null") == bundle.manifest
    assert b'"fast"' not in encode_manifest(bundle.manifest)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_fast_graphs_take_and_give_what_the_plain_ones_do(part: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = with_fast(bundle)
    values["precisions"]["fp32"]["fast"][part]["outputs"][0]["dtype"] = "float16"
    name = values["precisions"]["fp32"][part]["outputs"][0]["name"]
    message = refused(bundle, values)
    assert f"precisions.fp32.fast.{part} to give {name} float32 ['batch', " in message and f"got {name} float16 ['batch', " in message


@pytest.mark.parametrize(("key", "value"), [("file", "../x.onnx"), ("sha256", "0")])
def test_files_of_fast_graphs_are_held_as_others(key: str, value: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = with_fast(bundle)
    values["precisions"]["fp32"]["fast"]["decoder"][key] = value
    assert f"precisions.fp32.fast.decoder.{key}" in refused(bundle, values)


# files


@pytest.mark.parametrize("file", ["../memory.safetensors", "a/../../b", "/etc/hostname", "", "..\\b", "a\0b", "\ud800"])
@pytest.mark.parametrize("path", [("memory",), ("precisions", "fp32", "encoder"), ("precisions", "fp32", "decoder")])
def test_a_path_that_leaves_the_bundle_is_refused(path: tuple[str, ...], file: str, toy: Toy) -> None:
    bundle = toy("one_pool")
    values = values_of(bundle)
    at(values, *path)["file"] = file
    assert not missing(refused(bundle, values), f"{'.'.join(path)}.file … {file!r}")


def test_a_link_that_leads_outside_is_refused(toy: Toy, tmp_path: Path) -> None:
    bundle = toy("one_pool")
    memory = bundle.path / "memory.safetensors"
    memory.rename(tmp_path / "elsewhere")
    memory.symlink_to(tmp_path / "elsewhere")
    with raises(IntegrityError, "memory.safetensors … leads outside"):
        bundle.read_items()


def test_a_link_within_the_bundle_is_followed(toy: Toy) -> None:
    bundle = toy("one_pool")
    memory = bundle.path / "memory.safetensors"
    memory.rename(bundle.path / "blob")
    memory.symlink_to("blob")
    assert set(bundle.read_items()) == {"memory"}


def test_a_link_to_itself_is_refused(toy: Toy) -> None:
    bundle = toy("one_pool")
    memory = bundle.path / "memory.safetensors"
    memory.unlink()
    memory.symlink_to(memory)
    with raises(IntegrityError, "the link"):
        bundle.read_items()


def test_a_missing_file_is_named(toy: Toy) -> None:
    bundle = toy("one_pool")
    (bundle.path / "encoder.fp32.onnx").unlink()
    with raises(IntegrityError, "encoder.fp32.onnx … 'No such file or directory'"):
        bundle.read(bundle.precision("fp32").encoder)


def test_one_changed_byte_is_seen(toy: Toy) -> None:
    bundle = toy("one_pool")
    file = bundle.path / "decoder.fp32.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with raises(IntegrityError, "decoder.fp32.onnx … SHA-256 … bytes"):
        bundle.read(bundle.precision("fp32").decoder)


# the memory


def test_a_truncated_memory_file_is_not_the_one_that_was_hashed(toy: Toy) -> None:
    bundle = toy("one_pool")
    file = bundle.path / "memory.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with raises(IntegrityError, "SHA-256"):
        bundle.read_items()


@pytest.mark.parametrize("length", [0, 7, 60, -1])
def test_a_truncated_memory_file_with_a_right_hash_is_no_safetensors(length: int, toy: Toy) -> None:
    bundle = toy("one_pool")
    bundle = put_memory(bundle, (bundle.path / "memory.safetensors").read_bytes()[:length])
    with raises(BundleError, "memory.safetensors … safetensors of float32"):
        bundle.read_items()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (np.full((3, 16), np.nan, np.float32), "NaN or infinity"),
        (np.eye(3, 15, dtype=np.float32), "(M, 16) float32 … (3, 15) float32"),
        (np.eye(3, 16, dtype=np.float32)[None], "(M, 16) float32 … (1, 3, 16) float32"),
        (np.zeros((0, 16), np.float32), "(M, 16) float32 … (0, 16) float32"),
        (np.eye(3, 16), "(M, 16) float32 … (3, 16) float64"),
        (2 * np.eye(3, 16, dtype=np.float32), "length 1 … 'ema' … 2.000 to 2.000"),
    ],
)
def test_items_that_cannot_be_a_memory_are_refused(items: np.ndarray, message: str, toy: Toy) -> None:
    bundle = put_items(toy("one_pool"), {"memory": items})
    with raises(BundleError, f"memory.safetensors … pool 'memory' … {message}"):
        bundle.read_items()


@pytest.mark.parametrize(("kind", "size"), [("BF16", 2), ("F8_E4M3", 1), ("I64", 8), ("BOOL", 1)])
def test_numbers_of_another_type_are_refused(kind: str, size: int, toy: Toy) -> None:
    header = json.dumps({"memory": {"dtype": kind, "shape": [3, 16], "data_offsets": [0, 48 * size]}}).encode()
    bundle = put_memory(toy("one_pool"), len(header).to_bytes(8, "little") + header + bytes(48 * size))
    with raises(BundleError, "memory.safetensors … float32"):
        bundle.read_items()


def test_rows_past_the_end_of_float32_are_refused_with_their_length(toy: Toy) -> None:
    bundle = put_items(toy("one_pool"), {"memory": np.full((3, 16), 3e38, np.float32)})
    with raises(BundleError, "length 1 … 'ema'"):
        bundle.read_items()


def test_rows_of_any_length_are_fine_where_nothing_is_learned(toy: Toy) -> None:
    items = {"normal": 5 * np.eye(5, 8, dtype=np.float32), "anomalous": np.zeros((7, 8), np.float32)}
    assert put_items(toy("two_banks"), items).read_items()["normal"].max() == 5


@pytest.mark.parametrize("names", [("level_1", "level_2"), ("level_1", "level_2", "level_3", "level_4"), ()])
def test_every_pool_has_items_and_all_items_have_a_pool(names: tuple[str, ...], toy: Toy) -> None:
    sizes = {"level_1": 4, "level_2": 8, "level_3": 16, "level_4": 16}
    bundle = put_items(toy("three_pools"), {name: np.eye(4, sizes[name], dtype=np.float32) for name in names})
    with raises(BundleError, "['level_1', 'level_2', 'level_3']"):
        bundle.read_items()
