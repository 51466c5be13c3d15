"""Selects and prepares the devices of a run."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache

import tensorflow as tf

from framework.config import TrainerConfig
from framework.core.cluster import member
from framework.devices.mirrored import MirroredReplicas
from framework.devices.multi_worker import WorkerReplicas
from framework.devices.replicas import Replicas
from framework.errors import UserError


def device_name(device: str) -> str:
    """Return TensorFlow's name of `auto` (the first GPU, else the CPU), `cpu`, `gpu`, or `gpu:1`.

    Example:
        >>> device_name("cpu")
        '/CPU:0'
    """
    match = re.fullmatch(r"(auto|cpu|gpu)(?::(\d+))?", device)
    if not match or (match[1] == "auto" and match[2]):
        raise UserError(
            f"unknown device {device!r}",
            where="trainer.device",
            fix="Give auto, cpu, gpu, or a numbered device: gpu:1.",
        )
    count = {kind: len(tf.config.list_logical_devices(kind.upper())) for kind in ("cpu", "gpu")}
    kind = ("gpu" if count["gpu"] else "cpu") if match[1] == "auto" else match[1]
    number = int(match[2] or 0)
    if number >= count[kind]:
        there = [f"{k}:{n}" for k in count for n in range(count[k])]
        raise UserError(
            f"this machine has no device {device!r}",
            where="trainer.device",
            fix=f"It has {', '.join(there)}. Give one of these, or auto.",
        )
    return f"/{kind.upper()}:{number}"


def prepare_devices(config: TrainerConfig) -> WorkerReplicas | None:
    """Set up memory growth, threads, logical CPUs and the cluster, before the first tensor.

    Returns the workers, if there are several.
    """
    for gpu in tf.config.list_physical_devices("GPU"):
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # a device in use keeps its setting
            break
    if config.device.startswith("gpu") and not tf.config.list_physical_devices("GPU"):
        raise UserError(
            f"this machine has no device {config.device!r}",
            where="trainer.device",
            fix="It has cpu:0, but no GPU that TensorFlow can use. Leave device out, or give cpu.",
        )
    if config.threads is not None:
        _set_threads(config.threads)
    if config.strategy == "multi_worker":
        if config.devices not in (1, "all") or config.device != "auto":
            raise UserError(
                "each worker of a cluster uses all devices that it can see",
                where="trainer.strategy=multi_worker",
                fix="Leave out trainer.devices and trainer.device; hide GPUs with "
                "CUDA_VISIBLE_DEVICES.",
            )
        return WorkerReplicas(member(), config.peers_seconds)
    if isinstance(config.devices, int) and config.devices > 1 and _kind(config) == "CPU":
        cpu = tf.config.list_physical_devices("CPU")[0]
        made = tf.config.get_logical_device_configuration(cpu) or [None]
        if len(made) < config.devices:
            logical = [tf.config.LogicalDeviceConfiguration() for _ in range(config.devices)]
            with suppress(RuntimeError):  # if TensorFlow has started, `open_replicas` raises
                tf.config.set_logical_device_configuration(cpu, logical)
    return None


def _set_threads(count: int) -> None:
    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(count)
        threading.set_inter_op_parallelism_threads(count)
    except RuntimeError:
        if threading.get_intra_op_parallelism_threads() != count:
            raise UserError(
                f"TensorFlow has already started in this process, without threads={count}",
                where="trainer.threads",
                fix="Create the Trainer before the first tensor, or leave threads out.",
            ) from None


def open_replicas(config: TrainerConfig) -> Replicas:
    """Return the devices of a run, or raise a UserError if this machine lacks them."""
    if config.devices == 1:
        return Replicas(device_name(config.device))
    if ":" in config.device:
        raise UserError(
            f"device={config.device} is one device, but devices={config.devices} asks for several",
            where="trainer.devices",
            fix="Give device=gpu or cpu, or leave devices at 1.",
        )
    kind = _kind(config)
    there = tf.config.list_logical_devices(kind)
    count = len(there) if config.devices == "all" else int(config.devices)
    if count > len(there):
        what = f"devices={count}, but there are {len(there)} {kind} devices"
        fix = "Give a count of at most that, or all."
        if kind == "CPU":
            fix = "Logical CPU devices must be created before TensorFlow starts: create the "
            fix += "Trainer before the first tensor and model."
        raise UserError(what, where="trainer.devices", fix=fix)
    if count == 1:
        return Replicas(device_name(config.device))
    return MirroredReplicas(_strategy(kind, count))


@lru_cache  # TensorFlow compares the strategy of a model by identity
def _strategy(kind: str, count: int) -> tf.distribute.Strategy:
    # Collective operations keep their group for the whole process: two runs with different numbers
    # of logical CPUs would share a group. On GPUs, NCCL is worth it.
    reduce = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    devices = [f"{kind}:{i}" for i in range(count)]
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduce)


def _kind(config: TrainerConfig) -> str:
    gpus = bool(tf.config.list_physical_devices("GPU"))
    return "GPU" if config.device.startswith("gpu") or (gpus and config.device == "auto") else "CPU"
