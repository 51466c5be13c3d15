"""Workers that wait for each other, and what they agree on before the first step."""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import Any

import keras
import pytest
from cluster_runs import addresses
from helpers import Net, blobs

from framework import Data, Trainer, TrainingFailed, UserError
from framework.callbacks import EMA
from framework.devices.comparison import check_same
from framework.devices.peers import Peers
from framework.run.agreement import of_data, of_run
from framework.run.default_callbacks import with_defaults

ADDRESSES = ["a:1", "b:2"]
PATIENCE = 300.0


def together(members: list[Peers], *calls: Any) -> list[Any]:
    """Call each in a thread of its own; return what they return or raise."""
    found: list[Any] = [None] * len(members)

    def run(index: int) -> None:
        try:
            found[index] = calls[index](members[index])
        except Exception as error:
            found[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(members))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    return found


def joined(count: int) -> list[Peers]:
    places = addresses(count)
    members = [Peers(index, places) for index in range(count)]
    assert together(members, *[lambda m: m.join(PATIENCE)] * count) == [None] * count
    return members


def test_all_see_what_each_has_said_and_the_port_is_free_again() -> None:
    members = joined(3)
    said = together(members, *[lambda m: m.exchange("x", {"me": m.index})] * 3)
    assert said == [[{"me": 0}, {"me": 1}, {"me": 2}]] * 3
    socket.create_server(("", int(members[0].addresses[0].rpartition(":")[2]))).close()
    at = together(members, *[lambda m: m.exchange("y" if m.index == 2 else "x", {})] * 3)
    assert all("at y" in str(error) for error in at)
    members[1].close()
    left = together(
        [members[0], members[2]], *[lambda m: m.exchange("z", {})] * 2
    )  # fmt: skip
    assert all(isinstance(error, TrainingFailed) for error in left)
    assert all("worker 1" in error.what and "has exited" in error.what for error in left)


def test_who_is_missing_is_named_at_the_deadline_by_all_who_wait() -> None:
    places = addresses(3)
    members = [Peers(index, places) for index in (0, 1)]
    errors = together(members, lambda m: m.join(1.5), lambda m: m.join(PATIENCE))
    for error in errors:
        assert isinstance(error, TrainingFailed)
        assert error.what == f"worker 2 ({places[2]}) did not respond within 1.5 s"
        assert error.where == "trainer.peers_timeout"
    alone = Peers(1, places)
    with pytest.raises(TrainingFailed, match=r"worker 0 \(localhost:\d+\) did not respond"):
        alone.join(0.5)


def test_a_port_that_is_taken_is_named() -> None:
    places = addresses(2)
    for index in (0, 1):
        port = int(places[index].rpartition(":")[2])
        with (
            socket.create_server(("", port)),
            pytest.raises(UserError, match=rf"port {port} of worker {index} \(.*\) is used"),
        ):
            Peers(index, places).join(1.0)


def test_strangers_are_ignored_and_another_cluster_is_refused() -> None:
    places = addresses(2)
    chief, right = Peers(0, places), Peers(1, places)

    def stranger() -> None:
        until = threading.Event()
        while not until.wait(0.05):
            try:
                with socket.create_connection(("localhost", chief._places[0][1])) as link:
                    link.sendall(b"GET / HTTP/1.1\r\n\r\n")
                until.set()
            except OSError:
                continue

    knocking = threading.Thread(target=stranger)
    knocking.start()
    assert together(
        [chief, right], lambda m: m.join(PATIENCE), lambda m: (knocking.join(), m.join(PATIENCE))
    ) == [None, (None, None)]
    places = addresses(2)
    chief, other = Peers(0, places), Peers(1, [places[0], places[1], "elsewhere:1"])
    errors = together([chief, other], *[lambda m: m.join(PATIENCE)] * 2)
    assert all(
        isinstance(error, UserError) and "but the chief has" in error.what for error in errors
    )


@pytest.mark.parametrize("address", ["a", "a:", ":1", "a:b", "a:99999"])
def test_an_address_that_is_not_one(address: str) -> None:
    with pytest.raises(UserError, match="is not the address"):
        Peers(0, [address, "b:1"])


def facts(task: Any = None, callbacks: Any = (), **options: Any) -> Any:
    config = Trainer(**{"max_epochs": 1, **options}).config.effective()
    return of_run("fit", config, task or Net(), callbacks)


