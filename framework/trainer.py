"""`Trainer`: fit, validate, test, predict."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras

from framework.callback import Callback
from framework.checkpoint.retention import Retention
from framework.checkpoint.saver import Saver
from framework.checkpoint.store import CheckpointStore
from framework.config import TrainerConfig
from framework.core.codec import same
from framework.core.models import models_of
from framework.core.progress import Progress
from framework.core.signals import Signals
from framework.core.state import State
from framework.core.user_code import user_code
from framework.devices.select import prepare_devices
from framework.errors import UserError
from framework.every import Every
from framework.logger import Logger
from framework.loop.compiled import Loop
from framework.loop.evaluation import Evaluator, predict
from framework.loop.tuning import Tuner
from framework.run.agreement import of_built, of_data
from framework.run.default_callbacks import with_defaults
from framework.run.epochs import Epochs
from framework.run.judged_weights import averaged, in_words, noting_replaced, of_checkpoint, told
from framework.run.listener_checks import check_listeners, with_wrapped
from framework.run.metric_log import Logbook
from framework.run.profile import Profile
from framework.run.result import describe, laid_over, write_result
from framework.run.resume import (
    check_data,
    check_not_written_over,
    check_together,
    find_earlier,
    identity,
    prepare,
    resume,
    understood,
    warn_of_chance,
)
from framework.run.stage import Session
from framework.run.stop_condition import Ending
from framework.run.wakeup import Wakes
from framework.run.wakeup_plan import Schedule, Timers
from framework.schedules import bind_schedules
from framework.step.averaging import Average
from framework.step.keras_protocol import finalize, finalizes
from framework.task import Task

_log = logging.getLogger("framework")


class Trainer:
    """Trains, validates, tests and predicts with a task.

    Between two moments that somebody asked for (`log_every`, `val_every`, a callback's `every`)
    nothing happens in Python: the compiled loop runs the whole stretch.

    Example:
        >>> trainer = Trainer(max_epochs=5, precision="mixed_bfloat16", run_dir="runs/a")
        >>> trainer.fit(task, Data(train=(x, y), val_fraction=0.1))
        >>> trainer.test(task, Data(test=(x_test, y_test)))
        {'test/loss': 2.61, 'test/accuracy': 0.355}

    Args:
        callbacks: Added to the built-in ones and to the task's own.
        loggers: Where metrics go. They need a `run_dir`.
        run_dir: Where logs, checkpoints and `result.json` go; a run that was begun there is
            continued. Default: nothing is written.
        info: Further entries for `result.json`, such as the task's name in the configuration.
        **options: The fields of `framework.config.TrainerConfig`, such as `max_epochs`.

    Attributes:
        config: The options.
        progress: How far training has come.
        stage: `fit`, `validate`, `test` or `predict`.
        validating: Whether a validation is running.
        has_validation: Whether `fit` has anything to validate on.
        data_info: Where the data came from, and their rows.
        best: The best checkpoint: step, metric, value.
        weights: Whose weights each evaluation has judged, by `val`, `test` or `predict`: `last`,
            `best` of which metric, or `initial`; of which step; by which average.
        checkpoints: The run's checkpoints, or None where this process keeps none.
        already_complete: Whether `fit` found nothing left to do.
        profile: Where the wall time of the present stage goes.
        is_chief: Whether this process writes; of several workers only one does.

    Raises:
        UserError: An option that does not exist or is out of range.
    """

    def __init__(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        run_dir: str | Path | None = None,
        info: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        run_dir = check_listeners(callbacks, loggers, run_dir)
        self.config = self._options = TrainerConfig.of(options).effective()
        writes = run_dir is not None and not self.config.fast_dev_run
        self._workers = prepare_devices(self.config)  # before anything makes a tensor
        self.is_chief = self._workers is None or self._workers.is_chief
        self._store = CheckpointStore((run_dir or Path()) / "checkpoints")
        writes = writes and self.is_chief
        self.run_dir = run_dir if writes else None
        wanted = self.config.enable_checkpointing and not self.config.fast_dev_run
        self._continues = run_dir is not None and wanted
        self.checkpoints = self._store if self._continues and self.is_chief else None
        self._saver = Saver(self._store)
        self._place = None if run_dir is None else os.path.realpath(run_dir)
        self.callbacks: list[Callback] = []
        self.progress = Progress()
        self.stage = ""
        self.data_info: dict[str, Any] = {}
        self.best: dict[str, Any] | None = None
        self.weights: dict[str, dict[str, Any]] = {}
        self.has_validation = self.validating = self.already_complete = False
        self.task: Any = None
        self._given_callbacks, self._info = with_wrapped(callbacks), dict(info or {})
        self._ending, self._signals = Ending(self.config), Signals()
        self._logbook = Logbook(loggers if writes else (), self.progress)
        self._session: Any = None
        self._wakes: Any = None
        self._epochs: Any = None
        self._loops: dict[int, Loop] = {}
        self._tuner: Any = None
        self.profile = Profile()
        self._begun_from: str | None = None
        self._step_seconds, self._examples_run, self._busy = 0.0, 0, False

    def fit(
        self,
        task: Task,
        data: Any = None,
        checkpoint: str | None = None,
        *,
        weights_only: bool = False,
    ) -> dict[str, float]:
        """Train a task, to the end or on from where its run directory stands.

        Args:
            task: What to learn.
            data: A `Data`. Default: what `task.build_data` returns.
            checkpoint: Begin with the state of this one: `last`, `best`, a step or a path.
                Default: the run directory's last one, if there is any. A run that was begun
                from another's checkpoint is continued from its own.
            weights_only: Take only the weights of `checkpoint`, where name and shape fit, and
                begin a new run with them.

        Returns:
            The latest value of every metric, such as `train/loss` and `val/accuracy`.

        Raises:
            UserError: The configuration, the data or the task's code is at fault, or another
                process is writing to the run directory.
            TrainingFailed: The loss became NaN, or an operation's result with `detect_anomaly`.
            KeyboardInterrupt: Ctrl-C, after a checkpoint was saved.
            SystemExit: SIGTERM, likewise, with code 143.
        """
        with self._working("fit", task):
            schedule = self._prepare_fit(task, data)
            self._session.lock(begun=False)
            self._begun_from = checkpoint and str(checkpoint)
            if self.run_dir is not None and not self._continues:
                check_not_written_over(self.config, self.run_dir)
            if self.checkpoints is not None:
                self.checkpoints.recover()
            earlier = find_earlier(
                self.config,
                self._store,
                checkpoint,
                identity=self._identity(),
                own=self._continues,
                fits=self._setup.check_fits,
                weights_only=weights_only,
            )
            self._tuner.begin(kept=earlier and earlier.engine)
            prepare(self._setup, earlier)
            with self.profile("compiling"):
                self._evaluator.trace()
            for loop in self._loops.values():
                where = f"{type(task).__name__}.train_step"
                with self.profile("compiling"), user_code(where, loop.source.spec):
                    loop.trace()
            with self.profile("compiling"):
                self._tuner.finish()
            if self._continues:
                warn_of_chance(self._loops.values())
                self._check_written()
            resume(self, earlier)
            del earlier  # it holds the arrays of a whole checkpoint
            with self._fitting():
                progress, epochs = self.progress, self._epochs
                while self._wants_epoch():
                    self._call("on_epoch_start")
                    self._wakes.answer_what_was_left()
                    while self._wants_stretch():
                        self._call("on_train_batch_start")
                        stop = self._session.pulse.nearest(epochs.next_stop(schedule))
                        last = progress.batch + stop - progress.step
                        began = time.perf_counter()
                        with self.profile("steps"):
                            steps, examples = epochs.loop.run(
                                progress.epoch, progress.batch, last, progress.step
                            )
                        seconds = self._session.pulse.beat(time.perf_counter() - began)
                        schedule.measured(steps, seconds)
                        self._advance(steps, examples, seconds, ended=progress.batch + steps < last)
                        self._call("on_train_batch_end")
                        self._wakes.answer()
                    if self.status != "interrupted":
                        self._call("on_epoch_end")
        return self.metrics

    def validate(
        self, task: Task, data: Any = None, checkpoint: str | None = None
    ) -> dict[str, float]:
        """Judge a task on its validation data.

        Args:
            task: Whose model to judge.
            data: A `Data`. Default: what `task.build_data` returns.
            checkpoint: Whose weights: `last`, `best`, a step or a path. Default: those that this
                process has given to the task by `fit` or by a checkpoint; for a task that it has
                not, the run's best checkpoint, else its last; without a run, the initial ones.

        Returns:
            Metrics by full name, such as `val/accuracy`.
        """
        return self._evaluate("validate", "val", task, data, checkpoint)

    def test(self, task: Task, data: Any = None, checkpoint: str | None = None) -> dict[str, float]:
        """Judge a task on its test data; see `validate`."""
        return self._evaluate("test", "test", task, data, checkpoint)

    def predict(self, task: Task, data: Any = None, checkpoint: str | None = None) -> Any:
        """Return what the model says of every example.

        Args:
            task: Whose `predict_step` to use.
            data: A `Data`; its `predict`, else `test`, else `val` set is used.
            checkpoint: See `validate`.

        Returns:
            A nest of NumPy arrays, as `predict_step` gives, with one row for each example.
        """
        with self._working("predict", task):
            sources = self._setup.open_eval(data, "predict", 1.0)
            engine = self._setup.engine_for(sources, "predict_step", self._logbook.train)
            self._call("on_setup")
            self._load_weights(checkpoint, "predict")
            self._call("on_predict_start")
            where = f"{type(task).__name__}.predict_step"
            outputs = {}
            for number, (name, source) in enumerate(sources.items()):
                with (
                    user_code(where, source.spec),
                    self._setup.averaged(),
                    self._setup.undrawn(None),
                    self._signals.deferred(),
                ):
                    outputs[name] = predict(
                        partial(engine.predict_step, number),
                        source,
                        eager=self._session.eval_variant == "eager",
                        interrupted=self._session.pulse.interrupted,
                    )
            self._call("on_predict_end")
            self._ending.end("completed", "predict finished")
        return outputs[""] if list(outputs) == [""] else outputs

    def stop(self, reason: str) -> None:
        """End training after the present wake-up, on purpose.

        Args:
            reason: Why, as a sentence for the log and `result.json`.
        """
        self._ending.end("stopped", reason)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Give values, by full name, to the loggers at the present step."""
        with self.profile("logging"):
            self._logbook.log(metrics)

    def log_text(self, name: str, text: str) -> None:
        """Give a text to the loggers."""
        for logger in self._logbook.loggers:
            logger.log_text(name, text, self.progress.step)

    def log_images(self, name: str, images: Any) -> None:
        """Give images to the loggers: [count, height, width, channels], floats in 0..1 or uint8."""
        for logger in self._logbook.loggers:
            logger.log_images(name, images, self.progress.step)

    def save_checkpoint(
        self,
        *,
        wait: bool = True,
        judged: dict[str, Any] | None = None,
        permanent: bool = False,
        retention: Retention | None = None,
    ) -> Path | None:
        """Save the whole state of the run, from which the same command continues.

        Args:
            wait: Return when it is on the disk. Otherwise only the state is copied, and a thread
                writes it; what goes wrong then is logged.
            judged: The metric that makes it the best or not; see `CheckpointStore.save`.
            permanent: Never delete it.
            retention: Which checkpoints to keep now. Default: all.

        Returns:
            Where it is, or None where none are kept.

        Raises:
            OSError: It cannot be written, and somebody waits.
            UserError: The run directory is gone, or nothing was fitted yet.
        """
        if not self._continues or self._ending.broken:
            return None
        if self._wakes is None:
            raise UserError(
                "there is nothing to save yet",
                where="Trainer.save_checkpoint",
                fix="Call it in fit, from a callback or the task, or afterwards.",
            )
        with self.profile("saving"):
            # Reading metrics takes all workers, writing only one.
            state = self._wakes.final or self.state()
            if self.checkpoints is None:
                return None
            about = {"judged": judged, "permanent": permanent}
            return self._saver.save(self.progress.step, state, retention, wait=wait, **about)

    def hold_state(self) -> None:
        """Have checkpoints hold the run as it is now, whatever is done to it until `fit` returns.

        For `on_fit_end` of a callback that changes the weights at the end: a run that is given a
        later end then goes on from those that training left.
        """
        if self._continues and not self._ending.broken:
            self._wakes.final = self._wakes.final or self.state()

    @property
    def holds_state(self) -> bool:
        """Whether checkpoints hold the run as it was before it came to its end."""
        return self._wakes is not None and self._wakes.final is not None

    def measured_at(self, name: str) -> int | None:
        """Return the step at which a metric was last measured, or None if it never was."""
        return self._logbook.measured.get(name)

    def keras_metric(self, name: str) -> Any:
        """Return the Keras metric that is logged by a full name such as `val/auc`, or None."""
        stage, _, rest = name.partition("/")
        own = self._logbook.train.keras_metrics if stage == "train" else {}
        found = own.get(rest.removesuffix("_epoch")) or self._evaluator.keras_metrics.get(name)
        return found or (self.task.metrics or {}).get(rest.rpartition("/")[2])

    def steps_not_finite(self, name: str) -> int | None:
        """Return in how many steps of the last training row a value was NaN or infinite.

        Args:
            name: Its full name, such as `train/loss`.

        Returns:
            How many, or None where a step logs it several times.
        """
        if self.config.accumulates:
            return None
        devices: int = self._session.replicas.count  # each of them counts
        return math.ceil(self._logbook.not_finite.get(name, 0.0) / devices)

    def epoch_so_far(self) -> dict[str, float]:
        """Return the training metrics' means over the present epoch; reads them from the device."""
        return self._logbook.epoch_so_far()

    def add_average(self, name: str, average: Average) -> None:
        """Keep an average beside the weights, renewed with them; to be called in `on_setup`."""
        self._setup.add_average(name, average)

    def recompile(self) -> None:
        """Have the training step compiled anew, since other weights are trainable now."""
        for loop in self._loops.values():
            loop.forget()
        if not self.task.automatic_optimization:  # its evaluation may train as well
            self._evaluator.forget()

    def _check_written(self) -> None:
        internal = [*self._logbook.train.variables, *self._evaluator.internal]
        self._setup.check_written(internal)

    def _written(self) -> dict[int, str]:
        """Return what the compiled steps write, by handle."""
        found: dict[int, str] = dict(self._evaluator.written)
        for loop in self._loops.values():
            found |= loop.written
        return found

    def _forget_compiled(self) -> None:
        for loop in self._loops.values():
            loop.forget()
        self._evaluator.forget()

    @property
    def optimizers(self) -> dict[str, keras.Optimizer]:
        """The optimizers by name; a single one is called `optimizer`. Empty outside `fit`."""
        update = None if self._session is None else self._setup.update
        return {} if update is None else {o.name: o.optimizer for o in update.optimizers}

    @property
    def metrics(self) -> dict[str, float]:
        """The latest value of every metric by its full name; `train/…` is the last epoch's."""
        return self._logbook.latest

    @property
    def engine(self) -> str:
        """How the training loop is compiled: `graph`, `step_xla`, `loop_xla` or `eager`."""
        return next(iter(self._loops.values())).variant if self._loops else self.config.engine

    @property
    def status(self) -> str:
        """`running`, `completed`, `stopped`, `interrupted` or `failed`."""
        return self._ending.status

    @property
    def stop_reason(self) -> str:
        """Why the run ended, as a sentence; empty while it runs."""
        return self._ending.reason

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of the present epoch, or None while that is unknown."""
        return None if self._epochs is None else self._epochs.expected

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps planned in all, or None where that cannot be told."""
        return None if self._epochs is None else self._epochs.total_steps()

    @property
    def metric_names(self) -> set[str]:
        """The full names of what the compiled steps log; empty in the eager engine."""
        if self.config.engine == "eager":
            return set()  # only some are known, and only where a run goes on
        train = {f"train/{name}" for name in self._logbook.train.names}
        return train | {f"{name}_epoch" for name in train} | self._evaluator.names

    @property
    def recovers_from_overflow(self) -> bool:
        """Whether a loss scale skips updates that are not finite, and can still go lower."""
        scale = self._setup.loss_scale
        return scale is not None and float(scale.value) > 1.0

    def state(self) -> State:
        """Return everything that changes during training and influences it."""
        return {
            "engine": self.engine,
            "config": self._identity(),
            "begun_from": self._begun_from,
            "closing": {},  # metrics that were measured only because the run ended
            "data": self.data_state(self.progress.epoch),
            **{name: part.state() for name, part in self._parts.items()},
            **self._setup.state(),
        }

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        before = self._setup.constants()
        self._setup.load_state(state)
        if not same(before, self._setup.constants()):
            self._forget_compiled()
        for name, part in self._parts.items():
            part.load_state(state[name])
        self._wakes.closing = dict(state["closing"])
        self._begun_from = self._begun_from or state.get("begun_from")

    def load_fitting(self, state: State) -> list[tuple[str, str]]:
        """Take over the weights that fit; see `Setup.load_fitting`."""
        before = self._setup.constants()
        report: list[tuple[str, str]] = self._setup.load_fitting(state)
        if not same(before, self._setup.constants()):
            self._forget_compiled()
        return report

    @property
    def at_epoch_end(self) -> bool:
        """Whether the present wake-up is the last of its epoch; `on_epoch_end` follows."""
        return bool(self._epochs.over)

    def result(self) -> dict[str, Any]:
        """Return what `result.json` holds."""
        rate = self._examples_run / self._step_seconds if self._step_seconds else None
        return {
            "status": self.status,
            "stop_reason": self.stop_reason,
            "task": type(self.task).__name__,
            **describe(self.config, self.progress),
            "engine": self.engine,
            "tuning": (self._tuner and self._tuner.report) or None,
            "metrics": self.metrics,
            "best": self.best,
            "weights": self.weights,
            "data": self.data_info,
            "device": self._setup.replicas.device.strip("/"),
            "examples_per_second": rate and round(rate, 1),
            "time_in_steps": round(self.profile.share("steps"), 3),
            **self._info,
        }

    def _identity(self) -> dict[str, Any]:
        """Return what decides what the run computes, as checkpoints hold it."""
        return identity(self.config) | dict(self._setup.made_optimizers)

    def data_state(self, epoch: int) -> State:
        """Return what tells whether a run is continued on the same data."""
        steps = None if self._epochs is None else self._epochs.steps_in(epoch)
        return {"rows": self.data_info.get("train_rows"), "steps": steps}

    # ---- the parts of fit, in the order in which it uses them

    @contextmanager
    def _working(self, stage: str, task: Task) -> Iterator[None]:
        """Everything around a run: isolation, device, signals, and the result at its end."""
        if not isinstance(task, Task):
            raise UserError(
                f"{task!r} is no Task",
                where=f"Trainer.{stage}",
                fix="Give an instance of a subclass of framework.Task.",
            )
        if self._busy:
            raise UserError(
                f"{stage} was called while {self.stage} is at work",
                where=f"Trainer.{stage}",
                fix="Call it afterwards, or give a second Trainer; trainer.stop(reason) ends fit.",
            )
        self.stage, self.task, task.trainer, self.profile = stage, task, self, Profile()
        if stage == "fit":
            self.data_info = {}
        self.config = self._options.for_task(type(task).__name__, needs_eager=task.needs_eager)
        former, self._ending = self._ending, Ending(self.config)
        self.callbacks = with_defaults(
            [*with_wrapped(task.configure_callbacks()), *self._given_callbacks],
            self.config,
            is_chief=self.is_chief,
        )
        self._session = Session(self, self._signals, self._workers)
        self._call, self._setup = self._session.call, self._session.setup
        self._busy = True
        try:
            with self._session.opened(self._ending):
                self._logbook.train = self._session.train
                yield
        finally:
            self._busy = False
            if stage != "fit" and self._examples_run and self.status == "completed":
                self._ending = former  # that a test went well is not how training ended
            self._logbook.close()
            if self.run_dir and self.run_dir.is_dir():
                path = self.run_dir / "result.json"
                trained = self.progress.step > 0 and (stage == "fit" or self._examples_run > 0)
                trained = trained and not (stage == "fit" and self.already_complete)
                write_result(path, laid_over(path, self.result(), whole=trained))
            task.runtime.context = task.runtime.open_batches = None
        self._signals.raise_received(self._session.pulse.received)

    def _prepare_fit(self, task: Task, data: Any) -> Schedule:
        """Bring everything together, before anything runs or is written."""
        config = self.config
        self._logbook.latest, self._logbook.measured = {}, {}
        self.best, self.weights = None, {}
        self._examples_run, self._step_seconds = 0, 0.0
        with self.profile("data"):
            sources, val_sources = self._setup.open_fit(data)
        compare = self._session.replicas.compare
        compare("the data", lambda: of_data("train", sources) | of_data("val", val_sources))
        source = next(iter(sources.values()))
        if self._continues:
            check_data(source, config)
        for each in sources.values():
            each.check = self._signals.raise_received
        if config.profiler == "simple" and self._session.replicas.count == 1:
            for each in sources.values():
                each.time_waits()
        with self.profile("building"):
            engine = self._setup.engine_for({"": source}, "train_step", self._logbook.train)
        compare("the models", lambda: of_built(models_of(task.model), self.optimizers))
        self._loops = {
            batches: Loop(
                each,
                engine.taking(each.micro_rows, each.rows_axis).train_step,
                replicas=self._session.replicas,
            )
            for batches, each in sources.items()
        }
        self.progress.load_state(Progress().state())
        self._epochs = Epochs(config, self.progress, self._loops)
        self.has_validation = bool(val_sources) and config.val_every is not None
        self._evaluator = Evaluator(
            engine,
            val_sources,
            "val",
            variant=self._session.eval_variant,
            pulse=self._session.pulse,
            undrawn=self._setup.undrawn,
        )
        # By hand a step may make any number of updates, which is what schedules count.
        planned = self.total_steps if task.automatic_optimization else None
        bind_schedules(self.optimizers, planned, self._epochs.length)
        self._call.begin()
        self._call("on_setup")
        self._setup.written = self._written
        if self._continues:
            for loop in self._loops.values():
                loop.on_write = self._check_written
            self._evaluator.on_write(self._check_written)
        self._tuner = Tuner(config, engine, self._loops, planned=self.total_steps)
        every: dict[str, Every | None] = {"log": Every(config.log_every)}
        every["val"] = Every(config.val_every) if config.val_every and val_sources else None
        every |= {name: callback.every for name, callback in self._call.named.items()}
        timers = Timers(every, self._session.pulse.now)
        self._parts = {
            "progress": self.progress,
            "ending": self._ending,
            "epochs": self._epochs,
            "timers": timers,
            "logbook": self._logbook,
            "callbacks": self._call,
        }
        every_batch = self._call.every_batch or config.detect_anomaly
        self._wakes = Wakes(
            self, self._session, self._ending, self._logbook, self._epochs, timers, self._evaluator
        )
        return Schedule(timers.all(), every_batch=every_batch)

    @contextmanager
    def _fitting(self) -> Iterator[None]:
        """The hooks at both ends of fit, however it ends."""
        step = self.progress.step
        check_together(self._session.replicas, step, self._store, keeps=self._continues)
        self._began = self._session.pulse.now() - self.progress.seconds
        self.already_complete = step > 0 and self._wakes.is_over()
        self._session.lock()
        self._logbook.open(self.run_dir, self._last_logged())
        with self._signals.deferred():
            try:
                self._call("on_fit_start")
                self._say_if_complete(step)
                if self._session.replicas.workers > 1 and not step:
                    self.save_checkpoint()  # so that there is one, however soon a worker is lost
                if self.config.sanity_val_steps and self.has_validation and not step:
                    self._evaluator.run(most=self.config.sanity_val_steps)
                yield
            except BaseException as error:
                self._ending.fail(error)
                self._call("on_exception", error)
                raise
            finally:
                self._wakes.note_closing()
                step = self.progress.step
                self.task.runtime.weights = {"weights": "last", "step": step, "run": self._place}
                self._finalize_weights()
                if self.has_validation:
                    names = self._setup.averages_in_place
                    judged = {"weights": "last", "step": max(self._epochs.validated, 0)}
                    self.weights["val"] = averaged(judged, names)
                with noting_replaced(self.task):
                    self._call("on_fit_end")
                if self._ending.broken:
                    self._saver.wait()
                else:
                    with self.profile("saving"):
                        self._saver.finish()
                if self.config.profiler == "simple":
                    _log.info("where the time went\n%s", self.profile.table())
                if self.status != "failed" and not self.already_complete:
                    _log.info("%s: %s", self.status, self.stop_reason)  # an error speaks for itself

    def _finalize_weights(self) -> None:
        """Let optimizers set the weights' final values; a run goes on from those of training."""
        optimizers = self._setup.update.optimizers
        if self.status in ("completed", "stopped") and finalizes(optimizers):
            self.hold_state()
            finalize(optimizers)
            self._wakes.note_finalized(self._setup.weights)
            self.task.runtime.weights = averaged(self.task.runtime.weights, ["the optimizer"])

    def _last_logged(self) -> int | None:
        """Return the last step whose rows stay when the run goes on. None: all of them."""
        if self.already_complete:
            return None
        return self.progress.step - (self.progress.pending in ("log", "end"))

    def _say_if_complete(self, step: int) -> None:
        self.already_complete = step > 0 and self._wakes.is_over()
        if self.already_complete:
            self._logbook.latest.update(self._wakes.closing)
            _log.info("already complete: %s (step %s)", self.stop_reason, f"{step:,}")

    def _wants_epoch(self) -> bool:
        if self._wakes.is_over():
            return False
        self._epochs.begin()
        if self.progress.batch == 0:
            self._logbook.start_epoch()
        return True

    def _wants_stretch(self) -> bool:
        return not (self._epochs.over or self.stop_reason)

    def _advance(self, steps: int, examples: int, seconds: float, *, ended: bool) -> None:
        self.progress.seconds = self._session.pulse.now() - self._began
        self._examples_run += examples
        self._step_seconds += seconds
        self.profile.move(self._epochs.loop.source.waited(), "steps", "data")
        self._epochs.advance(steps, examples, ended=ended)

    # ---- shared by all stages

    def _evaluate(
        self, stage: str, name: str, task: Task, data: Any, checkpoint: str | None
    ) -> dict[str, float]:
        with self._working(stage, task):
            limits = {"val": self.config.limit_val_batches, "test": self.config.limit_test_batches}
            sources = self._setup.open_eval(data, name, limits[name])
            engine = self._setup.engine_for(sources, "eval_step", self._logbook.train)
            self._call("on_setup")
            self._load_weights(checkpoint, name)
            evaluator = Evaluator(
                engine,
                sources,
                name,
                variant=self._session.eval_variant,
                pulse=self._session.pulse,
                undrawn=self._setup.undrawn,
            )
            evaluator.trace()
            hook = "validation" if name == "val" else name
            self._call(f"on_{hook}_start")
            with self._setup.averaged(), self._signals.deferred():
                metrics = evaluator.run(self.progress.step)
            if not self._session.pulse.interrupted():
                self._session.lock()
                self._logbook.open(self.run_dir, None)
                if stage == "test":
                    self._logbook.forget("test")
                self.log_metrics(metrics)
                self._call(f"on_{hook}_end", metrics)
                self._ending.end("completed", f"{stage} finished")
            else:
                self._ending.end("interrupted", f"a signal during {stage}")
        return metrics

    def _load_weights(self, checkpoint: str | None, name: str) -> None:
        """Have the task's model hold the weights to judge, and say whose they are.

        Args:
            checkpoint: As it was asked for. None: those that this process has given to the task,
                else the run's best, else its last.
            name: The stage in metric names.
        """
        task = self.task
        run_has_some = self._continues and bool(self._store.steps())
        if checkpoint is None and task.runtime.weights is None and run_has_some:
            checkpoint = str(self._store.favourite())
        if checkpoint is not None:
            path = self._store.find(checkpoint)
            state = self._store.load(path, self._setup.check_fits)
            with understood(path):
                finalized = dict(state.get("finalized", {}))
                self._setup.load_weights({**state, **finalized})
                self.progress.load_state(state["progress"])
            task.runtime.weights = averaged(
                of_checkpoint(path), ["the optimizer"] if finalized else []
            )
        self.weights[name] = told(task.runtime.weights, self._place, self._setup.averages_in_place)
        level = logging.INFO if task.runtime.weights else logging.WARNING
        _log.log(level, "%s: %s", self.stage, in_words(self.weights[name]))
