"""`engine=auto`: measures which variant is the fastest for a model on a machine."""

from __future__ import annotations

import logging
import os
import platform
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from framework.config import TrainerConfig
from framework.core.models_by_name import models_of
from framework.core.user_code import describe
from framework.core.versions import versions
from framework.every import Every
from framework.loop.compiled import Loop, Span
from framework.loop.tuning_cache import TuningCache, cache_directory
from framework.loop.variants import CannotCompile
from framework.step.runner import StepRunner

_log = logging.getLogger("framework")

SHARE, MOST_SECONDS = 0.1, 20.0  # limits: share of the expected run, and seconds
FEWEST_STEPS = 100  # a shorter run is not worth measuring
COMPILING = 5.0  # XLA compiles for about this many times as long as tracing takes,
CONVOLUTION = 0.7  # and this many seconds longer per convolution
WORTH = 1.05  # keep graph unless another variant is faster by this factor
ROUNDS = 3


class Tuner:
    """Choose the variant of the training loops.

    With `engine=auto`, if data and devices allow several variants, they run some steps in turn.
    That takes at most a tenth of the expected run and at most 20 s, including compilation.
    Afterwards every variable is restored bit for bit. The measurement is cached for this model,
    batch, precision and machine.

    Example:
        >>> tuner = Tuner(config, engine, loops, planned=15_630)
        >>> tuner.begin()                   # every loop now has the variant to trace first
        >>> for loop in loops.values():
        ...     loop.trace()
        >>> tuner.finish()                  # every loop now has the variant to run with
        >>> tuner.report
        {'source': 'measured', 'steps_per_second': {'graph': 8100.0, 'loop_xla': 48000.0}, …}
        >>> tuner.reason
        'graph 8,100, loop_xla 48,000 steps/s; measured in 1.9 s'

    Args:
        config: The trainer's options.
        engine: The runner of the steps.
        loops: The training loops by the number of accumulated batches; the winner replaces the
            first one.
        planned: Optimizer steps of the run. None: unknown.
        tuning_cache: Cache of measurements. Default: in the user's cache directory.
    """

    def __init__(
        self,
        config: TrainerConfig,
        engine: StepRunner,
        loops: dict[int, Loop],
        *,
        planned: int | None,
        tuning_cache: TuningCache | None = None,
    ) -> None:
        self._config, self._engine, self._loops, self._planned = config, engine, loops, planned
        self._tuning_cache = tuning_cache or TuningCache(cache_directory() / "engines.json")
        self._subject: dict[str, Any] | None = None
        self._began = 0.0
        self._kept: str | None = None
        self.report: dict[str, Any] = {}
        self.reason = ""

    def begin(self, kept: str | None = None) -> None:
        """Set the variant of every loop for the first trace.

        A resumed run has `kept` a variant, since others round differently.
        """
        self._kept, variant = kept, self._config.engine
        if kept is not None and self._config.retune:
            _log.info("the run resumes with engine=%s as before; only new runs are retuned", kept)
        if self._config.detect_anomaly and variant != "eager":
            variant = "graph"  # XLA has no checks
            self.reason = "detect_anomaly"
        elif variant == "auto":
            # If the run was eager before, compile it now, unless engine=eager is given again.
            if kept is not None:
                variant = "graph" if kept == "eager" else kept
                self.reason = "as when the run began"
            else:
                variant = self._cached_variant()
        for loop in self._loops.values():
            loop.variant = variant
        self._began = time.perf_counter()

    def finish(self) -> None:
        """Measure if it is enabled and worthwhile, and set the fastest variant of every loop."""
        now = next(iter(self._loops.values())).variant
        if self._kept not in (None, now):
            _log.warning("the run started with engine=%s; %s rounds differently", self._kept, now)
        if self._subject is None or self.report:
            return
        tracing, began = time.perf_counter() - self._began, time.perf_counter()
        graph = next(iter(self._loops.values()))
        try:
            graph.check_repeatable()  # measuring must not have side effects
        except CannotCompile as reason:
            self.report = {"source": str(reason)}
            self.reason = str(reason)
            return
        with _restored(graph):
            speed, budget = self._budget(graph)
            end = began + budget
            compiling = COMPILING * tracing + CONVOLUTION * graph.count("Conv")
            if time.perf_counter() + compiling > end:
                self.report = {"source": "a short run"}
                self._say("graph", "measuring others would take a tenth of the run")
                return
            loops = self._compiled(graph, speed, end, compiling)
            rates = _race(loops, end)
        seconds = time.perf_counter() - began
        winner = max(loops, key=lambda loop: rates[loop.variant])
        if rates[winner.variant] < WORTH * rates["graph"]:
            winner = graph
        measured = {"steps_per_second": rates, "seconds": round(seconds, 2)}
        self.report = {"source": "measured", **measured}
        entry = {"variant": winner.variant, "compiling": round(loops[winner], 2), **measured}
        self._tuning_cache.put(self._subject, entry)
        self._say(winner.variant, f"{_shown(rates)}; measured in {seconds:.1f} s")
        if winner is not graph:
            self._install(winner)

    def _nothing_to_choose(self) -> str | None:
        """Return why graph is the only choice, if it is."""
        if self._config.fast_dev_run:
            return "fast_dev_run"
        if self._engine.replicas.count > 1:
            return "several devices"
        if not all(loop.source.resident for loop in self._loops.values()):
            return "data that are not on the device"  # measuring would consume batches
        if self._planned is None and self._config.max_time is None:
            return "a run of unknown length"
        if self._planned is not None and self._planned < FEWEST_STEPS:
            return "a short run"
        return None

    def _cached_variant(self) -> str:
        """Return the cached variant, or graph if there is none or it is not worthwhile."""
        if reason := self._nothing_to_choose():
            self.report, self.reason = {"source": reason}, reason
            return "graph"
        self._subject = self._describe()
        found = None if self._config.retune else self._tuning_cache.get(self._subject)
        if found is None:
            return "graph"  # `finish` then measures
        try:
            variant, rates = str(found["variant"]), dict(found["steps_per_second"])
            gain = 1 / float(rates["graph"]) - 1 / float(rates[variant])
            pays = self._planned is None or self._planned * gain > float(found["compiling"])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return "graph"  # the entry is invalid: `finish` measures again
        self.report = {"source": "remembered", "steps_per_second": rates, "seconds": 0.0}
        variant = variant if pays else "graph"
        self._say(variant, f"{_shown(rates)}; measured in an earlier run")
        return variant

    def _say(self, variant: str, reason: str) -> None:
        """Record why a variant was chosen; where the summary shows it, only the log needs it."""
        self.reason = reason
        level = logging.DEBUG if self._config.enable_model_summary else logging.INFO
        _log.log(level, "engine=auto: %s (%s)", variant, reason)

    def _budget(self, graph: Loop) -> tuple[float, float]:
        """Return the graph's steps per second, and the seconds that measuring may take."""
        _seconds(graph, 1)  # TensorFlow optimizes a graph at its first call
        steps, took = _steps_within(graph, 0.05)
        expected = [] if self._planned is None else [self._planned * took / steps]
        if self._config.max_time is not None:
            expected.append(Every(self._config.max_time).seconds or 0.0)
        return steps / took, min(MOST_SECONDS, SHARE * min(expected))

    def _compiled(
        self, graph: Loop, speed: float, end: float, compiling: float
    ) -> dict[Loop, float]:
        """Compile other variants in the time left; return the seconds that each loop took."""
        took = {graph: 0.0}
        for variant in ("loop_xla", "step_xla"):
            began = time.perf_counter()
            if began + compiling > end:
                break
            loop = Loop(graph.source, graph.step, variant=variant, strict=True)
            try:
                loop.trace(_first_part(graph))
            except CannotCompile:
                continue
            _seconds(loop, 1)  # a jitted step is compiled here
            took[loop] = time.perf_counter() - began
            steps, seconds = _steps_within(loop, 0.05)
            if steps / seconds > speed:
                break  # the whole loop is faster, so step_xla is not faster still
        return took

    def _install(self, winner: Loop) -> None:
        first = next(iter(self._loops))
        for batches, loop in self._loops.items():
            if batches == first:
                self._loops[batches] = winner
                winner.strict = False
                winner.trace()
            else:
                loop.variant = winner.variant
                loop.forget()
                loop.trace()

    def _describe(self) -> dict[str, Any]:
        """Return the description of this run that identifies its measurement."""
        task, loop = self._engine.task, next(iter(self._loops.values()))
        models = models_of(task.model)
        update = self._engine.update
        optimizers = [] if update is None else list(update.optimizers)
        return {
            "task": f"{type(task).__module__}.{type(task).__qualname__}",
            "models": {
                name: [(tuple(v.shape), str(v.dtype), v.trainable) for v in model.variables]
                for name, model in models.items()
            },
            "optimizers": [type(each.optimizer).__name__ for each in optimizers],
            "batch": describe(loop.source.spec()),
            "pieces": loop.source.micro_rows,
            "precision": self._config.precision,
            "device": self._engine.replicas.device,
            "machine": (platform.node(), platform.machine(), os.cpu_count()),
            "versions": versions(),
        }


