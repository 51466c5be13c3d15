"""Schedules have the arguments of what they build."""

from __future__ import annotations

import inspect

from hydra.utils import get_object

from framework.cli.groups.schedule_choices import SCHEDULES


def test_schedules_have_the_arguments_and_defaults_of_what_they_build() -> None:
    for node in filter(None, SCHEDULES.values()):
        options = dict(vars(node()))
        wanted = dict(inspect.signature(get_object(options.pop("_target_"))).parameters)
        wanted.pop("name", None)
        assert options.keys() == wanted.keys()
        for option, value in options.items():
            required = wanted[option].default is inspect.Parameter.empty
            assert value in (None, "???") if required else value == wanted[option].default
