"""What the environment tells of a cluster."""

from __future__ import annotations

import json

import pytest

from framework import UserError
from framework.core.cluster import Member, member


def test_tf_config_with_a_chief_counts_it_first() -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}

    def of(kind: str, index: int) -> Member:
        task = {"type": kind, "index": index}
        return member({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})

    assert of("chief", 0) == Member(0, ("a:1", "b:1", "c:1"), "TF_CONFIG")
    assert of("worker", 1) == Member(2, ("a:1", "b:1", "c:1"), "TF_CONFIG")
    assert [of("chief", 0).is_chief, of("worker", 0).is_chief] == [True, False]


def test_an_indexed_job_of_kubernetes_names_its_pods() -> None:
    environ = {"JOB_COMPLETION_INDEX": "1", "JOB_NAME": "cifar", "SERVICE_NAME": "cifar-svc"}
    assert member(environ | {"WORKERS": "2"}) == Member(
        1, ("cifar-0.cifar-svc:12345", "cifar-1.cifar-svc:12345"), "Kubernetes"
    )


def test_a_task_of_slurm_has_its_place_among_all_of_its_step() -> None:
    environ = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "n[1-2]"}
    environ |= {"SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"}
    assert member(environ) == Member(1, ("n1:20128", "n2:20129"), "SLURM")


@pytest.mark.parametrize(
    ("environ", "what", "fix"),
    [
        ({}, "nothing identifies this worker", "TF_CONFIG"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG cannot be read", '"cluster"'),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG cannot be read", '"cluster"'),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}'},
            "tasks of the type 'ps'",
            "every process trains",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 1}}'},
            "has 1 workers, and this is number 1",
            "from 0",
        ),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}, "it has no SLURM_JOB_ID", "srun"),
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}, "SLURM_STEP_NODELIST", "Start it with srun"),
        ({"JOB_COMPLETION_INDEX": "0"}, "needs the variable JOB_NAME", "WORKERS"),
    ],
)
def test_an_environment_that_tells_of_no_cluster(
    environ: dict[str, str], what: str, fix: str
) -> None:
    with pytest.raises(UserError) as error:
        member(environ)
    assert what in error.value.what
    assert fix in str(error.value.fix)
