"""What every picture shares: when it is drawn, and where it goes."""

from __future__ import annotations

import logging
import numbers
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.callback import Callback
from framework.core.extras import require
from framework.core.figure_pixels import figure_pixels
from framework.core.safe_files import check_directory, replacing
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.callback import RunView

FOLDER = "pictures"
_log = logging.getLogger("framework")


def at_least_one(value: Any, where: str) -> int:
    """Return a whole number from 1 on.

    Raises:
        UserError: It is not one.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not (whole and value >= 1):
        name = where.rpartition(".")[2]
        raise UserError(f"{name} is {value!r}", where=where, fix="Give a whole number, 1 or more.")
    return int(value)


class Picture(Callback):
    """Base of the callbacks that draw.

    A picture goes to every logger, and as a PNG file into `pictures/` of the run directory, where
    it replaces the previous one of its name.

    Attributes:
        name: The last part of the picture's name in the logs, and the choice in `callbacks=`.

    Raises:
        UserError: matplotlib is not installed.
    """

    name = ""

    def __init__(self) -> None:
        require("matplotlib", "plots", what=self.name, where=f"callbacks.{self.name}")
        self._said = ""

    def on_setup(self, run: RunView) -> None:
        """Forget what another stage was told."""
        self._said = ""

    def show(self, run: RunView, stage: str, figure: Any) -> None:
        """Log a figure, and write it as PNG.

        Args:
            run: The run.
            stage: The first part of its name: `train`, `val`, `test`, or `val/<set>`.
            figure: The matplotlib figure.
        """
        import tensorflow as tf

        run.log_figure(f"{stage}/{self.name}", figure)
        if run.run_dir is not None:
            png = tf.io.encode_png(figure_pixels(figure)[..., :3]).numpy()
            self.write(run, stage, "png", png)

    def write(self, run: RunView, stage: str, kind: str, content: bytes) -> Path | None:
        """Write a file into `pictures/`, and remove the one of an earlier step."""
        if run.run_dir is None:
            return None
        folder = run.run_dir / FOLDER
        check_directory(folder)
        folder.mkdir(exist_ok=True)
        name = re.sub(r"[^\w.-]+", "_", f"{stage}-{self.name}".replace("/", "-"))
        path = folder / f"{name}-step-{run.progress.step:06d}.{kind}"
        with replacing(path) as file:
            file.write(content)
        for other in folder.glob(f"*.{kind}"):
            if other != path and re.fullmatch(rf"{re.escape(name)}-step-\d+", other.stem):
                other.unlink(missing_ok=True)
        return path

    def say(self, problem: UserError, names: str = "") -> None:
        """Warn once, in one line, that there is no picture; a run does not fail for one."""
        fix = " ".join(problem.fix.split())
        text = f"no {names or self.name}: {problem.what.rstrip('.')}. {fix}"
        if text != self._said:
            _log.warning("%s", text)
        self._said = text