def _race(loops: Iterable[Loop], end: float) -> dict[str, float]:
    """Return the steps per second of each variant, measured in turn until `end`."""
    loops = list(loops)
    length = max(0.0, end - time.perf_counter()) / (2 * ROUNDS * len(loops))
    steps = {loop: _steps_within(loop, min(0.1, length / 2))[0] for loop in loops}
    rates: dict[Loop, list[float]] = {loop: [] for loop in loops}
    for _ in range(ROUNDS):
        for loop, count in steps.items():
            if not rates[loop] or time.perf_counter() < end:
                rates[loop].append(count / _seconds(loop, count))
    return {loop.variant: round(statistics.median(each), 1) for loop, each in rates.items()}


@contextmanager
def _restored(loop: Loop) -> Iterator[None]:
    """Restore every variable that a loop reads or writes, however the body ends."""
    before = [(variable, variable.numpy()) for variable in loop.variables]
    try:
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _first_part(loop: Loop) -> int:
    """Return the number of batches at the start of an epoch with the shape of the first."""
    return loop.source.parts(0, loop.source.steps or 1)[0][1]


def _seconds(loop: Loop, steps: int) -> float:
    began = time.perf_counter()
    loop.run(Span(epoch=0, start=0, stop=steps))
    return max(time.perf_counter() - began, 1e-9)


def _steps_within(loop: Loop, seconds: float) -> tuple[int, float]:
    """Return how many steps take about this long, and how long they took."""
    steps, most = 1, _first_part(loop)
    while True:
        took = _seconds(loop, steps)
        if took * 2 > seconds or steps == most:
            return steps, took
        steps = min(most, steps * 4)


def _shown(rates: Mapping[str, float]) -> str:
    shown = (f"{n} {rate:,.0f}" if rate >= 10 else f"{n} {rate:.2g}" for n, rate in rates.items())
    return ", ".join(shown) + " steps/s"
