"""Run directories, checkpoints, logs and data files, damaged or made to do harm."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Change = Callable[[Path], Any]


@dataclass(frozen=True)
class Case:
    """One thing that somebody sends.

    Attributes:
        what: In a few words.
        change: Makes it of the copy of a healthy run, or of its data.
        refused: Whether it is to be refused; otherwise it is to be read rightly.
        words: The command line, without the run and the data.
        of_data: It is made of the data, not of the run.
    """

    what: str
    change: Change
    refused: bool = True
    words: tuple[str, ...] = ("mode=test",)
    of_data: bool = False


_CONTINUED = ("trainer.max_epochs=3",)


def all_cases(canary: Path, precious: Path) -> list[Case]:
    """Return the cases.

    Args:
        canary: A file that is there only if something was executed.
        precious: A file of the user's that nothing may change.
    """
    return [
        *_configurations(canary),
        *_overrides(canary),
        *_checkpoints(),
        *_states(),
        *_places(precious),
        *_logs(),
        *_data(canary),
    ]


def _configurations(canary: Path) -> Iterator[Case]:
    mkdir = {"_target_": "os.mkdir", "path": str(canary)}
    opened = {"_target_": "builtins.open", "file": str(canary), "mode": "w"}
    dense = {"_target_": "keras.layers.Dense", "units": 1}
    made = {"class_name": "function", "config": "system", "module": "os"}
    nodes: dict[str, dict[str, Any]] = {
        "a call": {"loss": mkdir},
        "a call in nested lists": {"task": {"x": [[{"y": [mkdir]}]]}},
        "a file opened for writing": {"callbacks": {"x": opened}},
        "numpy.load": {"loss": {"_target_": "numpy.load", "file": "x", "allow_pickle": True}},
        "a partial call": {"metrics": {"x": mkdir | {"_partial_": True}}},
        "keras.utils.get_file": {"loss": {"_target_": "keras.utils.get_file", "fname": "x"}},
        "keras.saving.load_model": {"loss": {"_target_": "keras.saving.load_model"}},
        "a Lambda": {"loss": {"_target_": "keras.layers.Lambda", "function": "x"}},
        "what Keras would make of a dict": {"loss": dense | {"activation": made}},
        "the framework's own command": {"loss": {"_target_": "framework.cli.main"}},
        "a log elsewhere": {
            "loggers": {
                "x": {"_target_": "framework.loggers.csv.CSVLogger", "filename": str(canary)}
            }
        },
        "a reference to the environment": {"optimizer": {"name": "${oc.env:HOME}"}},
        "a call through a module of the project": {
            "loss": {"_target_": "tasks.classifier.keras.utils.get_file", "fname": "x"}
        },
    }
    for what, node in nodes.items():
        yield Case(what, _with_config(node))
    yield Case("a module of the run", lambda p: _with_module(p, canary))
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
    )
    texts = {"a YAML bomb": bomb, "deep YAML": "a: " + "[" * 9000 + "]" * 9000, "no YAML": "\0\1{"}
    for what, text in texts.items():
        yield Case(what, _with_text("config.yaml", text))
    yield Case("an empty configuration", _with_text("config.yaml", ""))
    yield Case("a configuration of 100 MB", _with_text("config.yaml", "# " + "x" * 10**8))


def _overrides(canary: Path) -> Iterator[Case]:
    lines = {
        "an override that calls": f"+task.x={{_target_:os.mkdir,path:{canary}}}",
        "an override of a target": "+task.x._target_=os.mkdir",
        "an override with a reference": "+task.x='${oc.env:HOME}'",
        "an override with a flag": "--experimental-rerun=x.pickle",
        "an override of Hydra in disguise": "data@hydra.callbacks=mnist",
    }
    for what, line in lines.items():
        yield Case(what, _with_line(line))
    yield Case("overrides that vouch for themselves", _with_line("trust=[os]"), refused=False)


def _checkpoints() -> Iterator[Case]:
    lies: dict[str, Change] = {
        "a manifest without files": lambda p: resign(p, files={}),
        "a judgement that is none": lambda p: resign(p, judged=[1]),
        "a step that is text": lambda p: resign(p, step="x"),
        "a deep manifest": lambda p: (p / "manifest.json").write_text("[" * 10**5),
        "/dev/zero as arrays": _instead("arrays.npz", lambda p: p.symlink_to("/dev/zero")),
        "a pipe as state": _instead("state.json", os.mkfifo),
        "a pipe as manifest": _instead("manifest.json", os.mkfifo),
        "a link as state": _instead("state.json", lambda p: p.symlink_to("/etc/hostname")),
        "a directory as arrays": _instead("arrays.npz", Path.mkdir),
        "deep JSON": _signed_text("[" * 10**6),
        "JSON that is a list": _signed_text("[1]"),
        "arrays that are no zip": _signed_arrays(b"no zip"),
        "arrays cut short": lambda p: os.truncate(p / "arrays.npz", 100),
        "a huge shape": _signed_arrays(npz("(1000000000000,)")),
        "a negative shape": _signed_arrays(npz("(-2, -3)")),
        "pickled objects": _signed_arrays(npz("(6,)", "'|O'")),
        "a deep header": _signed_arrays(npz("(" * 3000)),
        "a bomb of 1.5 GB": lambda p: _bomb(p / "arrays.npz") or resign(p),
    }
    for what, change in lies.items():
        yield Case(f"{what}; all", _each(change))
        yield Case(f"{what}; the newest", _newest(change), False, _CONTINUED)


def _states() -> Iterator[Case]:
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "no weights": lambda s: s.clear(),
        "no progress": lambda s: s.pop("progress"),
        "progress of text": lambda s: s.update(progress="x"),
        "weights of text": lambda s: s.update(models="x"),
        "every part a list": lambda s: s.update({key: [] for key in s}),
        "every part null": lambda s: s.update(dict.fromkeys(s)),
        "every part a number": lambda s: s.update(dict.fromkeys(s, 1)),
    }
    for what, change in changes.items():
        for mode, words in (("tested", ("mode=test",)), ("continued", _CONTINUED)):
            yield Case(f"a state with {what}, {mode}", _each(_with_state(change)), True, words)


def _places(precious: Path) -> Iterator[Case]:
    for name in (".lock", "log.txt", "metrics.csv", "config.yaml"):
        link = _instead(name, lambda p: p.symlink_to(precious))
        yield Case(f"{name} is a link", link, True, _CONTINUED)
        yield Case(f"{name} is a pipe", _instead(name, os.mkfifo), True, _CONTINUED)
    for name in ("checkpoints", "train"):
        yield Case(f"{name} is a link", _moved(name), True, _CONTINUED)
        yield Case(f"{name} is a file", _instead(name, Path.touch), True, _CONTINUED)
    yield Case("result.json is deep", _with_text("result.json", "[" * 10**5), False)
    yield Case("result.json is a list", _with_text("result.json", "[1]"), False)
    yield Case("result.json is a link", _instead("result.json", lambda p: p.symlink_to(precious)),
               False)  # fmt: skip


def _logs() -> Iterator[Case]:
    events = "train"
    for seed in range(3):
        flip = _flipped("metrics.csv", seed)
        yield Case(f"a bit of metrics.csv flipped ({seed})", flip, False, _CONTINUED)
        yield Case(f"a bit of an event file flipped ({seed})", _flipped(events, seed), False,
                   _CONTINUED)  # fmt: skip
    noise = random.Random(0).randbytes(10**6)
    yield Case("metrics.csv of noise", _with_bytes("metrics.csv", noise), False, _CONTINUED)
    yield Case("an event file of noise", _with_bytes(events, noise), False, _CONTINUED)
    yield Case("metrics.csv of another", _with_text("metrics.csv", "a,b\n1,2\n"), True, _CONTINUED)


def _data(canary: Path) -> Iterator[Case]:
    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(canary),)

    def pickled(path: Path) -> None:
        import numpy as np

        with np.load(path) as arrays:
            kept = dict(arrays)
        kept["x_train"] = np.array([Payload()] * len(kept["x_train"]), dtype=object)
        np.savez(path, allow_pickle=True, **kept)

    changes: dict[str, Change] = {
        "a pipe as data": lambda p: (p.unlink(), os.mkfifo(p)),
        "/dev/zero as data": lambda p: (p.unlink(), p.symlink_to("/dev/zero")),
        "data that are no zip": lambda p: p.write_bytes(b"no"),
        "data cut short": lambda p: os.truncate(p, p.stat().st_size // 2),
        "empty data": lambda p: os.truncate(p, 0),
        "data of a huge shape": _with_member(npz("(1000000000000, 28, 28)", "'|u1'")),
        "data of a negative shape": _with_member(npz("(-1, 28, 28)", "'|u1'")),
        "data with a deep header": _with_member(npz("(" * 3000)),
        "pickled data": pickled,
        "a directory as data": lambda p: (p.unlink(), p.mkdir()),
    }
    for what, change in changes.items():
        yield Case(what, change, True, ("trainer.max_steps=1",), of_data=True)


# ---- how they are made


def resign(path: Path, **changes: Any) -> None:
    """Sign a checkpoint that was changed, as whoever lies would."""
    from framework.checkpoint.manifest import signed

    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("sha256")
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(signed(manifest | changes))


def npz(shape: str, descr: str = "'<f8'") -> bytes:
    """Return a file with one array of 48 bytes, whose header says what it likes."""
    out = io.BytesIO()
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    with zipfile.ZipFile(out, "w") as file:
        head = b"\x93NUMPY\1\0" + struct.pack("<H", len(text))
        file.writestr("00000.npy", head + text.encode() + bytes(48))
    return out.getvalue()


def _with_member(content: bytes) -> Change:
    """Put the one array of a file in the place of the training images."""

    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as file:
            members = {name: file.read(name) for name in file.namelist()}
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members["x_train.npy"] = file.read("00000.npy")
        with zipfile.ZipFile(path, "w") as file:
            for name, each in members.items():
                file.writestr(name, each)

    return change


def _bomb(path: Path) -> None:
    text = "{'descr': '|u1', 'fortran_order': False, 'shape': (1500000000,)}".ljust(117) + "\n"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("00000.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode())
        for _ in range(1500):
            member.write(bytes(10**6))


def _with_config(node: dict[str, Any]) -> Change:
    def change(run: Path) -> None:
        import yaml

        config = yaml.safe_load((run / "config.yaml").read_text())
        for key, value in node.items():
            old = config.get(key)
            config[key] = {**(old if isinstance(old, dict) else {}), **value}
        (run / "config.yaml").write_text(yaml.safe_dump(config))

    return change


def _with_module(run: Path, canary: Path) -> None:
    (run / "evil.py").write_text(f"import os\nos.mkdir({str(canary)!r})\nclass Mine: ...\n")
    _with_config({"task": {"_target_": "evil.Mine"}})(run)


def _with_line(line: str) -> Change:
    return lambda run: (run / "overrides.yaml").open("a").write(f"- {json.dumps(line)}\n")


def _with_text(name: str, text: str) -> Change:
    return lambda run: (run / name).write_text(text)


def _with_bytes(name: str, content: bytes) -> Change:
    return lambda run: _file(run / name).write_bytes(content)


def _file(path: Path) -> Path:
    return next(iter(sorted(path.glob("events*")))) if path.is_dir() else path


def _flipped(name: str, seed: int) -> Change:
    def change(run: Path) -> None:
        path = _file(run / name)
        content = bytearray(path.read_bytes())
        draw = random.Random(seed)
        content[draw.randrange(40, len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)

    return change


def _instead(name: str, make: Change) -> Change:
    def change(path: Path) -> None:
        place = path / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        make(place)

    return change


def _moved(name: str) -> Change:
    def change(run: Path) -> None:
        os.rename(run / name, f"{run}-{name}")
        (run / name).symlink_to(f"{run}-{name}")

    return change


def _signed_text(text: str) -> Change:
    return lambda path: ((path / "state.json").write_text(text), resign(path))


def _signed_arrays(content: bytes) -> Change:
    return lambda path: ((path / "arrays.npz").write_bytes(content), resign(path))


def _with_state(change: Callable[[dict[str, Any]], Any]) -> Change:
    def changed(path: Path) -> None:
        state = json.loads((path / "state.json").read_text())
        change(state)
        (path / "state.json").write_text(json.dumps(state))
        resign(path)

    return changed


def _each(change: Change) -> Change:
    return lambda run: [change(path) for path in sorted(run.glob("checkpoints/step-*"))]


def _newest(change: Change) -> Change:
    return lambda run: change(max(run.glob("checkpoints/step-*")))
