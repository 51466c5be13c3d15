"""Epochs of streams: their lengths, sets without an end, hooks, and what batches may look like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import LogRows, StopAt, fitted, make_trainer

from framework import Data, Task, Trainer
from framework.errors import UserError

X = np.arange(40, dtype="f4").reshape(40, 1) * np.ones((1, 3), "f4")
Y = X[:, :1]


class Ids(Task):
    """Logs the first row's number of every batch."""

    def build_model(self) -> Any:
        return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        self.log("id", x[0, 0])
        return 1e-6 * tf.reduce_mean((self.model(x, training=True) - y) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("rows", tf.cast(tf.shape(batch[0])[0], tf.float32))


def ids(rows: LogRows) -> list[int]:
    return [int(row["train/id"]) for _, row in rows.rows if "train/id" in row]


def run(data: Data, callbacks: Any = (), **options: Any) -> tuple[Trainer, list[int]]:
    seen = LogRows()
    trainer = make_trainer(log_every="1st", callbacks=[seen, *callbacks], **options)
    trainer.fit(Ids(optimizer="sgd"), data)
    return trainer, ids(seen)


def of_lengths(lengths: list[int]) -> Any:
    def batches(epoch: int) -> Iterator[Any]:
        for i in range(lengths[epoch]):
            yield X[4 * i : 4 * i + 4] + 100 * epoch, Y[:4]

    return batches


@pytest.mark.parametrize("lengths", [[3, 5, 7], [7, 5, 3], [5, 3, 5]])
def test_every_epoch_is_as_long_as_its_data(lengths: list[int]) -> None:
    trainer, seen = run(Data(train=of_lengths(lengths)), max_epochs=3)
    assert trainer.progress.step == sum(lengths)
    assert seen == [100 * e + 4 * i for e, n in enumerate(lengths) for i in range(n)]


@pytest.mark.parametrize("step", [3, 4, 8, 9, 10])
def test_epochs_of_other_lengths_continue_exactly(step: int, tmp_path: Path) -> None:
    lengths, data = [3, 6, 4], Data(train=of_lengths([3, 6, 4]), val=(X, Y))
    options: dict[str, Any] = {"max_epochs": 3, "val_every": "3st", "run_dir": tmp_path}
    whole, want = run(data, max_epochs=3, val_every="3st")
    _, first = run(data, [StopAt(step)], **options)
    trainer, rest = run(data, **options)
    assert first + rest == want
    assert trainer.progress.step == sum(lengths)
    assert trainer.metrics == pytest.approx(whole.metrics)


def test_what_is_due_at_an_epochs_last_step_is_done_once() -> None:
    rows = LogRows()
    make_trainer(max_epochs=2, val_every="3st", callbacks=[rows]).fit(
        Ids(optimizer="sgd"), Data(train=of_lengths([3, 6]), val=(X, Y))
    )
    assert [step for step, _ in rows.val] == [3, 6, 9]


def test_parts_of_an_epoch_of_unknown_length_go_by_the_one_before() -> None:
    class Halves(LogRows):
        pass

    rows, task = Halves(), Ids(optimizer="sgd")
    data = Data(train=of_lengths([4, 6, 6]), val=(X, Y))
    with pytest.raises(UserError, match="needs the length of an epoch"):
        make_trainer(max_epochs=1, val_every="0.5ep").fit(task, data)
    make_trainer(max_epochs=3, val_every="1ep", callbacks=[rows]).fit(task, data)
    assert [step for step, _ in rows.val] == [4, 10, 16]


def endless_dataset() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).repeat()


def endless_generator() -> Iterator[Any]:
    i = 0
    while True:
        yield X[4 * i % 40 : 4 * i % 40 + 4], Y[:4]
        i += 1


class EndlessPyDataset(keras.utils.PyDataset):
    @property
    def num_batches(self) -> None:
        return None

    def __getitem__(self, i: int) -> Any:
        return X[4 * i % 40 : 4 * i % 40 + 4], Y[:4]


