"""Which launchers there are, and what is missing for one."""

from __future__ import annotations

import shutil

from framework.cli.arguments import Arguments
from framework.cli.quoting import key_of, value_of
from framework.core.extras import installing, is_installed
from framework.errors import UserError, choice
from framework.sweep.launcher import NAME

# By launcher: the module that has it, and the extra that installs it.
_EXTRAS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
}


def check_launcher(arguments: Arguments) -> None:
    """Refuse a launcher that does not exist, or that lacks what it needs.

    Raises:
        UserError: It says which launchers there are, or what to install.
    """
    given = [o for o in arguments.overrides if key_of(o) == "hydra/launcher"]
    several = [o for o in arguments.overrides if key_of(o) == "jobs" and value_of(o) != "1"]
    if not given:
        return
    name = value_of(given[-1])
    if several and name != NAME:
        own = {
            "joblib": "hydra.launcher.n_jobs",
            "submitit_slurm": "hydra.launcher.array_parallelism",
        }
        fix = f"Leave it out, or leave out {given[-1]}."
        if name in own:
            fix = f"Write {own[name]}={value_of(several[-1])}"
        raise UserError(
            f"jobs= is for processes of this machine, not for the launcher {name!r}",
            where=several[-1],
            fix=fix,
        )
    if name in _EXTRAS:
        module, extra = _EXTRAS[name]
        if not is_installed(module):
            raise UserError(
                f"The launcher {name!r} is not installed",
                where=given[-1],
                fix=installing(extra),
            )
        if name == "submitit_slurm" and not shutil.which("sbatch"):
            raise UserError(
                "There is no SLURM on this machine: the command sbatch is missing",
                where=given[-1],
                fix="Start the sweep on a login node, or write hydra/launcher=submitit_local.",
            )
    elif name not in _own_choices(arguments):
        known = ["basic", NAME, *_EXTRAS]
        raise UserError(f"There is no launcher {name!r}", where=given[-1], fix=choice(name, known))


def _own_choices(arguments: Arguments) -> set[str]:
    """Return the launchers that Hydra finds, including those of other plugins and the project."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # finds the plugins, which store their choices
    groups = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    folder = arguments.config_dir and arguments.config_dir / "hydra" / "launcher"
    own = {path.stem for path in folder.glob("*.yaml")} if folder else set()
    return {name.removesuffix(".yaml") for name in groups} | own | {NAME}
