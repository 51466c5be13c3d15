"""Lightning and plain PyTorch, where they are installed: `pip install torch lightning`.

Each is a process of its own, `python -m benchmarks.peers`, since PyTorch and TensorFlow cannot be
relied on to share one. It is told how many steps to run, and answers with the seconds.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.workloads import Workload

NAMES = ("torch", "lightning")
Run = Callable[[int], float]


def available() -> list[str]:
    """Return the peers that can run here."""
    torch = importlib.util.find_spec("torch") is not None
    lightning = importlib.util.find_spec("lightning") is not None
    return [name for name, there in (("torch", torch), ("lightning", torch and lightning)) if there]


def torch(workload: Workload) -> Run:
    """A hand-written PyTorch loop over a `DataLoader`."""
    return _started("torch", workload)


def lightning(workload: Workload) -> Run:
    """Lightning's `Trainer.fit` with its CSV logger at its defaults: a row every 50 steps."""
    return _started("lightning", workload)


def _started(name: str, workload: Workload) -> Run:
    directory = tempfile.TemporaryDirectory()
    data = Path(directory.name) / "data.npz"
    np.savez(data, x=workload.floats(), y=workload.y)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.peers", name, workload.name, str(workload.batch), data],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[1],
    )

    def run(steps: int, directory: Any = directory) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(steps, file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process of {name} has ended: {process.wait()}")
        return float(answer)

    run(16)
    return run


def _network(name: str) -> Any:
    from torch import nn

    if name == "one_layer":
        return nn.Linear(16, 10)
    if name == "mnist":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    layers: list[Any] = []
    for before, filters in ((3, 16), (16, 32)):
        layers += [nn.Conv2d(before, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 100)
    )


def _loader(x: np.ndarray, y: np.ndarray, batch: int) -> Any:
    import torch as t
    from torch.utils.data import DataLoader, TensorDataset

    images = t.from_numpy(x)
    if images.ndim == 4:
        images = images.permute(0, 3, 1, 2).contiguous()
    data = TensorDataset(images, t.from_numpy(y).long())
    return DataLoader(data, batch_size=batch, shuffle=True, drop_last=True)


def _torch(net: Any, loader: Any) -> Run:
    import torch as t

    optimizer = t.optim.Adam(net.parameters())
    batches = iter(loader)

    def run(steps: int) -> float:
        nonlocal batches
        began, total, right = time.perf_counter(), 0.0, 0
        for _ in range(steps):
            try:
                x, y = next(batches)
            except StopIteration:
                batches = iter(loader)
                x, y = next(batches)
            logits = net(x)
            loss = t.nn.functional.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            right += (logits.argmax(1) == y).sum()
        _ = float(total), float(right)
        return time.perf_counter() - began

    return run


def _lightning(net: Any, loader: Any) -> Run:
    import lightning as pl
    import torch as t

    class Module(pl.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            logits = self.net(x)
            loss = t.nn.functional.cross_entropy(logits, y)
            self.log("loss", loss)
            self.log("accuracy", (logits.argmax(1) == y).float().mean())
            return loss

        def configure_optimizers(self) -> Any:
            return t.optim.Adam(self.parameters())

    class Watch(pl.Callback):  # type: ignore[misc,name-defined]
        began = 0.0

        def on_train_batch_end(self, *_: Any) -> None:
            self.began = self.began or time.perf_counter()

    module = Module()

    def run(steps: int) -> float:
        watch = Watch()
        with tempfile.TemporaryDirectory() as directory:
            trainer = pl.Trainer(
                max_steps=steps + 1,
                max_epochs=-1,
                accelerator="cpu",
                callbacks=[watch],
                default_root_dir=directory,
                logger=pl.pytorch.loggers.CSVLogger(directory),
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
            )
            trainer.fit(module, loader)
            return time.perf_counter() - watch.began

    return run


def _serve(name: str, workload: str, batch: str, path: str) -> None:
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever Lightning prints is no answer
    with np.load(path) as file:
        loader = _loader(file["x"], file["y"], int(batch))
    run = {"torch": _torch, "lightning": _lightning}[name](_network(workload), loader)
    for line in sys.stdin:
        os.write(answers, f"{run(int(line))}\n".encode())


if __name__ == "__main__":
    _serve(*sys.argv[1:])
