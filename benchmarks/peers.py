"""Lightning and plain PyTorch, where they are installed: `pip install torch lightning`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any

from benchmarks.workloads import Workload

NAMES = ("torch", "lightning")


def available() -> list[str]:
    """Return the peers that can run here."""
    torch = importlib.util.find_spec("torch") is not None
    lightning = importlib.util.find_spec("lightning") is not None
    return [name for name, there in (("torch", torch), ("lightning", torch and lightning)) if there]


def _network(workload: Workload) -> Any:
    from torch import nn

    if workload.name == "one_layer":
        return nn.Linear(16, 10)
    if workload.name == "mnist":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    layers: list[Any] = []
    for before, filters in ((3, 16), (16, 32)):
        layers += [nn.Conv2d(before, filters, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(1152, 256), nn.ReLU(), nn.Linear(256, 100)
    )


def _loader(workload: Workload) -> Any:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x = torch.from_numpy(workload.floats())
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
    data = TensorDataset(x, torch.from_numpy(workload.y).long())
    return DataLoader(data, batch_size=workload.batch, shuffle=True, drop_last=True)


def torch(workload: Workload) -> Callable[[int], float]:
    """A hand-written PyTorch loop over a `DataLoader`."""
    import torch as t

    net, loader = _network(workload), _loader(workload)
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

    run(16)
    return run


def lightning(workload: Workload) -> Callable[[int], float]:
    """Lightning's `Trainer.fit` with its CSV logger at its defaults: a row every 50 steps."""
    import tempfile

    import lightning as pl
    import torch as t

    class Module(pl.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = _network(workload)

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

    module, loader = Module(), _loader(workload)

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

    run(16)
    return run
