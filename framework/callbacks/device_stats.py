"""Logs what a run takes of its machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from framework.callback import Callback, RunView
from framework.core.extras import require

_WHERE = "callbacks.device_stats"
_MEGABYTE = 2.0**20


class DeviceStats(Callback):
    """Log the use of CPU, memory and GPUs with every row of training metrics.

    A number that stays low says where the time goes: an idle GPU waits for data, and a process that
    grows holds on to something. The host reads them when it logs a row anyway.

    | logged | what |
    | --- | --- |
    | `system/cpu_percent` | use of all cores since the last row |
    | `system/memory_percent` | memory of the machine in use |
    | `system/process_memory_mb` | memory of this process |
    | `system/gpu<i>_percent`, `system/gpu<i>_memory_mb` | the same of each GPU |

    It needs `psutil`, and `nvidia-ml-py` where there is a GPU: the extra `[stats]`. With several
    machines, these are the numbers of the one that writes the logs.

    Example:
        >>> Trainer(run_dir="runs/a", log_every="50st", callbacks=[DeviceStats()])

    Raises:
        UserError: psutil is missing, or nvidia-ml-py where TensorFlow uses a GPU.
    """

    def __init__(self) -> None:
        require("psutil", "stats", what="device_stats", where=_WHERE)
        self._gpus: dict[int, Any] = {}
        self._process: Any = None

    def on_fit_start(self, run: RunView) -> None:
        """Find the devices, and start counting the use of the CPU."""
        import psutil

        psutil.cpu_percent()  # the use since the last call, so the first one has no meaning
        self._process = psutil.Process()
        self._gpus = _gpus()

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Log them next to `metrics`."""
        import psutil

        values = {
            "system/cpu_percent": psutil.cpu_percent(),
            "system/memory_percent": psutil.virtual_memory().percent,
            "system/process_memory_mb": self._process.memory_info().rss / _MEGABYTE,
        }
        if self._gpus:
            import pynvml
        for number, handle in self._gpus.items():
            used = pynvml.nvmlDeviceGetMemoryInfo(handle).used
            values[f"system/gpu{number}_percent"] = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
            values[f"system/gpu{number}_memory_mb"] = used / _MEGABYTE
        run.log_metrics(values)

    def on_fit_end(self, run: RunView) -> None:
        """Let go of the devices."""
        if self._gpus:
            import pynvml

            pynvml.nvmlShutdown()
        self._gpus, self._process = {}, None


def _gpus() -> dict[int, Any]:
    """Return NVML's handle of each GPU of the machine, if TensorFlow uses any."""
    if not tf.config.list_logical_devices("GPU"):
        return {}
    require("pynvml", "stats", what="device_stats", where=_WHERE)
    import pynvml

    pynvml.nvmlInit()
    return {i: pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())}