def test_who_only_shows_less_agrees() -> None:
    config = Trainer(max_epochs=1, profiler="simple").config.effective()
    first = with_defaults([], config)
    other = with_defaults([], config, is_chief=False, logs=False)
    shown = {type(c).__name__ for c in first} - {type(c).__name__ for c in other}
    assert shown == {"ModelSummary", "ProgressBar", "Description"}
    same = [facts(callbacks=each) for each in (first, other)]
    check_same(same, ADDRESSES)
    with pytest.raises(UserError, match="the workers do not agree"):
        check_same([same[0], facts(callbacks=[*other, EMA()])], ADDRESSES)


def test_who_differs_in_what_is_said() -> None:
    class Scaled(Net):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

    same = facts()
    check_same([same, facts(enable_progress_bar=False, threads=None)], ADDRESSES)
    for options in ({"seed": 1}, {"clip_norm": 0.5}, {"accumulate": 2}, {"precision": "float64"}):
        with pytest.raises(UserError) as error:
            check_same([same, same, facts(**options)], ["w0", "w1", "w2"])
        (name,) = options
        assert f"trainer.{name}" in error.value.what
        assert "w2" in error.value.what
        assert "w1" not in error.value.what
    with pytest.raises(UserError, match=r"Scaled\(scale=\.\.\.\)"):
        check_same([facts(Scaled(1.0)), facts(Scaled(2.0))], ADDRESSES)
    for this, that in (
        ({"optimizer": partial(keras.optimizers.SGD, 0.1)}, partial(keras.optimizers.SGD, 0.2)),
        ({"optimizer": keras.optimizers.SGD(0.1)}, keras.optimizers.SGD(0.2)),
        ({"loss": keras.losses.Huber(0.1)}, keras.losses.Huber(0.2)),
    ):
        (name,) = this
        with pytest.raises(UserError, match=name):
            check_same([facts(Net(**this)), facts(Net(**{name: that}))], ADDRESSES)
    versions = {key for key in same if key.startswith("version of ")}
    assert {f"version of {n}" for n in ("keras", "tensorflow", "numpy", "python")} <= versions
    code = next(key for key in same if key.startswith("code of ") and "test_peers" not in key)
    with pytest.raises(UserError, match=code):
        check_same([same, same | {code: "another"}], ADDRESSES)


def test_rows_shapes_and_the_first_batch_of_every_kind_of_data_are_compared() -> None:
    from framework.sources.open import open_train

    x, y = blobs(20)
    other = x.copy()
    other[:] = other + 1

    def of(data: Data) -> Any:
        source = open_train(
            data, seed=0, limit=1.0, overfit=0, accumulate=1, restart=False, held={}
        )
        return of_data("train", {1: source})

    def stream(x: Any) -> Any:
        return lambda: iter([(x[:8], y[:8]), (x[8:16], y[8:16])])

    import tensorflow as tf

    for kind in (
        lambda x: Data(train=(x, y), batch_size=8),
        lambda x: Data(train=(x, y), batch_size=8, resident=False),
        lambda x: Data(train=stream(x)),
        lambda x: Data(train=tf.data.Dataset.from_tensor_slices((x, y)).batch(8)),
    ):
        check_same([of(kind(x)), of(kind(x.copy()))], ADDRESSES)
        with pytest.raises(UserError, match=r"data\.train: first batch"):
            check_same([of(kind(x)), of(kind(other))], ADDRESSES)
    with pytest.raises(UserError, match=r"data\.train: rows"):
        check_same([of(Data(train=(x, y))), of(Data(train=(x[:19], y[:19])))], ADDRESSES)


def test_what_a_map_closes_over_is_compared() -> None:
    from framework.sources.open import open_train

    def of(scale: float) -> Any:
        return of_data("train", {1: open_train(Data(train=blobs(8), map=scaling(scale)), seed=0)})

    def scaling(scale: float) -> Any:
        return lambda batch: (batch[0] * scale, batch[1])

    check_same([of(2.0), of(2.0)], ADDRESSES)
    with pytest.raises(UserError, match=r"data\.train: map\.scale"):
        check_same([of(2.0), of(3.0)], ADDRESSES)
