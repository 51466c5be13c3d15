"""TensorBoard's files hold what was logged, however the run before ended."""

from __future__ import annotations

import math

from event_files import board, read


def test_scalars_go_to_the_run_of_their_stage(tmp_path):
    logger = board(tmp_path)
    big = 2**40
    logger.log_metrics({"train/loss": 2.5, "learning_rate": 0.125}, step=50, epoch=1)
    logger.log_metrics({"train/loss": 2.0, "val/clean/accuracy": 0.25}, step=big, epoch=1)
    logger.close()
    logger.close()
    root = tmp_path
    assert sorted(path.name for path in root.iterdir()) == ["train", "val"], "no empty test run"
    assert read(root / "train") == {
        "steps/loss": [(50, 2.5), (big, 2.0)],
        "learning_rate": [(50, 0.125)],
        "epoch": [(50, 1.0), (big, 1.0)],
    }
    assert read(root / "val") == {"clean/accuracy": [(big, 0.25)]}
    assert all(len(list(run.iterdir())) == 1 for run in root.iterdir())


def test_values_past_float32_do_not_stop_a_run(tmp_path):
    logger = board(tmp_path)
    logger.log_metrics({"train/a": math.nan, "train/b": math.inf, "train/c": 1e300}, 1, 1)
    logger.close()
    values = read(tmp_path / "train")
    assert math.isnan(values["steps/a"][0][1])
    assert values["steps/b"] == values["steps/c"] == [(1, math.inf)]


def test_a_text_is_shown_as_it_stands(tmp_path):
    text = "a: [1, 2]\nnote: |\n  ```python\n  *x*\n  ```"
    logger = board(tmp_path)
    logger.log_text("config", text, step=0)
    logger.close()
    ((step, value),) = read(tmp_path / "train")["config"]
    assert step == 0
    assert value.decode() == f"````\n{text}\n````"


def test_every_event_is_readable_at_once(tmp_path):
    logger = board(tmp_path)
    for step in (1, 2, 3):
        logger.log_metrics({"train/loss": step / 2}, step, 1)
        seen = read(tmp_path / "train")["steps/loss"]
        assert seen == [(s, s / 2) for s in range(1, step + 1)]
    logger.close()


def test_continuing_drops_the_events_past_the_step(tmp_path):
    root = tmp_path
    logger = board(tmp_path)
    logger.log_text("config", "a: 1", step=0)
    for step in (50, 100, 150):
        logger.log_metrics({"train/loss": float(step)}, step, 1)
    logger.log_metrics({"val/loss": 150.0}, 150, 1)
    # The first run was killed in the middle of writing an event.
    ((torn),) = (root / "train").iterdir()
    torn.write_bytes(torn.read_bytes() + b"\x40\0\0\0\0\0\0\0\1\2")
    again = board(tmp_path, step=100)
    assert list((root / "val").iterdir()) == [], "all of it was past the step"
    again.log_text("config", "a: 1", step=0)
    again.log_metrics({"train/loss": 100.0}, 100, 1)
    again.log_metrics({"train/loss": 151.0, "val/loss": 151.0}, 150, 1)
    again.close()
    train = read(root / "train")
    assert train["steps/loss"] == [(50, 50.0), (100, 100.0), (150, 151.0)]
    assert len(train["config"]) == 1
    assert read(root / "val") == {"loss": [(150, 151.0)]}
    assert not [path for path in root.rglob("*") if path.suffix == ".tmp"]


def test_opening_to_add_keeps_every_event(tmp_path):
    logger = board(tmp_path)
    logger.log_metrics({"train/loss": 1.0}, 50, 1)
    logger.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    more = board(tmp_path, step=None)
    more.log_metrics({"test/loss": 0.5}, 25, 1)
    more.close()
    assert all(path.read_bytes() == content for path, content in before.items())
    assert read(tmp_path / "test") == {"loss": [(25, 0.5)]}


def test_a_tensorboard_that_watches_forgets_the_dropped_events(tmp_path):
    # The reader of TensorBoard's own server.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    logger = board(tmp_path)
    for step in (50, 100, 150):
        logger.log_metrics({"train/loss": 1.0}, step, 1)
    logger.close()
    watcher = EventAccumulator(str(tmp_path / "train"))
    watcher.Reload()
    assert [event.step for event in watcher.Tensors("steps/loss")] == [50, 100, 150]
    again = board(tmp_path, step=100)
    again.log_metrics({"train/loss": 2.0}, 125, 1)
    again.close()
    watcher.Reload()
    assert [event.step for event in watcher.Tensors("steps/loss")] == [50, 100, 125]


def session_status(run_dir):
    """What the HParams tab would read: None without a session, else its status by number."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    reader = EventAccumulator(str(run_dir))
    reader.Reload()
    tags = reader.PluginTagToContent(metadata.PLUGIN_NAME)
    if "_hparams_/session_start_info" not in tags:
        return None
    end = tags.get("_hparams_/session_end_info")
    return metadata.parse_session_end_info_plugin_data(end).status if end else 0


def test_a_session_ends_as_the_run_did_and_a_resumed_one_starts_again(tmp_path):
    success, failure = 1, 2  # of TensorBoard's api.proto
    ends = {"failed": failure, "interrupted": 0, "stopped": success, "completed": success}
    for status, shown in ends.items():
        logger = board(tmp_path)
        logger.log_config({}, {"seed": 0})
        assert session_status(tmp_path) == 0, "a running one has no status"
        best = {"step": 1, "metric": "val/loss", "value": 0.5}
        logger.log_end(status, {}, best if status == "completed" else None)
        logger.close()
        assert session_status(tmp_path) == shown
    assert read(tmp_path / "val") == {"best/loss": [(1, 0.5)]}
    after = board(tmp_path, step=None)  # a test of the finished run
    after.log_metrics({"test/loss": 0.5}, 1, 1)
    after.log_end("failed", {}, None)
    after.close()
    assert session_status(tmp_path) == success, "the test is no session"
