"""What SLURM's variables say of a job; the environments are those of a real one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import UserError
from framework.core.slurm import (
    directory_name,
    hostnames,
    port,
    tasks_of_nodes,
    workers_of_step,
)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        # As `scontrol show hostnames` expands them.
        ("n[1-3,07],m5", ["n1", "n2", "n3", "n07", "m5"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("localhost", ["localhost"]),
        # Its later versions also know suffixes and several brackets; the last changes fastest.
        ("n[1-2]-ib", ["n1-ib", "n2-ib"]),
        ("r[1-2]n[01-02]", ["r1n01", "r1n02", "r2n01", "r2n02"]),
        ("gpu-a100-[001,003-004].cluster,b", ["gpu-a100-001.cluster", "gpu-a100-003.cluster",
                                              "gpu-a100-004.cluster", "b"]),
    ],
)  # fmt: skip
def test_a_hostlist_is_expanded_as_slurm_does(text: str, hosts: list[str]) -> None:
    assert hostnames(text) == hosts


@pytest.mark.parametrize("text", ["", "n[1-2", "n1]", "n[]", "n[3-1]", "n[a]", "n1,,n2", "n1, n2"])
def test_what_is_not_a_hostlist_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match="SLURM_STEP_NODELIST is") as error:
        hostnames(text, "SLURM_STEP_NODELIST")
    assert repr(text) in error.value.what


PREFIXES = st.from_regex(r"[a-z]([a-z-]{0,6}[a-z])?", fullmatch=True)
RANGES = st.tuples(st.integers(0, 1200), st.integers(0, 30), st.integers(1, 5))


@given(st.lists(st.tuples(PREFIXES, st.lists(RANGES, min_size=1, max_size=3)), min_size=1,
                max_size=4))  # fmt: skip
def test_any_list_of_ranges_gives_its_hosts_back(
    groups: list[tuple[str, list[tuple[int, int, int]]]],
) -> None:
    said, hosts = [], []
    for prefix, ranges in groups:
        texts = []
        for first, more, width in ranges:
            numbers = [f"{number:0{width}}" for number in range(first, first + more + 1)]
            texts.append(f"{numbers[0]}-{numbers[-1]}" if more else numbers[0])
            hosts += [prefix + number for number in numbers]
        said.append(f"{prefix}[{','.join(texts)}]")
    assert hostnames(",".join(said)) == hosts


@given(st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_tasks_of_nodes_are_read_in_full_and_as_slurm_shortens_them(counts: list[int]) -> None:
    assert tasks_of_nodes(",".join(map(str, counts))) == counts
    full = " ".join(map(str, counts))
    runs = re.sub(r"\b(\d+)((?: \1\b)+)", lambda m: f"{m[1]}(x{m[0].count(' ') + 1})", full)
    assert tasks_of_nodes(runs.replace(" ", ",")) == counts


@pytest.mark.parametrize("text", ["", "2(3)", "x", "2,", "2(x)"])
def test_tasks_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="tasks per node is"):
        tasks_of_nodes(text)


def task(job: int, nodes: str, tasks: str, node: int, local: int, step: int = 0) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_ID": str(step),
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        "SLURM_NODEID": str(node),
        "SLURM_LOCALID": str(local),
    }


@pytest.mark.parametrize(
    ("environ", "index", "hosts"),
    [
        # sbatch -N2 --ntasks=3, srun: SLURM_PROCID 0, 1 and 2
        (task(1, "n[1-2]", "2,1", 0, 0), 0, ["n1", "n1", "n2"]),
        (task(1, "n[1-2]", "2,1", 0, 1), 1, ["n1", "n1", "n2"]),
        (task(1, "n[1-2]", "2,1", 1, 0), 2, ["n1", "n1", "n2"]),
        # srun -m cyclic: SLURM_PROCID 2 is the second task of the first node
        (task(1, "n[1-2]", "2,1", 0, 1, step=1), 1, ["n1", "n1", "n2"]),
        # srun -N1 -n1, outside a batch job, on the second node of the cluster
        (task(2, "n2", "1", 0, 0), 0, ["n2"]),
        (task(9, "n[1-3,07],m5", "2(x3),1(x2)", 3, 0), 6,
         ["n1", "n1", "n2", "n2", "n3", "n3", "n07", "m5"]),
    ],
)  # fmt: skip
def test_every_task_finds_its_place(environ: dict[str, str], index: int, hosts: list[str]) -> None:
    found, addresses = workers_of_step(environ)
    assert found == index
    assert [address.rpartition(":")[0] for address in addresses] == hosts
    assert len(set(addresses)) == len(hosts)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 10**8),
       st.integers(0, 9))  # fmt: skip
def test_all_tasks_agree_on_the_addresses_and_differ_in_their_number(
    tasks: list[int], job: int, step: int
) -> None:
    nodes, counts = f"n[1-{len(tasks)}]", ",".join(map(str, tasks))
    found = [
        workers_of_step(task(job, nodes, counts, node, local, step))
        for node, count in enumerate(tasks)
        for local in range(count)
    ]
    assert [index for index, _ in found] == list(range(sum(tasks)))
    assert len({addresses for _, addresses in found}) == 1
    # Also if the nodes are one machine, which has each port once.
    assert len({address.rpartition(":")[2] for address in found[0][1]}) == sum(tasks)


@given(st.integers(0, 2**32), st.integers(1, 98))
def test_jobs_at_the_same_time_share_no_port(job: int, later: int) -> None:
    ports = {
        number: {port(number, step, worker) for step in range(9) for worker in range(200)}
        for number in (job, job + later)
    }
    assert not ports[job] & ports[job + later]
    # Above those of well-known services, below those that Linux gives to outgoing connections.
    assert all(20000 <= each < 32768 for each in ports[job] | ports[job + later])


def test_steps_of_a_job_at_the_same_time_share_no_port() -> None:
    ports = [port(5, step, worker) for step in range(8) for worker in range(16)]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("environ", "what"),
    [
        ({"SLURM_JOB_ID": "7"}, "has no SLURM_STEP_ID, SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_"),
        (task(7, "n1", "1", 0, 0) | {"SLURM_NODEID": ""}, "has no SLURM_NODEID"),
        (task(7, "n1", "1", 0, 0) | {"SLURM_LOCALID": "x"}, "SLURM_LOCALID is 'x'"),
        (task(7, "n[1-2]", "1", 0, 0), "contradict each other"),
        (task(7, "n1", "1", 1, 0), "contradict each other"),
        (task(7, "n1", "1", 0, 1), "contradict each other"),
        (task(7, "n1", "129", 0, 0), "129 tasks on one node"),
    ],
)
def test_an_incomplete_environment_is_refused(environ: dict[str, str], what: str) -> None:
    with pytest.raises(UserError) as error:
        workers_of_step(environ)
    assert what in error.value.what


def test_a_job_that_runs_again_finds_the_directory_of_its_command() -> None:
    batch = {"SLURM_JOB_ID": "12", "ENVIRONMENT": "BATCH"}
    again = batch | {"SLURM_RESTART_COUNT": "3", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}

    def name(environ: dict[str, str], *words: str, together: bool = False) -> str | None:
        return directory_name(environ, words, together=together)

    first = name(batch, "task=a", "seed=1")
    assert first is not None
    assert re.fullmatch("slurm-12-[0-9a-f]{8}", first)
    assert name(again, "task=a", "seed=1") == first
    different = [name(batch, "task=a", "seed=2"), name(batch, "task=a seed=1"),
                 name(batch | {"SLURM_JOB_ID": "13"}, "task=a", "seed=1")]  # fmt: skip
    assert len({first, *different}) == 4
    # Tasks of a step share one run, or have one each.
    second = again | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
    assert name(second, "task=a", "seed=1") == f"{first}-1"
    assert name(second, "task=a", "seed=1", together=True) == first
    # Nothing runs again by itself in an interactive job, or outside of SLURM.
    assert name({"SLURM_JOB_ID": "12"}, "task=a") is None
    assert name({"ENVIRONMENT": "BATCH"}, "task=a") is None
