"""Image sets by name, and as the data of a task."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_server import arrays, cache, offline

from framework.datasets import named as datasets
from framework.datasets.class_names import CLASS_NAMES
from framework.datasets.named import image_data, load_dataset
from framework.datasets.published import IMAGE_SETS
from framework.errors import UserError

__all__ = ["cache", "offline"]


# --- names and sources --------------------------------------------------------------------------


def test_an_unknown_name_or_source_gets_its_closest_match(offline: None) -> None:
    with pytest.raises(UserError) as caught:
        load_dataset("cifar_100")
    assert caught.value.where == "data.name"
    assert "Did you mean 'cifar100'?" in str(caught.value)
    assert "data.dir" in str(caught.value)
    with pytest.raises(UserError, match="cifar10, cifar100, fashion_mnist, mnist"):
        load_dataset("imagenet", source="synthetic")
    with pytest.raises(UserError, match="Did you mean 'synthetic'") as caught:
        load_dataset("mnist", source="syntetic")
    assert caught.value.where == "data.source"


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_synthetic_touches_no_network_and_is_announced_once(
    name: str, cache: Path, offline: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "framework"):
        found = load_dataset(name, source="synthetic", seed=3)
    shape, classes = {"mnist": ((28, 28), 10), "cifar100": ((32, 32, 3), 100)}[name]
    rows = {"mnist": 60_000, "cifar100": 50_000}[name]
    assert (found.x_train.shape, found.x_test.shape) == ((rows, *shape), (10_000, *shape))
    assert (found.y_train.shape, found.y_test.shape) == ((rows,), (10_000,))
    assert found.x_train.dtype == found.y_train.dtype == np.uint8
    assert sorted(set(found.y_test.tolist())) == list(range(classes))
    assert (found.num_classes, found.source) == (classes, "synthetic")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("SYNTHETIC DATA: ")
    assert "\n" not in record.getMessage()
    assert name in record.getMessage()
    assert not cache.exists()


# --- as the Data of a task ----------------------------------------------------------------------


def test_image_data_scales_and_adds_the_channel_axis_in_the_graph(tmp_path: Path) -> None:
    import tensorflow as tf

    for dtype, scale in (("uint8", 255), ("int64", 255), ("float64", 1), ("bool", 1)):
        for shape in ((5, 5), (5, 5, 3)):
            content = arrays(shape=shape)
            for key in ("x_train", "x_test"):
                content[key] = content[key].astype(dtype)
            np.savez(tmp_path / "flowers.npz", **content)
            data = image_data("flowers", dir=tmp_path, batch_size=4, val_fraction=0.5)
            x, y = data.train
            assert np.asarray(x).dtype == dtype
            assert data.map is not None
            images, labels = tf.function(data.map)((tf.constant(x), tf.constant(y)))
            wanted = content["x_train"].reshape(6, 5, 5, -1) / scale
            assert images.dtype == tf.float32
            np.testing.assert_allclose(images, wanted, rtol=1e-6)
            assert np.array_equal(labels, content["y_train"])
    assert (data.batch_size, data.eval_batch_size, data.shuffle) == (4, None, True)
    assert data.val_fraction == 0.5
    assert np.array_equal(data.test[0], content["x_test"])
    wanted_info = {"name": "flowers", "source": "dir", "num_classes": 3}
    assert {key: data.info[key] for key in wanted_info} == wanted_info


def test_image_data_takes_an_augmentation_unless_it_is_off(tmp_path: Path) -> None:
    from framework.datasets.augment import Augment

    np.savez(tmp_path / "flowers.npz", **arrays())

    def other(batch: Any, seed: Any) -> Any:
        return batch

    for given, wanted in ((None, None), (Augment(), None), (Augment(crop=1),) * 2, (other,) * 2):
        assert image_data("flowers", dir=tmp_path, augment=given).augment == wanted


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"batch_size": 0}, "data.batch_size"),
        ({"eval_batch_size": -1}, "data.eval_batch_size"),
        ({"val_fraction": 1.0}, "data.val_fraction"),
        ({"source": "fake"}, "data.source"),
        ({"name": "minst"}, "data.name"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_loaded(
    options: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load_original", lambda *a: pytest.fail("it was loaded"))
    with pytest.raises(UserError) as caught:
        image_data(**{"name": "mnist", **options})
    assert caught.value.where == where


def test_every_set_names_its_classes(tmp_path: Path) -> None:
    assert CLASS_NAMES.keys() == IMAGE_SETS.keys()
    for name, names in CLASS_NAMES.items():
        assert len(set(names)) == len(names) == IMAGE_SETS[name].classes
    # CIFAR-100 numbers its fine classes in alphabetical order.
    assert list(CLASS_NAMES["cifar100"]) == sorted(CLASS_NAMES["cifar100"])
    for name, wanted in (("cifar10", CLASS_NAMES["cifar10"]), ("flowers", ())):
        np.savez(tmp_path / f"{name}.npz", **arrays())
        assert image_data(name, dir=tmp_path).class_names == wanted
