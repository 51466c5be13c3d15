"""What a trained model takes: the shape of raw batches, and what `Data.map` makes of them.

A run writes it to `inputs.json`, so that its model can be built and used without its data.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from framework.core.codec import NotHeld, hold, release
from framework.core.pure_graph import NotPure, decode, encode
from framework.core.safe_files import read_bytes, replacing
from framework.errors import UserError
from framework.sources.rows_axis import rows_open
from framework.sources.source import Source

FILE = "inputs.json"
_FORMAT, _MOST = 1, 2**23
_log = logging.getLogger("framework")


@dataclass(frozen=True)
class Inputs:
    """What a trained model takes.

    Attributes:
        raw: The nest of TensorSpecs of a batch as the data set has it, with any number of rows.
        batch: The same as a step receives it, after `Data.map`.
        class_names: The names of the classes, by label.
        map: From a raw batch to one for a step; None: `why` it could not be written down.
        why: The reason.
    """

    raw: Any
    batch: Any
    class_names: Sequence[str] = ()
    map: Callable[[Any], Any] | None = None
    why: str = ""

    @classmethod
    def of(cls, source: Source, class_names: Sequence[str] = ()) -> Inputs:
        """Return what a model takes that trains on this source.

        Raises:
            NotHeld: The batches have their rows on another axis than the first, or are of a kind
                that cannot be written down.
        """
        if source.rows_axis != 0:
            raise NotHeld("batches with their rows on another axis")
        raw = rows_open(source.raw_spec(), 0)
        if any(not isinstance(leaf, tf.TensorSpec) for leaf in tf.nest.flatten(raw)):
            raise NotHeld("batches that are not dense tensors")
        mapped = tf.function(source.mapped, autograph=False).get_concrete_function(raw)
        batch = tf.nest.map_structure(
            lambda t: tf.TensorSpec(t.shape, t.dtype), mapped.structured_outputs
        )
        return cls(raw, batch, tuple(class_names), source.mapped if source.maps else _unchanged)

    def write(self, path: Path) -> None:
        """Write them, whole or not at all."""
        content: dict[str, Any] = {"format": _FORMAT, "class_names": list(self.class_names)}
        content |= {"raw": _held(self.raw), "batch": _held(self.batch), "map": None}
        if self.map is not _unchanged:
            try:
                content["map"] = encode(self._on_leaves, tf.nest.flatten(self.raw))
            except NotPure as reason:
                content["why"] = str(reason)
        with replacing(path) as file:
            file.write(json.dumps(content, indent=1).encode())

    def mapped(self, raw: Any) -> Any:
        """Return what `Data.map` makes of a raw batch."""
        if self.map is None:
            raise UserError(
                f"the run's directory has no copy of its Data.map: {self.why}",
                where=FILE,
                fix="Give the data: load(run_dir, data=Data(...)).",
            )
        return self.map(raw)

    def _on_leaves(self, *leaves: tf.Tensor) -> list[tf.Tensor]:
        return list(tf.nest.flatten(self.mapped(tf.nest.pack_sequence_as(self.raw, leaves))))

    @classmethod
    def read(cls, path: Path) -> Inputs | None:
        """Return what `write` wrote; None if there is no such file.

        Raises:
            UserError: It is damaged, or of a later version.
        """
        try:
            content = json.loads(read_bytes(path, _MOST))
            if content["format"] != _FORMAT:
                raise ValueError(f"it has format {content['format']}, not {_FORMAT}")
            raw, batch = _released(content["raw"]), _released(content["batch"])
            names, stored = [str(n) for n in content["class_names"]], content["map"]
            why = str(content.get("why", ""))
            if stored is None:
                return cls(raw, batch, tuple(names), None if why else _unchanged, why)
            return cls(raw, batch, tuple(names), _mapping(decode(stored), batch))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise UserError(
                f"the description of the run's batches cannot be read: {error}",
                where=str(path),
                fix="Restore the file, or delete it: the task's data is then asked.",
            ) from error


def _unchanged(batch: Any) -> Any:
    return batch


def _mapping(apply: Callable[..., list[tf.Tensor]], batch: Any) -> Callable[[Any], Any]:
    def mapped(raw: Any) -> Any:
        leaves = apply(*map(tf.convert_to_tensor, tf.nest.flatten(raw)))
        for leaf, spec in zip(leaves, tf.nest.flatten(batch), strict=True):
            leaf.set_shape(spec.shape)
        return tf.nest.pack_sequence_as(batch, leaves)

    return mapped


def _held(specs: Any) -> dict[str, Any]:
    leaves = tf.nest.flatten(specs)
    places = tf.nest.pack_sequence_as(specs, list(range(len(leaves))))
    shapes = [None if leaf.shape.rank is None else leaf.shape.as_list() for leaf in leaves]
    described = [[leaf.dtype.name, shape] for leaf, shape in zip(leaves, shapes, strict=True)]
    return {"nest": hold(places), "leaves": described}


def _released(held: Mapping[str, Any]) -> Any:
    leaves = [tf.TensorSpec(shape, tf.as_dtype(dtype)) for dtype, shape in held["leaves"]]
    return tf.nest.map_structure(lambda place: leaves[place], release(held["nest"]))