def batches_of(make: Any) -> tf.data.Dataset:
    """A dataset that cannot tell whether it ends."""
    signature = (tf.TensorSpec([None, 3]), tf.TensorSpec([None, 1]))
    return tf.data.Dataset.from_generator(make, output_signature=signature)


ENDLESS: dict[str, Any] = {
    "dataset": endless_dataset,
    "filtered": lambda: endless_dataset().filter(lambda x, _: x[0, 0] >= 0),
    "from_generator": lambda: batches_of(endless_generator),
    "generator": lambda: endless_generator,
    "pydataset": EndlessPyDataset,
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_endless_set_goes_on_as_steps_per_epoch_does(kind: str) -> None:
    _, seen = run(Data(train=ENDLESS[kind]()), max_epochs=4, limit_train_batches=3)
    assert seen == [4 * i % 40 for i in range(12)]  # each of the ten batches was seen


def of_keras(data: Any, epochs: int, steps: int) -> list[int]:
    """The first row of every batch that `Model.fit` takes."""
    seen: list[int] = []

    class Model(keras.Model):
        def train_step(self, batch: Any) -> Any:
            seen.append(int(batch[0][0, 0]))
            return {"loss": 0.0}

    model = Model()
    model.compile(run_eagerly=True)
    model.fit(data, epochs=epochs, steps_per_epoch=steps, verbose=0)
    return seen


@pytest.mark.filterwarnings("ignore:.*ran out of data", "ignore:`shuffle=True`")
@pytest.mark.parametrize("limit", [2, 3, 4, 100])
@pytest.mark.parametrize("kind", [lambda make: make, batches_of], ids=["function", "dataset"])
def test_an_epoch_of_unknown_length_ends_at_its_limit_or_with_the_data(
    kind: Any, limit: int
) -> None:
    def five() -> Iterator[Any]:
        for i in range(5):
            yield X[4 * i : 4 * i + 4], Y[:4]

    trainer, seen = run(Data(train=kind(five)), max_epochs=2, limit_train_batches=limit)
    assert seen == of_keras(batches_of(five), epochs=2, steps=limit)
    assert trainer.progress.epoch == 2
    _, seen = run(Data(train=kind(five)), max_epochs=4, limit_train_batches=limit)
    one_after_another = {
        2: [0, 4, 8, 12, 16, 0, 4],
        3: [0, 4, 8, 12, 16] * 2,
        4: [0, 4, 8, 12, 16] * 2,
    }
    assert seen == one_after_another.get(limit, [0, 4, 8, 12, 16] * 4)


@pytest.mark.parametrize("engine", ["graph", "step_xla", "eager"])
def test_an_epoch_begins_at_the_top_where_the_data_ended_with_the_one_before(engine: str) -> None:
    def six() -> Iterator[Any]:
        for i in range(6):
            yield X[4 * i : 4 * i + 4], Y[:4]

    _, seen = run(Data(train=six), max_epochs=3, limit_train_batches=3, engine=engine)
    assert seen == [0, 4, 8, 12, 16, 20, 0, 4, 8]


@pytest.mark.parametrize("kind", ENDLESS)
def test_overfitting_takes_the_same_batches_of_an_endless_set(kind: str) -> None:
    _, seen = run(Data(train=ENDLESS[kind]()), max_epochs=3, overfit_batches=2)
    assert seen == [0, 4] * 3


@pytest.mark.parametrize("kind", ["dataset", "filtered", "pydataset", "shuffled"])
@pytest.mark.parametrize("step", [2, 3, 7])
def test_an_endless_set_continues_exactly(kind: str, step: int, tmp_path: Path) -> None:
    def make() -> Any:
        if kind == "shuffled":
            return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(40, seed=1).batch(4).repeat()
        return ENDLESS[kind]()

    options: dict[str, Any] = {"max_epochs": 4, "limit_train_batches": 3}
    _, want = run(Data(train=make()), **options)
    _, first = run(Data(train=make()), [StopAt(step)], run_dir=tmp_path, **options)
    _, rest = run(Data(train=make()), run_dir=tmp_path, **options)
    assert first + rest == want
    assert len(set(want)) > 9 or kind != "dataset"


@pytest.mark.parametrize(("limit", "steps"), [(4, 2), (5, 3)])
def test_an_endless_set_accumulates_no_batches_of_two_epochs(limit: int, steps: int) -> None:
    trainer, seen = run(
        Data(train=endless_dataset()), max_epochs=2, limit_train_batches=limit, accumulate=2
    )
    assert trainer.progress.step == 2 * steps
    assert trainer.progress.examples == 2 * limit * 4
    assert len(seen) == 2 * steps


def test_an_endless_set_without_a_limit_names_the_right_option() -> None:
    for stage, option in (("train", "limit_train_batches"), ("val", "limit_val_batches")):
        sets = {"train": (X, Y), stage: endless_dataset()}
        with pytest.raises(UserError) as caught:
            run(Data(**sets), max_epochs=1)
        assert option in str(caught.value)
    with pytest.raises(UserError) as caught:
        make_trainer().predict(Ids(), Data(predict=endless_dataset()))
    assert "limit_" not in str(caught.value)
    assert "take(1000)" in str(caught.value.fix)
    with pytest.raises(UserError, match=r"overfit_batches=0\.5"):
        run(Data(train=lambda epoch: iter([(X, Y)])), max_epochs=1, overfit_batches=0.5)


class Hooked(keras.utils.PyDataset):
    def __init__(self, batches: int = 3) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, i: int) -> Any:
        self.calls.append(f"{i}")
        return X[:4], Y[:4]

    def on_epoch_begin(self) -> None:
        self.calls.append("begin")

    def on_epoch_end(self) -> None:
        self.calls.append("end")

    @property
    def hooks(self) -> str:
        return "".join(c[0] for c in self.calls if not c.isdigit())


