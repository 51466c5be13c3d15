"""What every test shares: the checkout on the path, and a quiet TensorFlow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# `tasks` is a project beside the installed framework, as a user's own would be.
sys.path.insert(0, str(Path(__file__).parents[1]))

# TensorFlow's first calls are slow, and two cores are shared: a deadline would only be noise.
settings.register_profile("framework", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("framework")
