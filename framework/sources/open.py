"""Opens the sources of each stage from a `Data`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from framework.config import TrainerConfig
from framework.core.fractions import exact
from framework.data import Data, Steps
from framework.errors import UserError
from framework.sources.arrays import ArraySource, check_rows
from framework.sources.can_resume import EpochHooks, calls_generator, obstacle, passing
from framework.sources.host_arrays import HostArraySource, fits_on_device
from framework.sources.indexed import IndexedSource, columns, is_indexed
from framework.sources.loading import LoadingSource, LoadsInGraph
from framework.sources.no_data import StepSource
from framework.sources.python_pipelines import from_generator, from_pydataset
from framework.sources.rows_axis import rows_back, rows_first
from framework.sources.source import Source
from framework.sources.streams import StreamSource, never_ends
from framework.sources.user_exceptions import Guard


def open_train(
    data: Data,
    *,
    seed: int,
    limit: int | float = 1.0,
    overfit: int | float = 0,
    accumulate: int = 1,
    restart: bool = False,
    held: dict[int, Any] | None = None,
) -> Source:
    """Open the training set, shuffled and augmented.

    Args:
        data: The data.
        seed: Seed of the order, the split, and augmentation.
        limit: Batches per epoch: a count or a fraction.
        overfit: If not 0: use only this many first batches, unshuffled.
        accumulate: Number of batches to join into one.
        restart: When resuming in mid-epoch, read a stream from its start instead.
        held: Objects created for the sets so far, by id, so that no array is copied to the device
            twice and no stream counts its epochs twice.
    """
    if data.train is None:
        raise UserError(
            "there is no training data",
            where="Data(train=...)",
            fix="Give Data(train=(x, y)) to Trainer.fit, or return it from Task.build_data; "
            "Data(train=Steps(1000)) if the steps make their own batches.",
        )
    options: dict[str, Any] = {"batch_size": data.batch_size, "seed": seed, "held": held}
    options |= {"shuffle": data.shuffle and not overfit, "limit": overfit or limit, "train": True}
    options |= {"accumulate": accumulate, "restart": restart, "overfit": bool(overfit)}
    return _open(data.train, data, "train", **options)


def open_batches(
    data: Data, *, seed: int, limit: int | float, held: dict[int, Any] | None = None
) -> Source:
    """Open the training set for inspection: in its own order, not augmented, in its batch size."""
    size = data.batch_size
    return _open(data.train, data, "train", batch_size=size, seed=seed, limit=limit, held=held)


def open_eval(
    data: Data,
    stage: str,
    *,
    seed: int,
    limit: int | float = 1.0,
    held: dict[int, Any] | None = None,
) -> dict[str, Source]:
    """Open the sets of an evaluation by name; a single set has the name "".

    The stage is `val`, `test`, `predict` or `overfit`: the training set in its own order.
    """
    if not limit:
        return {}
    size = data.eval_batch_size or data.batch_size
    options: dict[str, Any] = {"batch_size": size, "seed": seed, "limit": limit, "held": held}
    if stage == "overfit":
        options |= {"batch_size": data.batch_size, "overfit": True}
        return {"": _open(data.train, data, "train", **options)}
    # A limit counts batches, so the batches must have the configured size.
    options["large"] = data.eval_batch_size is None and limit == 1.0
    if stage == "val" and data.val_fraction:
        return {"": _open(data.train, data, "val", **options)}
    sets = getattr(data, stage)
    if stage == "predict" and sets is None:
        sets = data.test if data.test is not None else data.val
    if sets is None:
        return {}
    if not _is_several(sets, data.train):
        return {"": _open(sets, data, stage, **options)}
    return {name: _open(each, data, stage, **options) for name, each in sets.items()}


def _open(given: Any, data: Data, name: str, **options: Any) -> Source:
    axis = data.rows_axis
    if axis == 0:
        return _made(given, data, name, **options)
    if _is_arrays(given):
        held = options.get("held")
        given = rows_first(given, axis, name, {} if held is None else held)
        back, then = partial(rows_back, rows_axis=axis), data.map
        data = replace(data, map=back if then is None else lambda batch: then(back(batch)))
    elif is_indexed(given):
        raise UserError(
            f"the {name} set is read by row numbers, so its rows are on the first axis",
            where="data.rows_axis",
            fix="Leave rows_axis out, and transpose its batches in Data(map=...).",
        )
    elif options.get("accumulate", 1) > 1:
        raise UserError(
            f"batches of a {type(given).__name__} can only be joined along their first axis",
            where="trainer.accumulate, data.rows_axis",
            fix="Leave accumulate out and give larger batches, or arrays.",
        )
    source = _made(given, data, name, **options)
    source.rows_axis = axis
    return source


def _made(
    given: Any,
    data: Data,
    name: str,
    *,
    batch_size: int,
    seed: int,
    limit: int | float,
    accumulate: int = 1,
    large: bool = False,
    shuffle: bool = False,
    train: bool = False,
    restart: bool = False,
    overfit: bool = False,
    held: dict[int, Any] | None = None,
) -> Source:
    augment = data.augment if train else None
    common: dict[str, Any] = {"map": data.map, "augment": augment, "seed": seed}
    common |= {"limit": limit, "accumulate": accumulate}
    if data.val_fraction and name in ("train", "val") and not _has_rows(given):
        raise UserError(
            "val_fraction needs arrays or a set with an index, and the training set is a "
            f"{type(given).__name__}",
            where="data.val_fraction",
            fix="Give one of them, or a separate validation set: Data(train=..., val=...).",
        )
    if isinstance(given, Source):
        return given
    if isinstance(given, Steps):
        return StepSource(given, batch_size, counts_on=shuffle, **common)
    common["name"], held = name, {} if held is None else held
    if not _has_rows(given):
        counted = train and not overfit and isinstance(limit, int)
        option = f"limit_{name}_batches" if name in ("train", "val", "test") else ""
        common |= {"restart": restart, "limit_name": "overfit_batches" if overfit else option}
        return _stream(given, data, counted=counted, train=train, held=held, **common)
    by_number = is_indexed(given)
    if by_number and (arrays := _stored(given, data, name, held)) is not None:
        given, by_number = arrays, False
    part = None
    if data.val_fraction and name in ("train", "val"):
        rows = len(given) if by_number else check_rows(given, "train")
        part = _split(rows, data.val_fraction, name)
    common |= {"large": large, "shuffle": shuffle, "part": part, "held": held}
    if by_number:
        return _by_number(given, data, batch_size, **common)
    resident = fits_on_device(given) if data.resident is None else data.resident
    kind = ArraySource if resident else HostArraySource
    return kind(given, batch_size, **common)


def _by_number(
    given: Any, data: Data, batch_size: int, **options: Any
) -> IndexedSource | LoadingSource:
    """Open a source that reads a set by the numbers of its rows."""
    if isinstance(given, LoadsInGraph):
        return LoadingSource(given, batch_size, **options)
    options |= {"workers": data.workers, "signature": data.signature}
    return IndexedSource(given, batch_size, **options)


def _stored(given: Any, data: Data, name: str, held: dict[int, Any]) -> Any:
    """Return the rows of a set as arrays if it is to be read once, or holds columns; else None."""
    if data.resident is False:
        return None
    if id(given) not in held:
        whole = data.resident and len(given)
        found = _by_number(given, data, 1, name=name).whole() if whole else columns(given)
        held[id(given)] = found
    return held[id(given)]


def _stream(
    given: Any, data: Data, *, counted: bool, train: bool, held: dict[int, Any], **streamed: Any
) -> Source:
    """Open a source that reads batches sequentially."""
    name = streamed["name"]
    if isinstance(given, tf.data.Dataset):
        streamed["endless"] = counted and (never_ends(given) or calls_generator(given))
        if train:
            streamed["obstacle"] = obstacle(given)
        if train and not streamed["endless"]:
            streamed["before_epoch"] = held.setdefault(id(given), passing(given))
        return StreamSource(given, **streamed)
    if isinstance(given, keras.utils.PyDataset):
        guard = Guard(f"the {name} PyDataset", name, data.rows_axis)
        with guard.blaming():
            made = EpochHooks(given, guard.blaming, repeated=not train)
        hooks = held.setdefault(id(given), made) if train else made
        streamed |= {"before_epoch": hooks.before_epoch, "after_epoch": hooks.after_epoch}
        dataset = from_pydataset(given, guard, data.signature)
        endless = counted and never_ends(dataset)
        if train and endless and type(given).on_epoch_end is not keras.utils.PyDataset.on_epoch_end:
            streamed["obstacle"] = "it is endless, and on_epoch_end changes batches read ahead"
        return StreamSource(dataset, guard=guard, endless=endless, **streamed)
    if isinstance(given, Iterator):
        raise UserError(
            f"the {name} set is an iterator, which can be read only once",
            where=f"data.{name}",
            fix="Give the generator function: Data(train=batches), not Data(train=batches()).",
        )
    if callable(given):
        guard = Guard(f"the {name} generator", name, data.rows_axis)
        generator = _Generator(given)
        streamed |= {"before_epoch": generator.before_epoch, "obstacle": generator.obstacle}
        dataset = from_generator(generator, guard, data.signature)
        endless = counted and not generator.takes_epoch  # without the epoch it may be endless
        return StreamSource(dataset, guard=guard, endless=endless, **streamed)
    raise AssertionError(f"{type(given).__name__} is an array")


def larger_batches(data: Data, config: TrainerConfig) -> str:
    """Return how to configure batches as large as the accumulated ones."""
    times = max(config.accumulate_by_epoch.values())
    if not _has_rows(data.train):
        return f"give batches {times} times as large"
    size = data.batch_size * times
    return f"give larger batches: data.batch_size={size}, from Python Data(batch_size={size})"


def _split(rows: int, fraction: float, name: str) -> tuple[int, int]:
    held_back = max(1, round(exact(fraction) * rows))
    if held_back >= rows:
        raise UserError(
            f"val_fraction={fraction} of {rows} rows leaves nothing to train on",
            where="data.val_fraction",
            fix="Give a smaller fraction.",
        )
    return (0, held_back) if name == "val" else (held_back, rows - held_back)


def _is_arrays(given: Any) -> bool:
    kinds = (Source, Steps, tf.data.Dataset, keras.utils.PyDataset, Iterator)
    return not isinstance(given, kinds) and not callable(given) and not is_indexed(given)


def _has_rows(given: Any) -> bool:
    return is_indexed(given) or _is_arrays(given)


def _is_several(sets: Any, train: Any) -> bool:
    if not isinstance(sets, Mapping) or not sets:
        return False
    if isinstance(train, Mapping) and train.keys() == sets.keys():
        return False  # one set of dict batches, as in the training set
    kinds = (tuple, list, Mapping, Source, Steps, tf.data.Dataset, keras.utils.PyDataset)
    return all(
        isinstance(each, kinds) or callable(each) or is_indexed(each) for each in sets.values()
    )


class _Generator:
    """A generator function that is called with the epoch if it accepts it."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make, self._epoch = make, 0
        try:
            parameters = inspect.signature(make).parameters.values()
        except (TypeError, ValueError):  # some callables that are not written in Python
            parameters = {}.values()
        in_place = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self._by_name = any(p.name == "epoch" and p.kind != p.POSITIONAL_ONLY for p in parameters)
        self.takes_epoch = self._by_name or any(p.default is p.empty for p in in_place)
        blind = "it is a generator function that does not accept the epoch"
        self.obstacle = None if self.takes_epoch else blind

    def __call__(self) -> Any:
        if self._by_name:
            return self._make(epoch=self._epoch)
        return self._make(self._epoch) if self.takes_epoch else self._make()

    def before_epoch(self, epoch: int, *_: Any) -> None:
        self._epoch = epoch
