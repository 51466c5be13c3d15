"""Images as uint8 pixels and as PNG files."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from framework.errors import UserError


def as_pixels(name: str, images: Any) -> np.ndarray[Any, Any]:
    """Return images as uint8 of shape [count, height, width, channels].

    Args:
        name: What they show, for the message.
        images: Array of that shape: uint8, or floats, which are clipped to 0..1; 1 (grey), 3 (RGB)
            or 4 (RGBA) channels.

    Raises:
        UserError: If `images` is not such an array.
    """
    found = np.asarray(images)
    where = f"log_images({name!r})"
    if found.ndim != 4 or 0 in found.shape or found.shape[-1] not in (1, 3, 4):
        raise UserError(
            f"images have shape {list(found.shape)}",
            where=where,
            fix="Give [count, height, width, channels], with 1, 3 or 4 channels and at least one "
            "image: image[None, :, :, None] for a single grey image.",
        )
    if found.dtype == np.uint8:
        return found
    if "float" not in found.dtype.name:  # bfloat16 is not an np.floating
        raise UserError(
            f"images are {found.dtype.name}", where=where, fix="Give floats in 0..1, or uint8."
        )
    shown = np.nan_to_num(found.astype(np.float32).clip(0, 1))
    pixels: np.ndarray[Any, Any] = np.rint(shown * 255).astype(np.uint8)
    return pixels


def png(image: np.ndarray[Any, Any]) -> bytes:
    """Encode a uint8 image with 1, 3 or 4 channels as PNG.

    Example:
        >>> png(np.zeros((2, 2, 3), np.uint8))[1:4]
        b'PNG'
    """
    height, width, channels = image.shape
    colour = {1: 0, 3: 2, 4: 6}[channels]
    # Every row starts with its filter type: 0, no filter.
    rows = np.zeros((height, 1 + width * channels), np.uint8)
    rows[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    encoded = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        sum_of = struct.pack(">I", zlib.crc32(kind + content))
        encoded += struct.pack(">I", len(content)) + kind + content + sum_of
    return encoded
