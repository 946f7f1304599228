from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.evaluation import check_clips, check_labels, read_labels
from edge_runtime.optional.opencv import opencv
from tests.kit.wording import missing, raises


def test_a_csv_is_read_per_clip_and_names_stay_strings(tmp_path: Path) -> None:
    labels = read_labels(_csv(tmp_path, "01,0,0", "01,1,1", "gate,0,1"))
    assert {name: values.tolist() for name, values in labels.items()} == {"01": [False, True], "gate": [True]}
    assert labels["01"].dtype == np.bool_


def test_lines_may_come_in_any_order(tmp_path: Path) -> None:
    labels = read_labels(_csv(tmp_path, "01,2,1", "02,0,0", "01,0,0", "", "01,1,0"))
    assert labels["01"].tolist() == [False, False, True]


def test_a_csv_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbfclip,frame,anomalous\r\n01, 0, 1\r\n")
    assert read_labels(path)["01"].tolist() == [True]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["01,0,0", "01,0,1"], "line 3 … clip 01 … frame 0"),
        (["01,0,0", "01,2,0"], "1 … 2"),
        (["01,1,0", "01,2,0"], "0"),
        (["01,0,2"], "'01,0,2'"),
        (["01,-1,0"], "line 2"),
        (["01,0"], "'01,0'"),
        ([",0,1"], "',0,1'"),
        ([], "labels.csv … header"),
    ],
)
def test_lines_that_do_not_label_every_frame_once_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with raises(ConfigError, message):
        read_labels(_csv(tmp_path, *lines))


def test_a_csv_that_may_not_be_read_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    path.touch()

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)  # root may read all
    with raises(ConfigError, "labels.csv … 'Permission denied'"):
        read_labels(path)


def test_a_csv_needs_its_header(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("01,0,0\n")
    with raises(ConfigError, "line 1 … 'clip,frame,anomalous' … '01,0,0'"):
        read_labels(path)
    path.write_text("")
    with raises(ConfigError, "empty"):
        read_labels(path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.mat"
    path.write_bytes(b"\x89\xff\x00\x01")
    with raises(ConfigError, "UTF-8"):
        read_labels(path)


def test_missing_labels_are_refused(tmp_path: Path) -> None:
    with raises(ConfigError, "labels.csv"):
        read_labels(tmp_path / "labels.csv")
    with raises(ConfigError, "<clip>/<frame>"):
        read_labels(tmp_path)


def test_any_pixel_of_a_mask_makes_its_frame_anomalous(tmp_path: Path) -> None:
    for frame in (2, 9, 10):
        _mask(tmp_path / "01" / f"{frame}.png", np.zeros((4, 6), np.uint8))
    one_pixel = np.zeros((4, 6), np.uint8)
    one_pixel[3, 5] = 1
    _mask(tmp_path / "01" / "10.png", one_pixel)
    assert {name: values.tolist() for name, values in read_labels(tmp_path).items()} == {"01": [False, False, True]}


def test_faint_pixels_of_colour_and_deep_masks_count_and_alpha_does_not(tmp_path: Path) -> None:
    blue = np.zeros((4, 6, 3), np.uint8)
    blue[0, 0, 0] = 1
    deep = np.zeros((4, 6), np.uint16)
    deep[0, 0] = 1
    opaque = np.zeros((4, 6, 4), np.uint8)
    opaque[..., 3] = 255
    for frame, mask in enumerate((blue, deep, opaque)):
        _mask(tmp_path / "01" / f"{frame}.png", mask)
    assert read_labels(tmp_path)["01"].tolist() == [True, True, False]


def test_frames_in_place_of_masks_are_refused(tmp_path: Path) -> None:
    _mask(tmp_path / "01" / "0.jpg", np.zeros((4, 6), np.uint8))
    with raises(ConfigError, "lossless"):
        read_labels(tmp_path)


def test_an_unreadable_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / "0.png").write_bytes(b"no image")
    with raises(ConfigError, "0.png … decode"):
        read_labels(tmp_path)


def _masks(folder: Path, names: list[str]) -> Path:
    for name in names:
        _mask(folder / "01" / name, np.zeros((4, 6), np.uint8))
    return folder


def test_a_mask_that_is_missing_in_between_is_named_although_the_count_is_right(tmp_path: Path) -> None:
    _masks(tmp_path, [f"{frame:03}.png" for frame in range(181) if frame != 60])
    with raises(ConfigError, "01 … 061.png … 059.png … 060.png"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([f"Test001_{frame:02}_gt.tif" for frame in (1, 2, 3, 5, 6)], "Test001_04_gt.tif"),
        ([f"{frame}.png" for frame in (8, 9, 10, 12, 13)], "11.png"),
        ([f"{frame}.png" for frame in (0, 5, 10, 20, 25)], "15.png"),
        (["1.png", "2.bmp", "2.png", "3.png", "4.png"], "2.bmp … 2.png … 3.png"),
    ],
)
def test_masks_that_are_numbered_count_without_a_hole(names: list[str], wanted: str, tmp_path: Path) -> None:
    with raises(ConfigError, wanted):
        read_labels(_masks(tmp_path, names))


