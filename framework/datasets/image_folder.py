"""Folders of images by class: the function behind `data=image_folder`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.core.paths import local_path
from framework.datasets.image_files import ENDINGS, ImageFiles, LabelledFiles
from framework.datasets.one_hot import one_hot_after
from framework.errors import UserError, choice

if TYPE_CHECKING:
    from framework.data import Data

ON_ERROR = ("stop", "skip")
_PARTS = {"val": ("val", "validation", "valid"), "test": ("test",)}

_log = logging.getLogger("framework")


def image_folder(
    dir: str | Path | None = None,
    *,
    val: str | Path | None = None,
    test: str | Path | None = None,
    predict: str | Path | None = None,
    size: Sequence[int] = (224, 224),
    channels: int = 3,
    fit: str = "stretch",
    on_error: str = "stop",
    batch_size: int = 32,
    eval_batch_size: int | None = None,
    resident: bool | None = None,
    shuffle: bool = True,
    val_fraction: float = 0.0,
    augment: Callable[[Any, Any], Any] | None = None,
    one_hot: bool = False,
) -> Data:
    """Create the `Data` of a folder of images: float32 in 0..1, and the number of their class.

    Files are decoded on all cores while the network trains. `Data.preprocessing` does the same to
    other files.

    Example:
        >>> data = image_folder("flowers", size=(64, 64), val_fraction=0.1)   # flowers/rose/1.jpg
        >>> data.class_names
        ('rose', 'tulip')

    Args:
        dir: A folder with a folder for each class; or with `train`, and maybe `val` and `test`,
            which have them. JPEG, PNG, and GIF of one picture.
        val: The folder of the validation images, if it is elsewhere.
        test: The folder of the test images, if it is elsewhere.
        predict: A folder of images to predict on, in alphabetical order of their paths.
        size: Height and width to resize to.
        channels: 1 (grey) or 3.
        fit: `stretch`, `crop` or `pad`; see `ImageFiles`.
        on_error: What an image that cannot be decoded does: `stop` the run, or `skip` it: then all
            files are decoded once before the start, and those that cannot be are left out and
            counted.
        batch_size: Images per training batch.
        eval_batch_size: See `Data`.
        resident: True: decode all images once and keep them in memory, as uint8.
        shuffle: See `Data`.
        val_fraction: Fraction of the training images to validate on.
        augment: A function of a batch and a seed, such as an `Augment`, for training batches.
        one_hot: Labels as float32 rows with a 1 at the class; see `one_hot_after`.

    Returns:
        Data with `preprocessing` (`ImageFiles`) and `class_names`.

    Raises:
        UserError: There is no such folder, or a class in it is empty.
    """
    from framework.data import Data
    from framework.datasets.augment import Augment

    if on_error not in ON_ERROR:
        fix = choice(str(on_error), ON_ERROR)
        raise UserError(f"on_error is {on_error!r}", where="data.on_error", fix=fix)
    height, width = size if len(size) == 2 else (0, 0)
    ImageFiles(height, width, channels, fit)  # checks them before it looks at many files
    places = _places(dir, {"val": val, "test": test})
    names = _classes(places["train"])
    files = ImageFiles(height, width, channels, fit, tuple(names))
    sets: dict[str, Any] = {
        part: LabelledFiles(files, *_labelled(names, place), scaled=not resident)
        for part, place in places.items()
    }
    if predict is not None:
        paths = _images(_folder(predict, "predict"))
        sets["predict"] = LabelledFiles(files, paths, scaled=not resident)
    mapped: Callable[[Any], Any] | None = scaled if resident else None
    if one_hot:
        mapped = partial(one_hot_after, classes=len(names), first=mapped)
    info: dict[str, Any] = {"source": "dir", "name": places["train"].name}
    if on_error == "skip":
        sets, info["skipped"] = _without_unreadable(sets)
    return Data(
        **sets,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        resident=resident,
        shuffle=shuffle,
        val_fraction=val_fraction,
        map=mapped,
        augment=None if isinstance(augment, Augment) and not augment.enabled else augment,
        info={**info, "num_classes": len(names)},
        preprocessing=files,
        class_names=names,
    )


def scaled(batch: Any) -> Any:
    """Return a batch of images, alone or with labels, with pixels as float32 in 0..1."""
    import tensorflow as tf

    if not isinstance(batch, tuple):
        return tf.cast(batch, tf.float32) / 255.0
    images, *rest = batch
    return tf.cast(images, tf.float32) / 255.0, *rest


def _places(dir: str | Path | None, given: dict[str, str | Path | None]) -> dict[str, Path]:
    """Return the folder of each set."""
    if dir is None:
        fix = "Give data.dir=<folder>, with a folder of images for each class."
        raise UserError("there is no folder of images", where="data.dir", fix=fix)
    root = _folder(dir, "dir")
    places = {"train": root}
    if (root / "train").is_dir():
        places["train"] = root / "train"
        for part, names in _PARTS.items():
            found = [root / name for name in names if (root / name).is_dir()]
            places |= {part: found[0]} if found else {}
    elsewhere = {part: _folder(path, part) for part, path in given.items() if path is not None}
    return {**places, **elsewhere}


def _folder(path: str | Path, option: str) -> Path:
    found = local_path(path, f"data.{option}")
    if not found.is_dir():
        raise UserError(
            f"there is no folder {found.absolute()}",
            where=f"data.{option}",
            fix="Give a folder that has a folder of images for each class.",
        )
    return found


def _classes(place: Path) -> list[str]:
    names = sorted(p.name for p in place.iterdir() if p.is_dir() and p.name[0] != ".")
    if not names:
        raise UserError(
            "there is no folder for any class",
            where=str(place.absolute()),
            fix="Put the images of each class into a folder with its name: "
            f"{place / 'cat'}, {place / 'dog'}.",
        )
    return names


def _labelled(names: Sequence[str], place: Path) -> tuple[list[str], list[int]]:
    """Return the images in the folders of classes, and their labels."""
    paths: list[str] = []
    labels: list[int] = []
    for name in _classes(place):
        if name not in names:
            raise UserError(
                f"{name!r} is not a class of the training images",
                where=str(place / name),
                fix=choice(name, names),
            )
        found = _images(place / name)
        paths += found
        labels += [names.index(name)] * len(found)
    return paths, labels


def _images(folder: Path) -> list[str]:
    """Return the images in a folder in alphabetical order; refuse one without any."""
    there = [p for p in folder.rglob("*") if p.name[0] != "." and p.is_file()]
    found = sorted(str(p) for p in there if p.suffix.lower() in ENDINGS)
    if not found:
        others = f" It has {len(there):,} other files." if there else ""
        raise UserError(
            f"the folder {folder.name!r} has no images",
            where=str(folder.absolute()),
            fix=f"Put images into it ({', '.join(ENDINGS)}), or remove it.{others}",
        )
    return found


def _without_unreadable(
    sets: dict[str, LabelledFiles],
) -> tuple[dict[str, LabelledFiles], int]:
    """Return the sets without the images that cannot be decoded, and how many those are."""
    total, skipped = 0, list[str]()
    kept: dict[str, LabelledFiles] = {}
    for part, rows in sets.items():
        kept[part], bad = rows.readable()
        total, skipped = total + len(rows), skipped + bad
        left = None if kept[part].labels is None else set(kept[part].labels or ())
        if not len(kept[part]) or (left is not None and len(left) < len(set(rows.labels or ()))):
            raise UserError(
                f"no image of a class can be decoded: {bad[0]}",
                where="data.dir",
                fix="Replace its images, or remove the folder.",
            )
    if skipped:
        shown = "".join(f"\n  {path}" for path in skipped[:10])
        more = f"\n  and {len(skipped) - 10:,} more" if len(skipped) > 10 else ""
        _log.warning(
            "skipped %s of %s images that cannot be decoded:%s%s",
            f"{len(skipped):,}", f"{total:,}", shown, more,
        )  # fmt: skip
    return kept, len(skipped)
