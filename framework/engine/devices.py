"""Which device a run uses."""

from __future__ import annotations

import re

import tensorflow as tf

from framework.errors import UserError


def device_name(device: str) -> str:
    """Return TensorFlow's name of a device.

    Example:
        >>> device_name("cpu")
        '/CPU:0'

    Args:
        device: `auto` (the first GPU, else the CPU), `cpu`, `gpu`, or one by number: `gpu:1`.

    Raises:
        UserError: It is no such word, or this machine has no such device.
    """
    match = re.fullmatch(r"(auto|cpu|gpu)(?::(\d+))?", device)
    if not match or (match[1] == "auto" and match[2]):
        raise UserError(
            f"unknown device {device!r}",
            where="trainer.device",
            fix="Give auto, cpu, gpu, or a number with it: gpu:1.",
        )
    count = {kind: len(tf.config.list_logical_devices(kind.upper())) for kind in ("cpu", "gpu")}
    kind = ("gpu" if count["gpu"] else "cpu") if match[1] == "auto" else match[1]
    number = int(match[2] or 0)
    if number >= count[kind]:
        there = [f"{k}:{n}" for k in count for n in range(count[k])]
        raise UserError(
            f"this machine has no device {device!r}",
            where="trainer.device",
            fix=f"It has {', '.join(there)}. Choose one of them, or auto.",
        )
    return f"/{kind.upper()}:{number}"


def allow_memory_growth() -> None:
    """Let TensorFlow take GPU memory as it needs it, unless the devices are in use already."""
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # a device that is in use keeps the setting that it has
            return
