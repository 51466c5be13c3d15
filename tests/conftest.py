"""What every test shares: several devices, a quiet TensorFlow, and quick garbage collection."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# TensorFlow's first calls are slow, and two cores are shared: a deadline would only be noise.
settings.register_profile("framework", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("framework")


def pytest_configure(config: pytest.Config) -> None:
    """Make several devices of one CPU, which can be made only before anything else."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # the process that only hands out the tests needs no TensorFlow

    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the longest test: at the end one process would wait for it."""
    items.sort(key=lambda item: "test_two_workers" not in item.name)


def pytest_collection_finish() -> None:
    """Look no more at what the imports have made when garbage is collected."""
    gc.collect()
    gc.freeze()


_TESTS_UNTIL_A_FREEZE = 20
_done = 0


def pytest_runtest_logfinish() -> None:
    """Do the same with what tests leave alive: else each collection takes seconds in the end."""
    global _done
    _done += 1
    if _done % _TESTS_UNTIL_A_FREEZE == 0:
        gc.collect()
        gc.freeze()
