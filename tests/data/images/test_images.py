"""IMAGES against the pixels that were written: patches, splits, sizes, TFDS's mock, bad input."""

import json
import math
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxreg.data import SOURCES, LeakError, labelled
from jaxreg.data.images.pictures import pictures_of
from jaxreg.data.images.source import check_leaks
from jaxreg.data.rows import Rows
from jaxreg.errors import UserErrors
from jaxreg.study.design import dataset_checks
from tests.helpers.prepared_sets import picture, prepare

SOURCE = SOURCES["images"]
SMALL = {"num_train": 20, "num_eval": 6, "length": 7}
NAMES = ["cat", "dog", "bird"]
FEATURES = {
    "image": tfds.features.Image(shape=(None, None, 3)),
    "label": tfds.features.ClassLabel(names=NAMES),
    "number": np.int64,
}


def pixels(count, height=4, width=6, seed=0):
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def examples(images, labels=None):
    labels = np.arange(len(images)) % 3 if labels is None else labels
    rows = zip(images, labels, strict=True)
    return [{"image": picture(x), "label": int(y), "number": int(y)} for x, y in rows]


@pytest.fixture(autouse=True)
def kept_here(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("JAXREG_DATA", str(tmp_path_factory.mktemp("kept")))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def folder(root):
    splits = {"train": examples(pixels(40)), "test": examples(pixels(12, seed=1))}
    return prepare(root, "shapes", FEATURES, splits)


@pytest.fixture(autouse=True)
def prepared_there(root, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))


def settings(path, seed=0, **changes):
    return SOURCE.settings(seed=seed, path=str(path), **{**SMALL, **changes})


def preview(path, seed=0, **changes):
    own = settings(path, seed, **changes)
    return SOURCE.dataset(SOURCE.draw(own), own)


def lines_of(path, **changes):
    with pytest.raises(ValueError) as caught:
        preview(path, **changes)
    return str(caught.value).splitlines()


