"""Files of images: how they are decoded and resized, and a set that loads them in the graph."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.errors import UserError, choice

if TYPE_CHECKING:
    import tensorflow as tf

FITS = ("stretch", "crop", "pad")
ENDINGS = (".jpg", ".jpeg", ".png", ".gif")


@dataclass(frozen=True)
class ImageFiles:
    """What is done to image files before the network: the preprocessing of `data=image_folder`.

    Example:
        >>> ImageFiles(64, 64)(["cat.jpg", "dog.png"]).shape
        (2, 64, 64, 3)

    Attributes:
        height: Height of the result.
        width: Width of the result.
        channels: 1 (grey) or 3.
        fit: What gives an image the right proportions: `stretch`, `crop` (its middle), or `pad`
            (with zeros).
        class_names: The names of the classes, by label.
    """

    height: int
    width: int
    channels: int = 3
    fit: str = "stretch"
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            fix = choice(str(self.fit), FITS)
            raise UserError(f"fit is {self.fit!r}", where="data.fit", fix=fix)
        if self.channels not in (1, 3):
            raise UserError(
                f"channels is {self.channels!r}", where="data.channels", fix="Give 1 or 3."
            )
        if not all(type(side) is int and side >= 1 for side in (self.height, self.width)):
            raise UserError(
                f"the size is {self.height!r} x {self.width!r}",
                where="data.size",
                fix="Give height and width: data.size=[224,224].",
            )

    def __call__(self, paths: Sequence[str | os.PathLike[str]]) -> np.ndarray:
        """Return the images of files as float32 in 0..1."""
        images = [self.decoded(os.fspath(path)) for path in paths]
        return np.asarray(images, np.float32).reshape(-1, *self.shape) / np.float32(255)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image."""
        return self.height, self.width, self.channels

    def decoded(self, path: Any) -> tf.Tensor:
        """Return the image of a file, in a graph or outside: whole numbers as float32."""
        import tensorflow as tf

        # Decodes PNG and GIF as well, and JPEG faster than `decode_image`.
        image = tf.io.decode_jpeg(tf.io.read_file(path), self.channels)
        if self.fit == "pad":
            image = tf.image.resize_with_pad(image, self.height, self.width)
        else:
            image = self._middle(image) if self.fit == "crop" else image
            image = tf.image.resize(image, (self.height, self.width))
        return tf.round(image)  # so that it is the same as one held as uint8

    def state(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> ImageFiles:
        """Return what had this state."""
        return cls(**{**state, "class_names": tuple(state["class_names"])})

    def _middle(self, image: tf.Tensor) -> tf.Tensor:
        import tensorflow as tf

        height, width = tf.shape(image)[0], tf.shape(image)[1]
        most_high = tf.maximum(1, tf.minimum(height, width * self.height // self.width))
        most_wide = tf.maximum(1, tf.minimum(width, height * self.width // self.height))
        top, left = (height - most_high) // 2, (width - most_wide) // 2
        return tf.image.crop_to_bounding_box(image, top, left, most_high, most_wide)


class LabelledFiles:
    """Image files with labels, as a set of rows that TensorFlow loads; see `LoadsInGraph`.

    Example:
        >>> rows = LabelledFiles(ImageFiles(64, 64), ["a.jpg", "b.jpg"], [0, 1])
        >>> image, label = rows.load(tf.constant(1, tf.int64))

    Args:
        files: How they are decoded.
        paths: The files.
        labels: The label of each. None: a row is an image alone.
        scaled: An image is float32 in 0..1, not uint8. To scale an image while it is in the cache
            takes less time than to scale a batch.
    """

    def __init__(
        self,
        files: ImageFiles,
        paths: Sequence[str],
        labels: Sequence[int] | None = None,
        *,
        scaled: bool = True,
    ) -> None:
        import tensorflow as tf

        self.files, self.paths, self.labels = files, list(paths), labels
        self.scaled = scaled
        with tf.device("/CPU:0"):
            self._paths = tf.constant(self.paths, tf.string)
            self._labels = None if labels is None else tf.constant(labels, tf.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, number: tf.Tensor) -> Any:
        """Return a row, in the graph."""
        import tensorflow as tf

        image = self.files.decoded(tf.gather(self._paths, number))
        image = image / 255.0 if self.scaled else tf.cast(image, tf.uint8)
        return image if self._labels is None else (image, tf.gather(self._labels, number))

    def explain(self, number: int) -> UserError | None:
        """Return why a row cannot be loaded, or None if it can."""
        import tensorflow as tf

        try:
            self.files.decoded(self.paths[number])
        except tf.errors.OpError as error:
            return UserError(
                f"{self.paths[number]} cannot be decoded: {_reason(error)}",
                where="data.dir",
                fix="Remove or replace it, or leave out all such files: data.on_error=skip.",
            )
        return None

    def readable(self) -> tuple[LabelledFiles, list[str]]:
        """Return the set without the files that cannot be decoded, and these; it decodes all."""
        import tensorflow as tf

        def check(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # With a pixel, without which TensorFlow would not decode at all.
            return number, self.files.decoded(tf.gather(self._paths, number))[0, 0, 0]

        numbers = tf.data.Dataset.range(len(self))
        checked = numbers.map(check, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
        good = [int(number) for number, _ in checked.as_numpy_iterator()]
        bad = sorted(set(range(len(self))) - set(good))
        labels = None if self.labels is None else [self.labels[number] for number in good]
        paths = [self.paths[number] for number in good]
        kept = self if not bad else LabelledFiles(self.files, paths, labels, scaled=self.scaled)
        return kept, [self.paths[number] for number in bad]


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", error)).splitlines()[0]
    text = text.partition("}} ")[2] or text
    return text.partition(" [Op:")[0][:160]