@pytest.mark.parametrize(
    "names",
    [
        [f"{frame}.png" for frame in range(1, 12)],
        [f"{frame:04}.png" for frame in range(0, 50, 5)],
        [f"Test001_{frame}_gt.png" for frame in range(98, 103)],
        ["1589230001.033.png", "1589230001.066.png", "1589230001.101.png", "1589230001.134.png"],
        ["dawn 1.png", "dawn 2.png", "dusk 7.png", "noon.png"],
        ["7.png"],
    ],
)
def test_masks_may_be_named_in_any_other_way(names: list[str], tmp_path: Path) -> None:
    assert len(read_labels(_masks(tmp_path, names))["01"]) == len(names)


def test_labels_of_every_frame_pass_the_check() -> None:
    check_labels({"01": np.zeros(3, bool)}, {"01": 3})


def test_a_clip_without_labels_is_refused() -> None:
    with raises(ConfigError, "01, 02 … missing: 02"):
        check_clips({"01": np.zeros(3, bool)}, ["01", "02"])


@pytest.mark.parametrize(("value", "got"), [(False, "0 anomalous and 5 normal"), (True, "5 anomalous and 0 normal")])
def test_labels_of_one_kind_are_refused(value: bool, got: str) -> None:
    labels = {"01": np.full(3, value), "02": np.full(2, value), "not scored": np.array([not value])}
    with raises(ConfigError, got):
        check_clips(labels, ["01", "02"])


def test_labels_of_another_length_are_refused() -> None:
    with raises(ConfigError, "01 … 4 frames … 3 labels"):
        check_labels({"01": np.zeros(3, bool)}, {"01": 4})


def test_labels_of_clips_that_are_not_scored_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_clips({"01": np.array([False, True]), "02": np.zeros(1, bool)}, ["01"])
    assert not missing(caplog.text, "1 clips … 02")


@pytest.mark.ped2
def test_csv_and_masks_of_ped2_agree() -> None:
    testing = Path(os.environ["PED2_DIR"]) / "testing"
    listed, masked = read_labels(testing / "labels.csv"), read_labels(testing / "masks")
    assert list(listed) == list(masked) == [f"{clip:02}" for clip in range(1, 13)]
    assert all(np.array_equal(listed[clip], masked[clip]) for clip in listed)
    assert sum(labels.size for labels in listed.values()) == 2010
    assert sum(int(labels.sum()) for labels in listed.values()) == 1648


def _csv(folder: Path, *lines: str) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join(["clip,frame,anomalous", *lines]) + "\n")
    return path


def _mask(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    assert opencv().imwrite(str(path), pixels)
