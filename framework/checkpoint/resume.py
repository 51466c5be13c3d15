"""Going on from a checkpoint, on one worker or on several."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from framework.checkpoint.state import check_same_data
from framework.checkpoint.store import CheckpointStore
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.engine.replicas import Replicas
    from framework.trainer import Trainer

_log = logging.getLogger("framework")


def resume(trainer: Trainer, store: CheckpointStore, which: str | None, *, own: bool) -> None:
    """Load a checkpoint into a trainer that is about to fit.

    Args:
        trainer: Its models and optimizers are built.
        store: Where checkpoints are.
        which: `last`, `best`, a step or a path. None: the last one, if there is any.
        own: Without `which`, whether the run continues what is in `store` at all.

    Raises:
        UserError: There is none of that name, or it is of other data.
    """
    mine = which is None
    which = _wanted(store, which, own=own)
    if which is None:
        return
    path = store.find(which)
    state = store.load(path)
    epoch, batch = int(state["progress"]["epoch"]), int(state["progress"]["batch"])
    check_same_data(state.get("data", {}), trainer.data_state(epoch), batch=batch, own=mine)
    trainer.load_state(state)
    _log.info("continuing from %s, at step %s", path, f"{trainer.progress.step:,}")


def engine_of(store: CheckpointStore, which: str | None, *, own: bool) -> str | None:
    """Return the engine variant of the run that `resume` would continue, or None.

    It is needed before anything is traced, and `resume` only comes afterwards.
    """
    which = _wanted(store, which, own=own)
    if which is None:
        return None
    return str(store.load(store.find(which)).get("engine", "graph"))


def _wanted(store: CheckpointStore, which: str | None, *, own: bool) -> str | None:
    return "last" if which is None and own and store.steps() else which


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
