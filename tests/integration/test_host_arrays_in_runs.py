"""Arrays that stay off the device give the same batches as those on it, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, bits, blobs, differing, fitted, make_trainer, noisy

from framework import Data, UserError
from framework.sources import host_arrays as host
from framework.sources.arrays import ArraySource
from framework.sources.host_arrays import HostArraySource, fits_on_device

X, Y = blobs(43)


@pytest.mark.parametrize("options", [{}, {"devices": 2}, {"accumulate": 2}, {"engine": "eager"}])
def test_a_run_is_the_same_wherever_its_arrays_are(options: dict[str, Any]) -> None:
    def run(resident: bool) -> Any:
        data = Data(train=(X, Y), val=blobs(13), batch_size=8, resident=resident)
        trainer = fitted(Net(noisy), data, max_epochs=3, log_every="2st", **options)
        state, metrics = bits(trainer), trainer.metrics
        predicted = trainer.predict(trainer.task, Data(predict=X, resident=resident))
        return state, metrics, predicted

    (there, metrics, predicted), (here, other, also) = run(True), run(False)
    assert not differing(there, here)
    assert metrics == other
    np.testing.assert_array_equal(predicted, also)


def test_a_file_is_read_where_it_lies_and_a_run_goes_on_in_mid_epoch(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)

    def data() -> Data:
        return Data(train=(np.load(tmp_path / "x.npy", mmap_mode="r"), Y), batch_size=8, **off)

    off = {"resident": False}
    whole = fitted(Net(noisy), data(), max_epochs=2)
    for steps in (3, 4, 9):
        trainer = make_trainer(max_epochs=2, max_steps=steps, run_dir=tmp_path / "run")
        trainer.fit(Net(noisy), data())
    trainer = make_trainer(max_epochs=2, run_dir=tmp_path / "run")
    trainer.fit(Net(noisy), data())
    for left, right in zip(
        whole.task.model.get_weights(), trainer.task.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(left, right)


def test_what_is_too_large_for_the_device_stays_with_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fits_on_device((X, Y))
    assert host.free_bytes() > 1e7
    monkeypatch.setattr(host, "free_bytes", lambda: 2.0 * (X.nbytes + Y.nbytes))
    assert fits_on_device((X, Y))
    monkeypatch.setattr(host, "free_bytes", lambda: 2.0 * (X.nbytes + Y.nbytes) - 1)
    assert not fits_on_device((X, Y))
    assert fits_on_device(tf.constant(X))  # it is there already
    sources: list[Any] = []

    class Looks(Net):
        def on_fit_start(self) -> None:
            sources.append(self.trainer.fitting.loop.source)

    fitted(Looks(), Data(train=(X, Y), batch_size=8), max_steps=1)
    assert type(sources[0]) is HostArraySource
    fitted(Looks(), Data(train=(X, Y), batch_size=8, resident=True), max_steps=1)
    assert type(sources[1]) is ArraySource
    with pytest.raises(UserError, match="resident is 3"):
        Data(train=X, resident=3)  # type: ignore[arg-type]