def image_of(features, rows, columns, size):
    """Pixels of one row's patches, one by one."""
    out = np.zeros((rows * size, columns * size, 3))
    for patch in range(rows * columns):
        for place, value in enumerate(features[patch]):
            y, (x, channel) = place // (3 * size), divmod(place % (3 * size), 3)
            out[patch // columns * size + y, patch % columns * size + x, channel] = value
    return out


def test_rows_are_patches_of_the_images_and_labels_theirs(folder):
    dataset = preview("tfds:shapes", validation_split="test")
    assert dataset.outputs == tuple(NAMES) and dataset.grid == (2, 3)
    assert dataset.chance == pytest.approx(14 / 40)
    for side, images in (("train", pixels(40)), ("validation", pixels(12, seed=1))):
        split = dataset.splits[side]
        assert isinstance(split.features, Rows) and split.features.shape == (len(split), 7, 12)
        assert split.features.dtype == np.float32 and (split.query_position == 6).all()
        features = np.asarray(split.features)
        assert not features[:, 6].any() and (np.asarray(split.tokens) == 1).all()
        known = {image.tobytes(): number for number, image in enumerate(images)}
        found = [
            known[np.round(255 * image_of(row, 2, 3, 2)).astype(np.uint8).tobytes()]
            for row in features
        ]
        assert len(set(found)) == len(found) == len(split)
        assert [number % 3 for number in found] == split.label.tolist()
    assert dataset_checks.mistakes(dataset, 7) == []


def test_without_a_split_of_its_own_validation_is_drawn_equal_images_together(root):
    """Sixteen different images, three times each."""
    images = np.tile(pixels(16, seed=2), (3, 1, 1, 1))
    prepare(root, "thrice", FEATURES, {"train": examples(images, np.arange(48) % 3)})
    seen = []
    for seed in range(3):
        own = settings("tfds:thrice", seed)
        dealt = labelled.deal("images", pictures_of(own), own)
        train, held = (rows % 16 for _, rows in dealt.values())
        assert not set(train.tolist()) & set(held.tolist())
        assert len(train) == 20 and len(held) == 6
        assert len(np.unique(dealt["train"][1])) == 20
        seen.append(tuple(held.tolist()))
        preview("tfds:thrice", seed)
    assert len(set(seen)) == 3


def test_what_is_in_training_too_is_not_drawn_for_validation(root):
    own, other = pixels(24, seed=3), pixels(8, seed=4)
    splits = {
        "train": examples(own),
        "validation": examples(np.concatenate([own[:9], other]), np.arange(17) % 3),
    }
    prepare(root, "overlap", FEATURES, splits)
    chosen = settings("tfds:overlap")  # auto: the set has a split of that name
    dealt = labelled.deal("images", pictures_of(chosen), chosen)
    assert (dealt["validation"][1] >= 9).all()
    [line] = lines_of("tfds:overlap", num_eval=9)
    assert line == (
        "data.num_eval is 9; validation of tfds:overlap has 8 examples that are not in training"
    )
    assert (
        len(preview("tfds:overlap", validation_split="drawn", num_train=18).splits["train"]) == 18
    )


def test_a_leak_is_found(folder, monkeypatch):
    own = settings("tfds:shapes")
    monkeypatch.setattr(
        labelled, "deal", lambda *_: dict.fromkeys(("train", "validation"), (train, np.arange(3)))
    )
    train = pictures_of(own).sides["train"]
    with pytest.raises(LeakError, match="share 3 examples"):
        check_leaks({}, own)


def test_images_are_padded_and_cropped_only_where_the_config_says_so(root):
    images = [*pixels(20, 4, 4, seed=5), *pixels(20, 6, 2, seed=6)]
    prepare(root, "sizes", FEATURES, {"train": examples(images)})
    [line] = lines_of("tfds:sizes")
    assert "example 20 of train of tfds:sizes is 6x2x3, and the first is 4x4x3" in line
    [line] = lines_of("tfds:sizes", height=4, width=4)
    assert line.startswith("data.height is 4; example 20 of train of tfds:sizes is 6x2x3")
    assert "data.fit is none: crop or pad_or_crop" in line
    [line] = lines_of("tfds:sizes", height=4, width=4, fit="crop")
    assert line.startswith("data.width is 4;") and "pad or pad_or_crop" in line
    own = settings("tfds:sizes", height=4, width=4, fit="pad_or_crop")
    found = pictures_of(own).sides["train"]
    written = found.reader().read(0, 40 * 48).reshape(40, 4, 4, 3)
    np.testing.assert_array_equal(written[:20], images[:20])
    for image, original in zip(written[20:], images[20:], strict=True):
        np.testing.assert_array_equal(image[:, 1:3], original[1:5])
        assert not image[:, 0].any() and not image[:, 3].any()


def test_a_size_that_does_not_fit_is_one_line(folder):
    [line] = lines_of("tfds:shapes", patch_size=3)
    assert "data.patch_size is 3; it must divide height and width of the images" in line
    assert "4x6" in line
    [line] = lines_of("tfds:shapes", length=6)
    assert line.startswith("data.length is 6; 4x6 pixels in patches of 2 are 6")
    assert line.endswith("it must be 7 or more")
    padded = preview("tfds:shapes", length=9).splits["train"]
    assert np.asarray(padded.tokens).tolist() == [[1] * 7 + [0] * 2] * 20
    assert not np.asarray(padded.features)[:, 6:].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "tfds:no_such_set"}, "data.path: tfds:no_such_set: is not prepared in"),
        ({"path": "tfds:shapes:9.9.9"}, "tfds:shapes:9.9.9: is not prepared in"),
        ({"path": "tfds:theirs:shapes"}, "is no name of a set"),
        ({"path": "/nowhere"}, "/nowhere: is no folder of a prepared set"),
        ({"train_split": "trian"}, "data.train_split: tfds:shapes has no split 'trian'; it has"),
        ({"validation_split": "dev"}, "data.validation_split: tfds:shapes has no split 'dev'"),
        ({"validation_split": "train"}, "data.validation_split is train, that of training"),
        ({"image_feature": "picture"}, "data.image_feature: tfds:shapes has no feature 'picture'"),
        ({"image_feature": "number"}, "data.image_feature: 'number' of tfds:shapes is int64"),
        ({"label_feature": "lable"}, "data.label_feature: tfds:shapes has no feature 'lable'"),
        ({"label_feature": "image"}, "data.label_feature: 'image' of tfds:shapes is no whole"),
        ({"num_train": 35}, "data.num_train is 35; train of tfds:shapes leaves 34 examples"),
    ],
)
def test_bad_input_is_one_line(folder, changes, words):
    path = changes.get("path", "tfds:shapes")
    rest = {name: value for name, value in changes.items() if name != "path"}
    [line] = lines_of(path, **rest)
    assert words in line


def test_all_mistakes_are_named_at_once(folder):
    found = lines_of("tfds:shapes", train_split="a", image_feature="b", label_feature="c")
    assert len(found) == 3


def test_a_label_out_of_range_is_one_line(root):
    features = FEATURES | {"label": tfds.features.ClassLabel(num_classes=3), "number": np.int64}
    rows = examples(pixels(30, seed=7))
    for number in (3, 5):
        rows[number] = rows[number] | {"label": -1}
    prepare(root, "unlabelled", features, {"train": rows})
    [line] = lines_of("tfds:unlabelled")
    assert line == (
        "data.label: example 3 of train of tfds:unlabelled has the label -1; it must be 0 to 2"
    )
    dataset = preview("tfds:unlabelled", label_feature="number")
    assert dataset.outputs == ("0", "1", "2")


