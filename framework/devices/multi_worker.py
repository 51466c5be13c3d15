"""Several machines that share each step, with one process per machine."""

from __future__ import annotations

import atexit
import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from framework.compat import at_work_outside_a_cluster
from framework.core.cluster import Member
from framework.core.deadline import ended_after
from framework.core.signals import Signals, ending_signals
from framework.devices.comparison import check_same, plain_json
from framework.devices.mirrored import MirroredReplicas
from framework.devices.peers import Peers
from framework.errors import TrainingFailed, UserError

_log = logging.getLogger("framework")

# Seconds for TensorFlow to connect workers that have found each other. It waits for an hour if one
# is lost meanwhile, and lets neither Python's threads nor SIGTERM through.
_JOINING = 60.0


class WorkerReplicas(MirroredReplicas):
    """All devices of all workers, with joint decisions on the hosts.

    Every worker runs the same program. All workers must reach every collective operation, such as
    a step or the reading of a metric, in the same order. So a host must not act on its own clock
    or its own signals alone: `agree` gives all workers the same values.

    Raises:
        UserError: If TensorFlow has already started, so that it cannot join a cluster, or the port
            of this worker is in use.
        TrainingFailed: If another worker does not connect before the timeout, in seconds.
    """

    def __init__(self, member: Member, timeout: float | None = None) -> None:
        resolver = _resolver(member)
        self._peers = _peers(member.index, member.workers)
        if not at_work_outside_a_cluster():
            with Signals().noted():
                self._peers.join(timeout)
        logger = tf.get_logger()
        level = logger.level
        logger.setLevel(logging.WARNING)  # its long messages repeat what `device` says
        try:
            with _ended_by_signals(), ended_after(_JOINING, self._late()):
                strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except RuntimeError as error:
            raise UserError(
                "a cluster can be joined only before TensorFlow has started",
                where="trainer.strategy=multi_worker",
                fix="Create the Trainer before the first tensor, model or data set.",
            ) from error
        finally:
            logger.setLevel(level)
        self.member = member
        super().__init__(strategy)
        self._first_number = member.index * len(strategy.extended.worker_devices)
        self.is_chief = member.is_chief
        if self.is_chief:
            # The others report a lost worker if their coordinator exits before they do.
            atexit.register(time.sleep, 2.0)
        self.workers = int(strategy.cluster_resolver.cluster_spec().num_tasks("worker"))
        self.device = f"{self.count} replicas on {self.workers} workers"
        self._gather = tf.function(self._gather_values, autograph=False)

    def agree(self, values: Sequence[float]) -> list[float]:
        table = self._gather(tf.constant([list(values)], tf.float64)).numpy()
        return [float(v) for v in np.max(table, axis=0)]

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Also compare each new variable, before TensorFlow copies the chief's to all workers."""
        with super().scope(), tf.variable_creator_scope(self._compared):
            yield

    def compare(self, about: str, facts: Callable[[], Mapping[str, Any]]) -> None:
        said = self._peers.exchange(about, plain_json(dict(facts())))
        check_same(said, [self._peers.name(index) for index in range(len(said))])

    def explain(self, error: Exception) -> Exception:
        lost = (
            tf.errors.UnavailableError,
            tf.errors.AbortedError,
            tf.errors.CancelledError,
            tf.errors.DeadlineExceededError,
        )
        text = str(error)
        signs = ("ollective ops is aborted", "eartbeat", "oordination", "onnection reset")
        by_sign = isinstance(error, tf.errors.OpError) and any(sign in text for sign in signs)
        if not (isinstance(error, lost) or by_sign):
            return error
        # One of the frames has an open thread pool of TensorFlow's, about which Python would warn
        # at exit.
        traceback.clear_frames(error.__traceback__)
        return TrainingFailed(
            "another worker is gone, so training cannot continue",
            where=f"worker {self.member.index} of {self.workers}: "
            + (text.strip().splitlines() or [type(error).__name__])[0][:120],
            fix="Start all workers again with the same command. With a shared run_dir= they resume "
            "from the last checkpoint.",
        )

    def _late(self) -> TrainingFailed:
        numbers = range(len(self._peers.addresses))
        others = [self._peers.name(i) for i in numbers if i != self._peers.index]
        return TrainingFailed(
            f"a worker did not join TensorFlow's cluster: {' or '.join(others)}",
            where="trainer.strategy=multi_worker",
            fix="It has probably ended since: see its output. Start all workers again.",
        )

    def _compared(self, make: Callable[..., Any], **options: Any) -> Any:
        name, initial = options.get("name") or "variable", options["initial_value"]

        def compared(value: Any) -> Any:
            value = tf.convert_to_tensor(value, dtype=options.get("dtype"))
            kind = f"{value.dtype.name}{value.shape.as_list()}"
            if value.shape.rank == 0 and hasattr(value, "numpy"):
                kind += f" {value.numpy()}"  # such as a learning rate
            self.compare("making a variable", lambda: {f"variable {name}": kind})
            return value

        if callable(initial):
            options["initial_value"] = lambda *args, **kwargs: compared(initial(*args, **kwargs))
        else:
            options["initial_value"] = compared(initial)
        return make(**options)

    def _gather_values(self, row: tf.Tensor) -> tf.Tensor:
        def on_one(row: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

        found: Any = self.strategy.run(on_one, args=(row,))
        return self.strategy.experimental_local_results(found)[0]


@lru_cache  # a process joins its cluster once, for all its trainers
def _peers(index: int, addresses: tuple[str, ...]) -> Peers:
    return Peers(index, addresses)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals end the process at once; Python would delay them while it waits for others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # SIGUSR1 does wait: its handler makes SLURM queue the job again.
    former = {number: signal.getsignal(number) for number in ending_signals(near_limit=False)}
    try:
        for number in former:
            signal.signal(number, signal.SIG_DFL)
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _resolver(member: Member) -> tf.distribute.cluster_resolver.ClusterResolver:
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(member.workers)}),
        task_type="worker",
        task_id=member.index,
        rpc_layer="grpc",
    )