def test_a_pydataset_has_its_hooks_called_at_every_epoch_and_evaluation(tmp_path: Path) -> None:
    train, val = Hooked(), Hooked()
    data = Data(train=train, val=val)
    fitted(Ids(optimizer="sgd"), data, max_epochs=3)
    assert train.hooks == "bebebe"
    assert val.hooks == "bebebe"
    trainer = make_trainer()
    for stage in ("test", "predict"):
        one = Hooked()
        getattr(trainer, stage)(Ids(), Data(**{stage: one}))
        assert one.hooks == "be"


def test_a_pydataset_is_told_of_the_epochs_of_another_process(tmp_path: Path) -> None:
    data = Data(train=Hooked())
    fitted(Ids(optimizer="sgd"), data, max_epochs=2, run_dir=tmp_path)
    again = Hooked()
    fitted(Ids(optimizer="sgd"), Data(train=again), max_epochs=3, run_dir=tmp_path)
    assert again.hooks == "bebebe"


def test_a_pydataset_that_changes_its_length_is_refused() -> None:
    class Growing(Hooked):
        def on_epoch_end(self) -> None:
            self.batches += 1

    with pytest.raises(UserError, match="had 3 batches in an epoch, and now has 4"):
        fitted(Ids(optimizer="sgd"), Data(train=Growing()), max_epochs=2)


class Widths(Task):
    def build_model(self) -> Any:
        pool = keras.layers.GlobalAveragePooling1D()
        embedding = keras.layers.Embedding(9, 2)
        return keras.Sequential([keras.Input((None,), dtype="int64"), embedding, pool])

    def train_step(self, batch: Any) -> Any:
        self.log("width", tf.cast(tf.shape(batch)[1], tf.float32))
        return tf.reduce_mean(self.model(batch, training=True) ** 2)

    def eval_step(self, batch: Any) -> None:
        pass

    def predict_step(self, batch: Any) -> Any:
        return batch


