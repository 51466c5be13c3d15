"""Tables: what is learned from the training rows, done to others, and refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework import UserError
from framework.datasets.columns import Columns, Words
from framework.datasets.table_data import table_data

pytest.importorskip("pyarrow", reason="tables need the extra [table]")

PEOPLE = """\
age,city,vip,code,note,joined,y
40,Oslo,true,1,"a fine, FINE day",2020-01-01,no
,Rome,false,2,fine,2020-01-02,yes
31,,true,1,,2020-01-03,no
52,Oslo,,7,it's a day,2020-01-04,yes
"""
FEW = {"drop": ["joined"], "text": ["note"], "text_length": 3, "categories": ["code"]}


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


def test_columns_become_what_numpy_makes_of_them(people: Path) -> None:
    data = table_data(people, target="y", **FEW)
    inputs, labels = data.train
    age = np.array([40, np.nan, 31, 52])
    wanted = np.nan_to_num((age - np.nanmean(age)) / np.nanstd(age))
    np.testing.assert_allclose(inputs["numbers"][:, 0], wanted, rtol=1e-6)
    # In alphabetical order from 1 on, a missing value last: Oslo 1, Rome 2, none 3.
    assert inputs["categories"].T.tolist() == [[1, 2, 3, 1], [2, 1, 2, 3], [1, 2, 1, 3]]
    # By frequency, then alphabet: fine 2, a 3, day 4, it's 5.
    assert inputs["note"].tolist() == [[3, 2, 2], [2, 0, 0], [1, 0, 0], [5, 3, 4]]
    assert (labels.tolist(), data.class_names) == ([0, 1, 0, 1], ("no", "yes"))


def test_only_training_rows_are_learned_from() -> None:
    random = np.random.default_rng(3)
    table = {"x": random.normal(5, 2, 200), "y": random.integers(0, 2, 200)}
    data = table_data(table, target="y", val_fraction=0.2, test_fraction=0.1, split_seed=4)
    order = np.random.default_rng(4).permutation(200)
    held, tested, trained = (np.sort(part) for part in np.split(order, [40, 60]))
    x = table["x"]
    for (inputs, labels), rows in ((data.train, trained), (data.val, held), (data.test, tested)):
        wanted = (x[rows] - x[trained].mean()) / x[trained].std()
        np.testing.assert_allclose(inputs["numbers"][:, 0], wanted, rtol=1e-5)
        assert labels.tolist() == table["y"][rows].tolist()


def test_what_training_never_had_is_number_0_and_is_counted(
    people: Path, caplog: pytest.LogCaptureFixture
) -> None:
    columns = table_data(people, target="y", **FEW).preprocessing
    with caplog.at_level(logging.WARNING, "framework"):
        inputs = columns(
            {"age": [46], "city": ["Bern"], "vip": [True], "code": [7.0], "note": ["a new day"]}
        )
    assert inputs["categories"].tolist() == [[0, 2, 3]]
    assert inputs["note"].tolist() == [[3, 1, 4]]
    assert "city: 1 of 1 given rows have a value" in caplog.text


def test_the_state_is_json_and_rebuilds_it(people: Path) -> None:
    columns = table_data(people, target="y", **FEW).preprocessing
    again = Columns.of_state(json.loads(json.dumps(columns.state())))
    assert again == columns
    rows = {"age": [None], "city": [None], "vip": ["false"], "code": ["2"], "note": [None]}
    for name, part in columns(rows).items():
        np.testing.assert_array_equal(again(rows)[name], part)


def test_parquet_csv_and_frames_are_the_same(people: Path, tmp_path: Path) -> None:
    from pyarrow import csv, parquet

    table = csv.read_csv(people, convert_options=csv.ConvertOptions(strings_can_be_null=True))
    parquet.write_table(table, tmp_path / "people.parquet")
    frame = {name: table[name].to_pylist() for name in table.column_names}
    of_csv, of_parquet, of_frame = (
        table_data(each, target="y", **FEW) for each in (people, tmp_path / "people.parquet", frame)
    )
    assert of_csv.preprocessing == of_parquet.preprocessing == of_frame.preprocessing
    for name, part in of_csv.train[0].items():
        np.testing.assert_array_equal(part, of_parquet.train[0][name])
        np.testing.assert_array_equal(part, of_frame.train[0][name])


def test_the_vocabulary_holds_the_most_frequent_words() -> None:
    words = Words.learned("t", np.array(["b a a", "c b a", None], object), 4, 4)
    assert (words.vocabulary, words.size) == (("a", "b"), 4)


def test_targets_are_classes_or_numbers(tmp_path: Path) -> None:
    table = {"x": [1.0, 2.0, 3.0], "y": [10, 2, 10]}
    assert table_data(table, target="y").train[1].tolist() == [10, 2, 10]
    classes = table_data(table, target="y", target_kind="classes")
    assert (classes.train[1].tolist(), classes.class_names) == ([1, 0, 1], ("2", "10"))
    floats = table_data({"x": [1, 2], "y": [0.5, 2.0]}, target="y").train[1]
    assert (floats.dtype, floats.tolist()) == (np.float32, [0.5, 2.0])


def csv_of(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / "other.csv").write_text(text)
        return folder / "other.csv"

    return write


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"'joined' holds values such as '2020-01-01' \(date\)"),
        ({"columns": ["ag"]}, r"no column 'ag'[\s\S]*Did you mean 'age'\? Choose one of: age, cit"),
        ({"numbers": ["city"]}, "'city' is wanted as numbers, but is text: 'Oslo' in row 0"),
        ({"target_kind": "number"}, "'y' is wanted as numbers, but is text: 'no' in row 0"),
        ({"target_kind": "klass"}, "Choose one of: auto, classes, number"),
        ({"columns": ["y"]}, "no column is left"),
        ({"val_fraction": 0.9, "test_fraction": 0.5}, "no row of 4 is left"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0"),
        ({"text_length": 0}, "text_length is 0"),
        ({"test": csv_of("age,y\n1,no\n")}, "there is no column 'city'"),
        ({"test": csv_of("age,city,y\n1,Rome,maybe\n")}, "a class 'maybe' of 'y'"),
        ({"test": csv_of("age,city,y\n1,Rome,\n")}, "'y' is missing in 1 of 1 test rows"),
        ({"test": csv_of("age,city,y\nold,Rome,no\n")}, "is text: 'old' in row 0"),
        ({"test": csv_of("age,city,y\ninf,Rome,no\n")}, "'age' has infinity in row 0"),
        ({"test": csv_of("age,city,y\n1\n")}, "cannot be read: CSV parse error"),
        ({"test": csv_of("age,age,y\n1,1,no\n")}, "has two columns 'age'"),
        ({"test": csv_of("age,city,y\n")}, "has no rows"),
        ({"test": "missing.csv"}, "there is no file"),
        ({"test": "missing.xls"}, "is not a table by its name"),
        ({"fitted": "missing"}, "there is no preprocessing.json"),
    ],
)
def test_what_does_not_fit_is_refused(
    people: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    drop = {} if not options else {"drop": ["joined", "vip", "code", "note"]}
    made = {name: each(tmp_path) if callable(each) else each for name, each in options.items()}
    with pytest.raises(UserError, match=message):
        table_data(people, target="y", **drop, **made)


def test_a_column_that_says_nothing_is_refused() -> None:
    empty = {"x": [None, None], "z": [1, 2], "y": [0, 1]}
    with pytest.raises(UserError, match=r"'x' is empty in all 2 training rows[\s\S]*drop=\[x\]"):
        table_data(empty, target="y")
    names = {"x": [f"n{n}" for n in range(300)], "y": [0] * 300}
    with pytest.raises(UserError, match="'x' is text with 300 different values in 300"):
        table_data(names, target="y")
    assert table_data(names, target="y", categories=["x"]).preprocessing.categories[0].size == 301


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match=r"cut.parquet cannot be read") as refused:
        table_data(tmp_path / "cut.parquet", target="y")
    assert str(tmp_path) in str(refused.value)
