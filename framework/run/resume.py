"""Resume from a checkpoint, on one worker or on several."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.checkpoint.store import CheckpointStore, Fits
from framework.config import TrainerConfig, options_with
from framework.core.paths import local_path
from framework.core.same_option import same
from framework.core.state import State
from framework.devices.replicas import Replicas
from framework.errors import UserError
from framework.loop.compiled import Loop
from framework.run.assembly import Components
from framework.sources.source import Source
from framework.text.tables import table

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class ResumePoint:
    """The checkpoint that a run starts from.

    Attributes:
        path: The path of the checkpoint.
        state: The state in it.
        mine: Whether it belongs to the run that resumes.
        weights_only: Whether a new run takes only its weights.
    """

    path: Path
    state: State
    mine: bool = False
    weights_only: bool = False

    @property
    def engine(self) -> str | None:
        """The engine variant to keep using, since others round differently. None: any."""
        return None if self.weights_only else str(self.state.get("engine", "graph"))


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
    """Read the checkpoint that a run starts from, if there is one.

    Args:
        config: Its `resume` says what is allowed.
        store: The run's own checkpoints.
        which: `last`, `best`, a step or a path. None: the run's last checkpoint, if any.
        identity: The options that affect the result; see `identity`.
        own: Whether the run resumes what is in `store` at all.
        fits: Refuses a state with other shapes than the run's; see `CheckpointStore.load`.
        weights_only: Start a new run with those weights of `which` that fit.
    """
    which = None if which is None else str(local_path(str(which), "checkpoint"))
    there = own and bool(list(store.directory.glob("step-*")))
    _check_wanted(config.resume, there, store)
    if weights_only and not there:
        if which is None:
            raise UserError(
                "weights_only needs a checkpoint to take the weights from",
                where="weights_only=true",
                fix="Give checkpoint=<the path of a run or a step-… directory>.",
            )
        path = store.find(which)
        return ResumePoint(path, store.load(path), weights_only=True)
    first = fits if which is None else None  # the run's own may not be the one to load
    newest, state = (store.load_newest(first) if there else None) or (None, None)
    if newest is None and which is None:
        return None
    # A run that started from another checkpoint resumes from its own.
    mine = which is None or weights_only or (there and not _is_of(which, store))
    origin = state.get("begun_from") if state else None
    if origin is not None:
        mine = mine or str(local_path(origin, "checkpoint")) == which
    if state is None or newest is None or not mine:
        newest = store.find(str(which))
        state = store.load(newest, fits)
    if mine:
        with understood(newest):
            _check_same_run(state.get("config", {}), identity, store)
    return ResumePoint(newest, state, mine=mine)


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turn errors about missing or unexpected parts of the checkpoint `path` into a `UserError`."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        about = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(
            f"the checkpoint does not hold what this run needs: {about}",
            where=str(path),
            fix="Choose another one: checkpoint=<step>, or start again in a new run_dir=. "
            "-v shows the traceback.",
        ) from error


def prepare(components: Components, start: ResumePoint | None) -> None:
    """Load what compiled steps treat as constant into the built models, before compilation."""
    if start is not None and not start.weights_only and components.constants():
        with understood(start.path):
            components.load_models(start.state)


def warn_about_unsaved_draws(loops: Iterable[Loop]) -> None:
    """Warn if training steps draw random numbers that no checkpoint can store."""
    kinds = sorted({kind for loop in loops for kind in loop.random_operations})
    if kinds:
        _log.warning(
            "train_step draws from TensorFlow's own random numbers (%s), which no checkpoint "
            "stores: a resumed run will not match bit for bit. Use keras.random or "
            "tf.random.stateless_…",
            ", ".join(kinds),
        )


def check_data(source: Source, config: TrainerConfig) -> None:
    """Refuse data on which a run with checkpoints could not resume exactly, before it starts."""
    if source.obstacle and config.resume_data == "exact":
        raise UserError(
            f"a run on this training set cannot be resumed exactly: {source.obstacle}",
            where="data.train",
            fix="Fix that (docs/resuming.md explains how), or set resume_data=restart: a run that "
            "resumes in mid-epoch then starts the data again.",
        )


def identity(config: TrainerConfig) -> dict[str, Any]:
    """Return the options that affect the result, in the form that JSON stores."""
    found = {name: getattr(config, name) for name in options_with(identity=True)}
    return found | {"accumulate": {str(k): v for k, v in config.accumulate_by_epoch.items()}}


def check_together(replicas: Replicas, step: int, store: CheckpointStore, *, keeps: bool) -> None:
    """Refuse to resume if the workers are not at the same step, or do not see the same files."""
    highest, lowest, some, none = replicas.agree([step, -step, float(keeps), -float(keeps)])
    if some != -none:
        raise UserError(
            "some workers have a run directory and others have none",
            where="Trainer(run_dir=...)",
            fix="Give all workers the same run_dir=.",
        )
    if highest != -lowest:
        raise UserError(
            f"workers resume from different steps, {-lowest:.0f} to {highest:.0f}",
            where=str(store.directory),
            fix="Give a run_dir= on a file system that all workers share.",
        )


def _is_of(which: str, store: CheckpointStore) -> bool:
    """Whether a word or a path refers to one of the run's own checkpoints."""
    if which in ("last", "best") or which.isdigit():
        return True
    return Path(which).resolve().parent == store.directory.resolve()


def check_no_overwrite(config: TrainerConfig, run_dir: Path) -> None:
    """Refuse to start a run without checkpoints where a run with checkpoints exists."""
    if list((run_dir / "checkpoints").glob("step-*")):
        raise UserError(
            f"{run_dir} already contains a run, which would be overwritten",
            where="trainer.enable_checkpointing=false",
            fix="Give another run_dir=, or leave this option out to resume the run.",
        )
    _check_never(config.resume, (run_dir / "result.json").exists(), run_dir)


def _check_wanted(wanted: str, there: bool, store: CheckpointStore) -> None:
    where = f"resume={wanted}"
    run_dir = store.directory.parent
    if wanted == "must" and not there:
        raise UserError(
            f"there is no run to resume in {run_dir}",
            where=where,
            fix="Give the run_dir= of a run that has a checkpoint, or resume=auto.",
        )
    _check_never(wanted, there, run_dir)


def _check_never(wanted: str, there: bool, run_dir: Path) -> None:
    if wanted == "never" and there:
        raise UserError(
            f"{run_dir} already contains a run",
            where="resume=never",
            fix="Give another run_dir= to start a new run, or resume=auto to resume this one.",
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
            "the run there was started with other options\n"
            + table(("option", "started with", "now"), changed),
            where=str(store.directory.parent),
            fix="Give the same values to resume it, or another run_dir= to start a new run.",
        )