def padded(epoch: int) -> Iterator[Any]:
    for i in range(4):
        yield np.ones((2, 3 + i % 2), "int64")


class Padded(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Any:
        return np.ones((2, 3 + i % 2), "int64")


@pytest.mark.parametrize("make", [lambda: padded, Padded])
def test_batches_whose_width_varies_want_a_signature_and_the_message_has_it(make: Any) -> None:
    with pytest.raises(UserError) as caught:
        fitted(Widths(optimizer="sgd"), Data(train=make()), max_epochs=1)
    found = str(caught.value.fix).partition("signature=")[2].rstrip(").") + ")"
    signature = eval(found)
    assert signature == tf.TensorSpec((None, None), tf.int64)
    for engine in ("graph", "step_xla"):
        task = Widths(optimizer="sgd")
        trainer = fitted(task, Data(train=make(), signature=signature), max_epochs=1, engine=engine)
        assert trainer.metrics["train/width"] == 3.5


def test_the_signature_in_the_message_is_python_for_any_structure() -> None:
    def named(epoch: int) -> Iterator[Any]:
        for batch in padded(epoch):
            yield {"a b": batch, "pair": (np.ones(2, "f4"), batch[:, :2])}

    with pytest.raises(UserError) as caught:
        fitted(Widths(optimizer="sgd"), Data(train=named, map=lambda b: b["a b"]), max_epochs=1)
    found = str(caught.value.fix).partition("signature=")[2].rstrip(".").removesuffix(")")
    width, two = tf.TensorSpec((None, None), tf.int64), tf.TensorSpec((None, 2), tf.int64)
    assert eval(found) == {"a b": width, "pair": (tf.TensorSpec((None,), tf.float32), two)}


@pytest.mark.parametrize("kind", ["dataset", "generator"])
def test_batches_of_varying_width_are_refused_before_they_are_accumulated(kind: str) -> None:
    width = tf.TensorSpec((None, None), tf.int64)
    data = Data(train=padded, signature=width)
    if kind == "dataset":
        made = tf.data.Dataset.from_generator(lambda: padded(0), output_signature=width)
        data = Data(train=made)
    with pytest.raises(UserError, match="their widths vary"):
        fitted(Widths(optimizer="sgd"), data, max_epochs=1, accumulate=2)


def test_a_signature_that_is_not_the_batches_is_refused() -> None:
    data = Data(train=padded, signature=tf.TensorSpec((None, None), tf.float32))
    with pytest.raises(UserError, match="unlike Data's signature"):
        fitted(Widths(optimizer="sgd"), data, max_epochs=1)


def test_predictions_of_varying_width_are_refused_in_our_words() -> None:
    data = Data(predict=padded, signature=tf.TensorSpec((None, None), tf.int64))
    with pytest.raises(UserError, match=r"differ in width from batch to batch: \(3,\) and \(4,\)"):
        make_trainer().predict(Widths(), data)


def sparse() -> tf.data.Dataset:
    rows = tf.data.Dataset.from_tensor_slices(X).batch(4)
    return rows.map(lambda x: (tf.sparse.from_dense(x), x[:, :1]))


def without_labels() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors((X, None))


def ragged() -> tf.data.Dataset:
    rows = tf.data.Dataset.from_tensor_slices(X).batch(4)
    return rows.map(lambda x: (tf.RaggedTensor.from_tensor(x), x[:, :1]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda epoch: iter([(X, None)]), "returns None"),
        (without_labels(), "returns None"),
        ((X, None), "is None"),
        ((tf.RaggedTensor.from_tensor(X), Y), "is a RaggedTensor"),
        ((tf.sparse.from_dense(X), Y), "is a SparseTensor"),
        (sparse(), "returns a SparseTensor"),
        (ragged(), "returns a RaggedTensor"),
        (lambda epoch: iter([(tf.ragged.constant([[1.0], [2.0, 3.0]]), Y[:2])]), "RaggedTensor"),
    ],
)
def test_batches_that_are_no_plain_tensors_are_answered_in_our_words(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fitted(Ids(optimizer="sgd"), Data(train=given), max_epochs=1)


def test_ragged_and_sparse_batches_that_map_makes_dense_are_taken() -> None:
    for made, dense in (
        (sparse(), tf.sparse.to_dense),
        (ragged(), lambda x: x.to_tensor(shape=(None, 3))),
    ):
        data = Data(train=made, map=lambda b, dense=dense: (tf.reshape(dense(b[0]), (-1, 3)), b[1]))
        trainer = fitted(Ids(optimizer="sgd"), data, max_epochs=1)
        assert trainer.progress.step == 10


@pytest.mark.parametrize("kind", ["dataset", "generator"])
def test_leaves_of_different_rows_are_refused_before_they_are_accumulated(kind: str) -> None:
    a, b = np.ones((80, 3), "f4"), np.ones((240, 3), "f4")
    sets = tf.data.Dataset.from_tensor_slices(a), tf.data.Dataset.from_tensor_slices(b)
    made: Any = tf.data.Dataset.zip((sets[0].batch(8), sets[1].batch(24)))
    if kind == "generator":
        made = lambda epoch: iter([(a[:8], b[:24])] * 10)  # noqa: E731
    with pytest.raises(UserError, match="different numbers of rows"):
        fitted(Ids(optimizer="sgd"), Data(train=made), max_steps=2, accumulate=2)


def test_leaves_of_different_rows_are_refused_in_any_batch() -> None:
    def late(epoch: int) -> Iterator[Any]:
        for i in range(8):
            yield X[:4], Y[: 4 if i < 5 else 3]

    with pytest.raises(UserError, match="different numbers of rows") as caught:
        fitted(Ids(optimizer="sgd"), Data(train=late), max_epochs=1, accumulate=2)
    assert caught.value.where == "trainer.accumulate"


@pytest.mark.parametrize("kind", [lambda x: x, lambda x: (x,), lambda x: {"x": x}])
@pytest.mark.parametrize("limit", [4, 5])
def test_accumulated_batches_have_the_structure_of_the_others(kind: Any, limit: int) -> None:
    seen = set()

    class Structure(Ids):
        def train_step(self, batch: Any) -> Any:
            seen.add(str(tf.nest.map_structure(lambda _: 0, batch)))
            return super().train_step((tf.nest.flatten(batch)[0], 0.0))

    endless = tf.data.Dataset.from_tensor_slices(X).batch(4).map(kind).repeat()
    task = Structure(optimizer="sgd")
    trainer = fitted(
        task, Data(train=endless), max_epochs=2, limit_train_batches=limit, accumulate=2
    )
    assert seen == {str(kind(0))}
    assert trainer.progress.examples == 2 * limit * 4


def test_the_refusal_to_accumulate_names_the_batch_size_of_the_run() -> None:
    class ByHand(Ids):
        automatic_optimization = False

    with pytest.raises(UserError, match=r"data.batch_size=24, from Python Data\(batch_size=24\)"):
        fitted(ByHand(), Data(train=(X, Y), batch_size=8), max_steps=1, accumulate=3)


def test_a_run_that_began_in_eager_is_continued_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for steps in (2, 4):
        trainer = make_trainer(max_steps=steps, engine="eager", run_dir=tmp_path)
        trainer.fit(Ids(optimizer="sgd"), Data(train=(X, Y), batch_size=8))
    assert not [r for r in caplog.records if "rounds differently" in r.getMessage()]
    trainer = make_trainer(max_steps=5, engine="graph", run_dir=tmp_path)
    trainer.fit(Ids(optimizer="sgd"), Data(train=(X, Y), batch_size=8))
    assert [r for r in caplog.records if "started with engine=eager" in r.getMessage()]
