"""One worker of a cluster on localhost: `python worker_run.py <run_dir> <options as JSON>`.

Which one is told by the environment. Prints its weights' bytes, step and files when it is done.
Of the options, `lost_at` is the step in which the second worker is killed, `differ` are those that
the second worker has otherwise, `units` gives it another network, `pause` is how many seconds each
epoch lasts longer; the rest is the Trainer's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import sys
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from framework import Callback, Data, Every, TrainingFailed, UserError
from framework.cli.console import show_error
from framework.core.cluster import member


def main(run_dir: str, options: str) -> int:
    logging.basicConfig(level=logging.INFO)
    import keras
    import tensorflow as tf
    from helpers import Net, bits, blobs, make_trainer, noisy

    given = json.loads(options)
    lost_at, units = given.pop("lost_at", None), given.pop("units", False)
    pause = given.pop("pause", 0.0)
    number = member(os.environ).index
    given |= given.pop("differ", {}) if number else {}
    given.pop("differ", None)

    class Lost(Net):
        """A worker that is killed in the middle of a step, while the other one waits for it."""

        def train_step(self, batch: Any) -> Any:
            tf.numpy_function(self.end, [self.global_step], [])
            return super().train_step(batch)

        @staticmethod
        def end(step: int) -> None:
            if step == lost_at and member(os.environ).index == 1:
                os.kill(os.getpid(), signal.SIGKILL)

    class Pause(Callback):
        every = Every("1ep")

        def on_wake(self, run: Any) -> None:
            time.sleep(pause)

    def network() -> Any:
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3 + 2 * number)])

    kind = Net if lost_at is None else Lost
    try:
        given["callbacks"] = [Pause()] if pause else []
        trainer = make_trainer(strategy="multi_worker", run_dir=run_dir, **given)
        data = Data(train=blobs(43), val=blobs(13, seed=1), batch_size=8)
        metrics = trainer.fit(kind(network if units else noisy), data)
    except KeyboardInterrupt:
        return 130
    except (UserError, TrainingFailed) as error:
        show_error(error, debug=False)
        return 2 if isinstance(error, UserError) else 1
    digest = hashlib.sha256(b"".join(bits(trainer)[name] for name in sorted(bits(trainer))))
    weights = [w.ravel().tolist() for w in trainer.task.model.get_weights()]
    print("RESULT " + json.dumps([trainer.progress.step, metrics, digest.hexdigest(), weights]))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
