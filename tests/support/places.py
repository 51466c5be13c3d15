"""Where things lie: the checkout, what tests share, checkpoints of earlier formats."""

from __future__ import annotations

from pathlib import Path

SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parents[1]
FORMATS = SUPPORT / "formats"
