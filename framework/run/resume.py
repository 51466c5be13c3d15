"""Going on from a checkpoint, on one worker or on several."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from framework.checkpoint.store import CheckpointStore, Fits
from framework.config import TrainerConfig, options_with
from framework.core.paths import local_path
from framework.core.same import same
from framework.core.state import LOADED, State, check_same_data
from framework.errors import UserError
from framework.text.tables import table

if TYPE_CHECKING:
    from framework.devices.replicas import Replicas
    from framework.loop.compiled import Loop
    from framework.run.components import Components
    from framework.sources.source import Source

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run begins with.

    Attributes:
        path: Where it is.
        state: What it holds.
        mine: It is of the very run that goes on.
        weights_only: A new run takes only its weights.
    """

    path: Path
    state: State
    mine: bool = False
    weights_only: bool = False

    @property
    def engine(self) -> str | None:
        """The engine variant that goes on, since others round differently. None: any."""
        return None if self.weights_only else str(self.state.get("engine", "graph"))


class Resumable(Protocol):
    """What a checkpoint is loaded into."""

    def data_state(self, epoch: int) -> State:
        """Return what tells whether a run is continued on the same data."""

    def load_state(self, state: State) -> None:
        """Take a whole state."""

    def load_fitting(self, state: State) -> list[tuple[str, str]]:
        """Take over the weights that fit; say what became of each."""


def find_resume_point(
    config: TrainerConfig,
    store: CheckpointStore,
    which: str | None,
    *,
    identity: Mapping[str, Any],
    own: bool,
    fits: Fits,
    weights_only: bool = False,
) -> ResumePoint | None:
    """Read the checkpoint that a run is to begin with, if there is one.

    Args:
        config: What `resume` of it allows.
        store: Where the run's own checkpoints are.
        which: `last`, `best`, a step or a path. None: the run's last one, if there is any.
        identity: What decides what the run computes; see `identity`.
        own: Whether the run continues what is in `store` at all.
        fits: Refuses a state of other shapes than the run's; see `CheckpointStore.load`.
        weights_only: Begin a new run with the weights of `which` that fit.

    Raises:
        UserError: There is none of that name, it is of another configuration, or `resume` of the
            configuration forbids what is asked for.
    """
    which = None if which is None else str(local_path(str(which), "checkpoint"))
    there = own and bool(list(store.directory.glob("step-*")))
    _check_wanted(config.resume, there, store)
    if weights_only and not there:
        if which is None:
            raise UserError(
                "weights_only needs a checkpoint to take them from",
                where="weights_only=true",
                fix="Give checkpoint=<the path of a run or of a step-… directory>.",
            )
        path = store.find(which)
        return ResumePoint(path, store.load(path), weights_only=True)
    first = fits if which is None else None  # that of the run need not be the one to load
    newest, state = (store.load_newest(first) if there else None) or (None, None)
    if newest is None and which is None:
        return None
    # What a run was begun from is not begun from again.
    mine = which is None or weights_only or (there and not _is_of(which, store))
    begun_from: str | None = state.get("begun_from") if state else None
    if begun_from is not None:
        mine = mine or str(local_path(begun_from, "checkpoint")) == which
    if state is None or newest is None or not mine:
        newest = store.find(str(which))
        state = store.load(newest, fits)
    if mine:
        with understood(newest):
            _check_same_run(state.get("config", {}), identity, store)
    return ResumePoint(newest, state, mine=mine)


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn what a state of missing or strange parts leads to into a `UserError`.

    Args:
        path: The checkpoint that the body takes its state from.
    """
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        about = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(
            f"the checkpoint does not hold what this run needs: {about}",
            where=str(path),
            fix="Choose another one: checkpoint=<step>, or begin anew in another run_dir=. "
            "-v shows the traceback.",
        ) from error


def prepare(components: Components, start: ResumePoint | None) -> None:
    """Give models what compiled steps take for constant, before they are compiled.

    Args:
        components: Its models are built.
        start: What a run is to begin with, if anything.

    Raises:
        UserError: It is of other models.
    """
    if start is not None and not start.weights_only and components.constants():
        with understood(start.path):
            components.load_models(start.state)


def resume(run: Resumable, start: ResumePoint | None) -> None:
    """Load a checkpoint into a run that is about to fit.

    Args:
        run: Its models and optimizers are built, its steps are traced.
        start: What to load, if anything.

    Raises:
        UserError: It is of other data.
    """
    if start is None:
        return
    state = start.state
    if start.weights_only:
        with understood(start.path):
            _load_weights(run, start)
        return
    with understood(start.path):
        epoch, batch = int(state["progress"]["epoch"]), int(state["progress"]["batch"])
        then = state.get("data", {})
        check_same_data(then, run.data_state(epoch), batch=batch, own=start.mine)
        run.load_state(state)
    step = int(state["progress"]["step"])
    _log.info("continuing from %s, at step %s", start.path, f"{step:,}")


def warn_of_chance(loops: Iterable[Loop]) -> None:
    """Say so if training steps draw random numbers that no checkpoint can hold."""
    kinds = sorted({kind for loop in loops for kind in loop.random_operations})
    if kinds:
        _log.warning(
            "train_step draws from TensorFlow's own random numbers (%s), which no checkpoint "
            "holds: a continued run is not the same bit for bit. Use keras.random or "
            "tf.random.stateless_…",
            ", ".join(kinds),
        )


def check_data(source: Source, config: TrainerConfig) -> None:
    """Refuse data that a run could not be continued on, before it begins.

    Args:
        source: The training set of a run that keeps checkpoints.
        config: Says whether that is accepted.

    Raises:
        UserError: It is not.
    """
    if source.obstacle and config.resume_data == "exact":
        raise UserError(
            f"a run on this training set could not be continued exactly: {source.obstacle}",
            where="data.train",
            fix="Mend that (docs/resuming.md says how), or accept it by resume_data=restart: "
            "continued in mid-epoch, the data then begin anew.",
        )


def identity(config: TrainerConfig) -> dict[str, Any]:
    """Return the options that decide what a run computes, as JSON has them."""
    found = {name: getattr(config, name) for name in options_with(identity=True)}
    return found | {"accumulate": {str(k): v for k, v in config.accumulate_by_epoch.items()}}


def check_together(replicas: Replicas, step: int, store: CheckpointStore, *, keeps: bool) -> None:
    """Refuse to go on where workers do not stand at the same step.

    Args:
        replicas: The devices of the run.
        step: Where this worker stands.
        store: Where it reads checkpoints.
        keeps: Whether it has a run directory.

    Raises:
        UserError: They do not see the same files.
    """
    highest, lowest, some, none = replicas.agree([step, -step, float(keeps), -float(keeps)])
    if some != -none:
        raise UserError(
            "some workers have a run directory and others have none",
            where="Trainer(run_dir=...)",
            fix="Give all of them the same.",
        )
    if highest != -lowest:
        raise UserError(
            f"workers continue from different steps, {-lowest:.0f} to {highest:.0f}",
            where=str(store.directory),
            fix="Give a run_dir= on a file system that all workers share.",
        )


def _is_of(which: str, store: CheckpointStore) -> bool:
    """Tell whether a word or a path means one of a run's own checkpoints."""
    if which in ("last", "best") or which.isdigit():
        return True
    return Path(which).resolve().parent == store.directory.resolve()


