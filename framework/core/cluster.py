"""Determine from the environment which of several machines this process runs on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from framework.core.slurm import number, workers_of_step
from framework.errors import UserError

_DOCS = "See docs/scaling.md for the commands."


@dataclass(frozen=True)
class Member:
    """One process of a cluster.

    Attributes:
        index: Its number; 0 is the chief, which writes logs and checkpoints.
        workers: The addresses of all workers, as `host:port`, in order.
        source: `TF_CONFIG`, `SLURM` or `Kubernetes`.
    """

    index: int
    workers: tuple[str, ...]
    source: str

    @property
    def is_chief(self) -> bool:
        """Whether this worker is the one that writes."""
        return self.index == 0


def member(environ: Mapping[str, str] | None = None) -> Member:
    """Return this process's place in its cluster.

    `TF_CONFIG`, which every launcher can set, comes first; then SLURM; then an Indexed Job of
    Kubernetes with a headless service, in which pods have stable names.

    Example:
        >>> member({"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]},'
        ...                      ' "task": {"type": "worker", "index": 1}}'}).index
        1

    Args:
        environ: The environment. Default: that of the process.

    Raises:
        UserError: It describes no cluster, or one that this trainer does not support.
    """
    environ = os.environ if environ is None else environ
    if environ.get("TF_CONFIG"):
        return _from_tf_config(environ["TF_CONFIG"])
    if environ.get("SLURM_JOB_ID") or environ.get("SLURM_PROCID"):
        return Member(*workers_of_step(environ), "SLURM")
    if "JOB_COMPLETION_INDEX" in environ:
        return _from_kubernetes(environ)
    raise UserError(
        "strategy=multi_worker, but nothing identifies this worker",
        where="trainer.strategy",
        fix=f"Set TF_CONFIG, or start it with srun or as an Indexed Job of Kubernetes. {_DOCS}",
    )


def _from_tf_config(text: str) -> Member:
    try:
        config = json.loads(text)
        cluster, task = dict(config["cluster"]), dict(config["task"])
        kind, index = str(task["type"]), int(task["index"])
        chiefs, workers = list(cluster.pop("chief", [])), list(cluster.pop("worker", []))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"TF_CONFIG cannot be read: {type(error).__name__}: {error}",
            where="TF_CONFIG",
            fix='The format is {"cluster": {"worker": ["host:port", ...]}, '
            '"task": {"type": "worker", "index": 0}}.',
        ) from None
    cluster.pop("evaluator", None)
    if cluster or kind not in ("chief", "worker"):
        raise UserError(
            f"TF_CONFIG has tasks of the type {next(iter(cluster), kind)!r}",
            where="TF_CONFIG",
            fix="Use only chief and worker: every process trains.",
        )
    everyone = tuple(map(str, [*chiefs, *workers]))
    number = index if kind == "chief" else index + len(chiefs)
    if not 0 <= number < len(everyone):
        raise UserError(
            f"TF_CONFIG has {len(everyone)} workers, and this is number {number}",
            where="TF_CONFIG",
            fix="Count indices from 0 within each type.",
        )
    return Member(number, everyone, "TF_CONFIG")


def _from_kubernetes(environ: Mapping[str, str]) -> Member:
    for name in ("JOB_NAME", "SERVICE_NAME", "WORKERS"):
        if not environ.get(name):
            raise UserError(
                f"a Kubernetes job needs the variable {name}",
                where="trainer.strategy=multi_worker",
                fix=f"Set JOB_NAME, SERVICE_NAME and WORKERS in the pod template. {_DOCS}",
            )
    job, service = environ["JOB_NAME"], environ["SERVICE_NAME"]
    port, count = environ.get("PORT", "12345"), number(environ, "WORKERS")
    workers = tuple(f"{job}-{i}.{service}:{port}" for i in range(count))
    return Member(number(environ, "JOB_COMPLETION_INDEX"), workers, "Kubernetes")
