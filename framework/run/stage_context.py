"""The surroundings of every stage: isolation, devices, signals, and the run directory's lock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from framework.callback import RunView
from framework.core.lock import RunLock
from framework.core.signals import Signals
from framework.devices.host_sync import HostSync
from framework.devices.replicas import Replicas
from framework.devices.select import open_replicas
from framework.loop.evaluation import Evaluator
from framework.run.agreement import of_run
from framework.run.assembly import Components
from framework.run.hooks import Hooks
from framework.run.process_settings import isolated
from framework.run.stop_condition import StopCondition
from framework.sources.source import Source
from framework.step.anomaly import anomalies_detected, explain_anomaly
from framework.step.metric_sums import Accumulator
from framework.step.runner import StepRunner


class Stage:
    """One running stage of a trainer, and the objects that exist only during it.

    Attributes:
        signals: The signals, as given.
        replicas: The devices of the run.
        components: The data, models and optimizers.
        call: Calls the hooks.
        evaluator: Evaluates the data that the stage judges, if it has any.
        eval_variant: How evaluation loops are compiled.
        host_sync: The clock, while the stage is open.
        train: The accumulator of training values, while the stage is open.
    """

    host_sync: HostSync
    train: Accumulator

    def __init__(
        self, run: RunView, signals: Signals, workers: Replicas | None, data_info: dict[str, Any]
    ) -> None:
        self._run, self.signals = run, signals
        self.replicas = workers or open_replicas(run.config)
        self.components = Components(run.task, run.config, self.replicas, data_info)
        self.call = Hooks(run, run.callbacks)
        self.evaluator: Evaluator | None = None
        self.eval_variant = "eager" if run.config.engine == "eager" else "graph"
        self._stack, self._locked = ExitStack(), False

    @contextmanager
    def opened(self, stop_condition: StopCondition) -> Iterator[None]:
        """Run the stage for the body; an exception in it is recorded as the stage's ending."""
        config, stage = self._run.config, self._run.stage
        try:
            with (
                isolated(config.precision, deterministic=config.deterministic),
                self.replicas.scope(),
                self.signals.noted(),
                anomalies_detected() if config.detect_anomaly else nullcontext(),
                self._stack,
            ):
                task, callbacks = self._run.task, self._run.callbacks
                self.replicas.compare(
                    f"the beginning of {stage}", lambda: of_run(stage, config, task, callbacks)
                )
                self.train = Accumulator(self.replicas.log_room)
                self.host_sync = HostSync(self.signals, self.replicas)
                yield
        except Exception as error:
            step = self._run.progress.step
            when = f"at step {step + 1}" if stage == "fit" else f"in {stage}"
            if self._run.validating:
                when = f"in the validation after step {step}"
            explained = explain_anomaly(self.replicas.explain(error), when)
            stop_condition.fail(explained)
            if stage != "fit":  # `fit` calls it before `on_fit_end`
                self.call("on_exception", explained)
            raise explained from (error if explained is not error else error.__cause__)
        except BaseException as error:
            stop_condition.fail(error)
            if stage != "fit":
                self.call("on_exception", error)
            raise

    def make_evaluator(
        self, engine: StepRunner, sources: Mapping[str, Source], name: str
    ) -> Evaluator:
        """Return what evaluates data sets; their metrics start with `name`: `val` or `test`."""
        self.evaluator = Evaluator(
            engine,
            sources,
            name,
            variant=self.eval_variant,
            host_sync=self.host_sync,
            undrawn=self.components.undrawn,
            progress=lambda done, total: self.call("on_evaluation_progress", done, total),
        )
        return self.evaluator

    def lock(self, *, started: bool = True) -> None:
        """Lock the run directory until the stage ends; create it if the run has started."""
        run_dir = self._run.run_dir
        if run_dir is None or self._locked or not (started or run_dir.is_dir()):
            return
        run_dir.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(RunLock(run_dir))
        self._locked = True