def test_pixels_of_another_dtype_are_one_line(root):
    features = {"image": tfds.features.Tensor(shape=(4, 6, 1), dtype=np.float32)}
    features |= {"label": np.int64}
    rows = [{"image": np.zeros((4, 6, 1), np.float32), "label": 0}] * 3
    prepare(root, "floats", features, {"train": rows})
    [line] = lines_of("tfds:floats")
    assert "is float32 of shape (4, 6, 1); it must be an image of uint8 or uint16" in line


def test_deep_pixels_end_at_one_too(root):
    features = {"image": tfds.features.Tensor(shape=(2, 2), dtype=np.uint16), "label": np.int64}
    rows = [
        {"image": np.full((2, 2), value, np.uint16), "label": value % 2}
        for value in (0, 65535, 257, 1, 2, 3)
    ]
    prepare(root, "deep", features, {"train": rows})
    found = preview("tfds:deep", num_train=3, num_eval=3, length=2)
    values = {
        round(float(x), 6) for s in found.splits.values() for x in np.asarray(s.features)[:, 0, 0]
    }
    assert {0.0, 1.0, round(1 / 255, 6)} <= values and found.grid == (1, 1)


def test_a_damaged_record_is_one_line(root):
    folder = prepare(root, "damaged", FEATURES, {"train": examples(pixels(30, seed=8))})
    [file] = folder.glob("*.array_record*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    [line] = lines_of("tfds:damaged")
    assert line.startswith("data.path: tfds:damaged: ") and "train" in line


def test_a_description_that_names_code_is_refused_and_nothing_of_it_is_imported(root):
    folder = prepare(root, "foreign", FEATURES, {"train": examples(pixels(30, seed=9))})
    stored = json.loads((folder / "features.json").read_text())
    [content] = (stored[key] for key in ("content", "featuresDict") if key in stored)
    content["features"]["label"]["pythonClassName"] = "antigravity.Feature"
    (folder / "features.json").write_text(json.dumps(stored))
    [line] = lines_of("tfds:foreign")
    assert "names the code 'antigravity.Feature', which is not run" in line
    assert "antigravity" not in sys.modules


def test_a_folder_is_the_same_data_as_its_name_and_another_draw_is_not(folder):
    by_name, by_folder = preview("tfds:shapes"), preview(folder)
    assert by_name.content_hash == by_folder.content_hash
    assert by_name.content_hash != preview("tfds:shapes", seed=1).content_hash
    assert by_name.content_hash != preview("tfds:shapes", patch_size=1, length=25).content_hash


def test_it_is_read_once_and_again_where_it_is_changed(root, monkeypatch):
    folder = prepare(root, "changing", FEATURES, {"train": examples(pixels(30, seed=10))})
    before = preview("tfds:changing")
    monkeypatch.setattr(labelled, "_remembered", {})
    monkeypatch.setattr(labelled, "_written", lambda *_: pytest.fail("it was read again"))
    assert preview("tfds:changing").content_hash == before.content_hash
    monkeypatch.undo()
    shutil.rmtree(folder)
    prepare(root, "changing", FEATURES, {"train": examples(pixels(30, seed=11))})
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert preview("tfds:changing").content_hash != before.content_hash


def test_a_kept_file_that_is_cut_while_it_is_read_is_one_line(folder):
    rows = preview("tfds:shapes").splits["train"].features
    with pictures_of(settings("tfds:shapes")).sides["train"].numbers.path.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(UserErrors, match="since it was opened"):
        rows[np.arange(20)]


def test_tfds_own_mock(folder):
    """Random examples of the set's features, in the place of the files'."""
    with tfds.testing.mock_data(num_examples=40, data_dir=str(folder)):
        dataset = preview(folder, num_train=8, num_eval=4, height=4, width=4, fit="pad_or_crop")
    assert len(dataset.splits["train"]) == 8 and dataset.outputs == tuple(NAMES)
    features = np.asarray(dataset.splits["train"].features)
    assert 0 <= features.min() < features.max() <= 1


def test_the_sample_is_digits():
    dataset, by_patch = SOURCE.preview(), SOURCES["digits"].preview()
    assert dataset.grid == by_patch.grid and dataset.outputs == by_patch.outputs
    sixteenths = np.asarray(dataset.splits["train"].features) * 16
    assert np.abs(sixteenths - np.round(sixteenths)).max() < 0.04
    assert math.isclose(dataset.chance, 183 / 1797)
