"""What every test shares: the checkout on the path, and a quiet TensorFlow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from hypothesis import settings

# Several devices where there is one CPU; they can be made only before anything else.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)

# `tasks` is a project beside the installed framework, as a user's own would be.
sys.path.insert(0, str(Path(__file__).parents[1]))

# TensorFlow's first calls are slow, and two cores are shared: a deadline would only be noise.
settings.register_profile("framework", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("framework")
