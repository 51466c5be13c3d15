"""Read what SLURM's variables say about a job: its nodes, its tasks, and this process among them.

TensorFlow has a reader too, but it divides by the number of GPUs, which may be zero, and gives the
workers of every job the same ports.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from framework.errors import UserError

# Below them are the ports of well-known services, and above them those that Linux gives to
# outgoing connections.
_FIRST_PORT, _PORTS = 20000, 32768 - 20000
_PORTS_OF_JOB = 128
_PORTS_OF_STEP = 16  # steps of one job may run at the same time

_NEEDED = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE",
           "SLURM_NODEID", "SLURM_LOCALID")  # fmt: skip


def workers_of_step(environ: Mapping[str, str]) -> tuple[int, tuple[str, ...]]:
    """Return the number of this task, and the addresses of all tasks of its step.

    Tasks are counted node by node, whatever the distribution that srun was asked for.

    Example:
        >>> workers_of_step({
        ...     "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "n[1-2]",
        ...     "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"})
        (1, ('n1:20896', 'n2:20897'))

    Raises:
        UserError: srun did not start this process, or a variable cannot be read.
    """
    missing = [name for name in _NEEDED if not environ.get(name)]
    if missing:
        raise UserError(
            f"this process is in a job of SLURM, but it has no {', '.join(missing)}",
            where="trainer.strategy=multi_worker",
            fix="Start it with srun, which sets these variables for each task.",
        )
    hosts = hostnames(environ["SLURM_STEP_NODELIST"], "SLURM_STEP_NODELIST")
    tasks = tasks_of_nodes(environ["SLURM_STEP_TASKS_PER_NODE"], "SLURM_STEP_TASKS_PER_NODE")
    node, local = number(environ, "SLURM_NODEID"), number(environ, "SLURM_LOCALID")
    if len(hosts) != len(tasks) or node >= len(hosts) or local >= tasks[node]:
        said = ", ".join(f"{name}={environ[name]}" for name in _NEEDED[2:])
        raise UserError(
            "SLURM's variables contradict each other",
            where=said,
            fix="Start each worker with srun, and leave these variables as srun sets them.",
        )
    if max(tasks) > _PORTS_OF_JOB:
        raise UserError(
            f"{max(tasks)} tasks on one node",
            where="trainer.strategy=multi_worker",
            fix=f"Start at most {_PORTS_OF_JOB}: --ntasks-per-node={_PORTS_OF_JOB}.",
        )
    places = [host for host, count in zip(hosts, tasks, strict=True) for _ in range(count)]
    job, step = number(environ, "SLURM_JOB_ID"), number(environ, "SLURM_STEP_ID")
    addresses = tuple(f"{host}:{port(job, step, i)}" for i, host in enumerate(places))
    return sum(tasks[:node]) + local, addresses


def port(job: int, step: int, worker: int) -> int:
    """Return a worker's port.

    It depends on the ids of job and step, so that jobs that share a node do not meet: each job has
    ports of its own, and only every 99th job has the same ones. Workers on one node differ, also
    if several nodes are one machine.
    """
    offset = (step * _PORTS_OF_STEP + worker) % _PORTS_OF_JOB
    return _FIRST_PORT + job % (_PORTS // _PORTS_OF_JOB) * _PORTS_OF_JOB + offset


def hostnames(text: str, where: str = "hostlist") -> list[str]:
    """Return the hosts in a hostlist, in order.

    Example:
        >>> hostnames("n[1-2,07],m5")
        ['n1', 'n2', 'n07', 'm5']

    Args:
        text: The hostlist.
        where: The variable's name, for messages.

    Raises:
        UserError: It is not a hostlist.
    """
    part = r"(?:[^][,\s]|\[[^][\s]*\])+"
    if not re.fullmatch(f"{part}(?:,{part})*", text):
        raise _unreadable(text, where, "n[1-3,07],m5")
    return [host for one in re.findall(part, text) for host in _expanded(one, text, where)]


def tasks_of_nodes(text: str, where: str = "tasks per node") -> list[int]:
    """Return the number of tasks on each node.

    Example:
        >>> tasks_of_nodes("2(x3),1")
        [2, 2, 2, 1]

    Raises:
        UserError: It cannot be read.
    """
    found: list[int] = []
    for each in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", each)
        if not match:
            raise _unreadable(text, where, "2(x3),1")
        found += [int(match[1])] * int(match[2] or 1)
    return found


def directory_name(
    environ: Mapping[str, str], words: Sequence[str], *, together: bool
) -> str | None:
    """Return the name of the run directory of a command in a batch job; None outside of one.

    A job that SLURM has queued again finds its run by it: the job's id is the same, and so is the
    command.

    Args:
        environ: The environment.
        words: The command, because a job may contain several.
        together: Whether all tasks of a step work on one run, instead of one each.
    """
    job = environ.get("SLURM_JOB_ID")
    if not job or environ.get("ENVIRONMENT") != "BATCH":
        return None
    digest = hashlib.sha256("\0".join(words).encode()).hexdigest()[:8]
    alone = together or environ.get("SLURM_STEP_NUM_TASKS", "1") == "1"
    return f"slurm-{job}-{digest}" + ("" if alone else f"-{environ.get('SLURM_PROCID', '0')}")


def number(environ: Mapping[str, str], name: str) -> int:
    """Return a variable that is a whole number."""
    text = environ[name]
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}", where=name, fix="It must be a whole number.")
    return int(text)


def _expanded(one: str, text: str, where: str) -> list[str]:
    """Expand each pair of brackets of one entry; the last changes fastest."""
    names = [""]
    for piece in re.findall(r"\[[^]]*\]|[^[]+", one):
        endings = _numbers(piece[1:-1], text, where) if piece.startswith("[") else [piece]
        names = [name + ending for name in names for ending in endings]
    return names


def _numbers(ranges: str, text: str, where: str) -> list[str]:
    found: list[str] = []
    for each in ranges.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", each)
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise _unreadable(text, where, "n[1-3,07],m5")
        first, last = int(match[1]), int(match[2] or match[1])
        found += [str(i).zfill(len(match[1])) for i in range(first, last + 1)]
    return found


def _unreadable(text: str, where: str, example: str) -> UserError:
    return UserError(
        f"{where} is {text!r}", where=where, fix=f"SLURM writes it in the form {example}."
    )
