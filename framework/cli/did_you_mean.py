"""Map the keys that people try first to the options that they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from framework.cli.groups.data_choices import DataConfig
from framework.cli.groups.root import GROUPS, LISTS, MODES, SPANNING, RunConfig
from framework.cli.help import list_choices
from framework.compat import is_null, node_of
from framework.config import TrainerConfig
from framework.errors import UserError, choice, closest

# By intended option: the names that other trainers use, as the last part of a key.
_CALLED = {
    "optimizer.learning_rate": "lr learning_rate base_lr init_lr rate",
    "optimizer.weight_decay": "wd weight_decay l2",
    "optimizer": "optim opt optimiser",
    "trainer.max_epochs": "epochs epoch num_epochs n_epochs nb_epochs num_train_epochs",
    "trainer.max_steps": "steps step num_steps n_steps iterations total_steps train_steps",
    "trainer.max_time": "time timeout max_duration",
    "data.batch_size": "batch_size batch bs batchsize train_batch_size per_device_train_batch_size",
    "data.eval_batch_size": "val_batch_size test_batch_size per_device_eval_batch_size",
    "data.val_fraction": "val_split validation_split",
    "trainer.devices": "gpus num_gpus n_gpus n_gpu num_devices",
    "trainer.device": "gpu cuda accelerator use_gpu",
    "trainer.precision=mixed_float16": "fp16 amp half use_amp",
    "trainer.precision=mixed_bfloat16": "bf16",
    "trainer.precision": "dtype precision",
    "checkpoint": (
        "ckpt ckpt_path checkpoint_path resume_from resume_from_checkpoint load load_from "
        "weights pretrained init_from"
    ),
    "seed": "random_seed rng manual_seed seed_everything random_state",
    "run_dir": (
        "output out output_dir out_dir logdir log_dir save_dir root_dir default_root_dir "
        "work_dir rundir logging_dir"
    ),
    "task": "experiment_name job",
    "experiment": "exp",
    "data": "dataset datasets datamodule",
    "data.dir": "data_dir data_path dataset_dir datadir",
    "schedule": "scheduler lr_scheduler lr_schedule",
    "loggers": "logger log",
    "callbacks": "callback cb",
    "metrics": "metric",
    "loss": "criterion loss_fn",
    "model": "network arch backbone net",
    "callbacks=early_stopping callbacks.early_stopping.patience": "patience",
    "callbacks=ema": "ema",
    "trainer.clip_norm": (
        "clip grad_clip max_grad_norm gradient_clip_val clip_grad_norm gradient_clip"
    ),
    "trainer.accumulate": "accumulate_grad_batches grad_accum gradient_accumulation_steps accum",
    "trainer.val_every": (
        "val_check_interval check_val_every_n_epoch eval_every eval_steps validate_every"
    ),
    "trainer.log_every": "log_every_n_steps log_interval logging_steps",
    "-v": "verbose verbosity",
    "trainer.enable_progress_bar": "progress_bar progress",
    "trainer.engine": "jit compile run_eagerly eager",
    "mode": "stage phase action command",
}
_MEANT = {word: key for key, words in _CALLED.items() for word in words.split()}
_MODES = {
    **dict.fromkeys(("train", "training", "run"), "fit"),
    **dict.fromkeys(("eval", "evaluate", "val", "valid", "validation"), "validate"),
    **dict.fromkeys(("infer", "inference", "pred", "prediction"), "predict"),
    **dict.fromkeys(("lr", "find_lr", "lr_finder", "lr_range_test"), "lr_find"),
    **dict.fromkeys(("save", "convert", "deploy", "onnx", "keras", "tflite"), "export"),
    **dict.fromkeys(("batch_size", "scale_batch_size", "batch_finder"), "batch_size_find"),
}
_UNNEEDED = dict.fromkeys(
    ("num_workers", "workers", "n_workers", "dataloader_num_workers", "pin_memory", "prefetch"),
    "Leave it out: the compiled loop reads the data itself, without worker processes. "
    "trainer.threads sets TensorFlow's threads.",
)


def meant(key: str) -> str:
    """Return the option that a guessed key stands for; empty if it is not a known guess.

    Example:
        >>> meant("lr"), meant("trainer.epochs"), meant("max_epochs")
        ('optimizer.learning_rate', 'trainer.max_epochs', 'trainer.max_epochs')
    """
    right = _MEANT.get(_last(key), "") or _elsewhere(_last(key))
    return right if right != key else ""


def guess(key: str, value: str = "<value>", *, anywhere: bool = True) -> str:
    """Return the fix for a commonly guessed key; empty if it is not a known guess.

    With `anywhere`, it may also be an option with this exact name in another group.
    """
    name = _last(key)
    if name in _UNNEEDED:
        return _UNNEEDED[name]
    right = meant(key) if anywhere or name in _MEANT else ""
    return right and f"Write {written(right, value)}"


def check_debug(overrides: Sequence[str]) -> None:
    """Refuse `debug=true`, which once showed tracebacks.

    Raises:
        UserError: A truth value is given for `debug`.
    """
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "debug" and value.lower() in ("true", "false", "1", "0"):
            raise UserError(
                f"debug is {value}, but it names what to debug",
                where=override,
                fix=f"Write -v to see tracebacks. Or {choice(value, SPANNING['debug'])}",
            )


def mode_fix(word: str) -> str:
    """Return the fix for a mode that does not exist."""
    return choice(_MODES.get(word.lower(), word), MODES)


def written(right: str, value: str) -> str:
    """Return an option from `meant` with a value, unless it already has one."""
    done = right.startswith("-") or "=" in right.rpartition(" ")[2]
    return right if done else f"{right}={value}"


def _last(key: str) -> str:
    return key.rpartition(".")[2].replace("-", "_").lower()


def _elsewhere(name: str) -> str:
    for parent, schema in (("", RunConfig), ("trainer", TrainerConfig), ("data", DataConfig)):
        if any(f.name == name for f in fields(schema)) and name not in ("defaults", "hydra"):
            return f"{parent}.{name}" if parent else name
    return ""


def key_fix(steps: Sequence[str], config: Any, config_dir: Path | None, value: str) -> str:
    """Return the fix for an option, given by the parts of its key, that the configuration lacks."""
    from omegaconf import OmegaConf

    if _last(steps[-1]) in _UNNEEDED:
        return _UNNEEDED[_last(steps[-1])]
    node, depth = config, 0
    while depth < len(steps) and OmegaConf.is_dict(node) and steps[depth] in node:
        node, depth = node_of(node, steps[depth]), depth + 1
    parent, step = ".".join(steps[:depth]), steps[min(depth, len(steps) - 1)]
    is_node = OmegaConf.is_dict(node) and not is_null(node)
    known = [str(k) for k in node if str(k)[0] != "_"] if is_node else None
    choices = list_choices(config_dir).get(parent, [])
    if parent in LISTS and step in choices:
        return f"Choose it first: {parent}={step}"
    if parent and is_node and not known:
        real = [name for name in choices if name != "none"]
        if real:
            return f"Nothing is chosen in {parent}. Choose first: {parent}=<{'|'.join(real)}>"
        return f"{parent} has no options. Define some in conf/{parent}/<name>.yaml."
    others = [n for n, choice in GROUPS.get(parent, {}).items() if hasattr(choice, step)]
    if others:
        return f"It is an option of {parent}={', '.join(others)}."
    key = ".".join(steps)
    if guessed := guess(key, value, anywhere=False):
        return guessed
    if known is None:
        return guess(key, value) or f"{parent} is a single value, so it has no options."
    near = closest(step, known)
    right = near.split("'")[1] if near.startswith("Did") else ""
    last = depth == len(steps) - 1
    if right and (last or parent or OmegaConf.is_dict(node_of(node, right))):
        full = f"{parent}.{right}" if parent else ".".join([right, *steps[1:]])
        return f"Did you mean {full!r}?"
    if guessed := guess(key, value):
        return guessed
    fix = f"{parent or 'The configuration'} has: {', '.join(known)}."
    if parent == "task":
        fix += f" For an argument that its file does not set: +{key}={value}"
    return fix