def check_not_written_over(config: TrainerConfig, run_dir: Path) -> None:
    """Refuse to begin a run that keeps no checkpoints over one that does.

    Raises:
        UserError: There is one.
    """
    if list((run_dir / "checkpoints").glob("step-*")):
        raise UserError(
            f"there is a run in {run_dir} already, which would be written over",
            where="trainer.enable_checkpointing=false",
            fix="Give another run_dir=, or leave that out to continue the run.",
        )
    _check_never(config.resume, (run_dir / "result.json").exists(), run_dir)


def _check_wanted(wanted: str, there: bool, store: CheckpointStore) -> None:
    where = f"resume={wanted}"
    run_dir = store.directory.parent
    if wanted == "must" and not there:
        raise UserError(
            f"there is no run to continue in {run_dir}",
            where=where,
            fix="Give the run_dir= of a run that has a checkpoint, or resume=auto.",
        )
    _check_never(wanted, there, run_dir)


def _check_never(wanted: str, there: bool, run_dir: Path) -> None:
    if wanted == "never" and there:
        raise UserError(
            f"there is a run in {run_dir} already",
            where="resume=never",
            fix="Give another run_dir= to begin anew, or resume=auto to continue it.",
        )


def _check_same_run(
    then: Mapping[str, Any], now: Mapping[str, Any], store: CheckpointStore
) -> None:
    changed = [
        (name, then[name], now[name])
        for name in now
        if name in then and not same(then[name], now[name], typed=name in options_with(share=True))
    ]
    if changed:
        raise UserError(
            "the run there was begun with other options\n"
            + table(("option", "begun with", "now"), changed),
            where=str(store.directory.parent),
            fix="Give the same values to continue it, or another run_dir= to begin anew.",
        )


def _load_weights(run: Resumable, start: ResumePoint) -> None:
    report = run.load_fitting(start.state)
    loaded = [name for name, outcome in report if outcome == LOADED]
    others = [row for row in report if row[1] != LOADED]
    total = len(report) - sum(outcome == "only in the checkpoint" for _, outcome in report)
    _log.info("took %d of %d variables from %s", len(loaded), total, start.path)
    if others:
        _log.warning("not taken:\n%s", table(("variable", "why"), others, most=30))
