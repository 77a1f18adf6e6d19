"""Control groups as Linux shows them, of both versions, in a tree of files of our own."""

import pytest

import ufm_fast as uf
from ufm_fast._runtime import control_groups, memory, threads

UNLIMITED = 9223372036854771712  # what version 1 says


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Make a system: what /proc/self says, with FS for where the mounts are, and files by name with their contents."""

    def make(groups, mounts, files):
        process = tmp_path / "process"
        process.mkdir()
        (process / "cgroup").write_text("".join(f"{group}\n" for group in groups))
        lines = (f"{30 + i} 29 0:{i} {mount}\n" for i, mount in enumerate(mounts))
        (process / "mountinfo").write_text("".join(lines).replace("FS", str(tmp_path / "fs")))
        for name, content in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        monkeypatch.setattr(control_groups, "_PROCESS", process)
        clear()

    def clear():
        control_groups._folders.cache_clear()
        threads._quota.cache_clear()

    yield make
    monkeypatch.undo()
    clear()


V2 = "/ FS rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
MEMORY, CPU = ("/ FS/memory rw - cgroup cgroup rw,memory", "/ FS/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct")


def left():
    return list(control_groups.memory_left())


def test_version_2_own_group_and_those_around_it(system):
    system(
        ["0::/user.slice/job/step"],
        ["/ / rw - ext4 /dev/sda1 rw", V2],
        {
            "user.slice/memory.max": 5000, "user.slice/memory.current": 1500,
            "user.slice/memory.stat": "anon 9\ninactive_file 300\nactive_file 7",
            "user.slice/job/memory.max": "max", "user.slice/job/memory.current": 1400,
            "user.slice/job/step/memory.max": 4000, "user.slice/job/step/memory.high": 3500,
            "user.slice/job/step/memory.current": 1000,
            "user.slice/other/memory.max": 1,
        },
    )  # fmt: skip
    assert left() == [5000 - 1500 + 300, 3500 - 1000]
    assert memory.available_memory() == 2500


def test_version_2_in_a_container(system):
    """Its own group is the root of what it sees."""
    system(["0::/"], [V2], {"memory.max": 700, "memory.current": 100, "cpu.max": "150000 100000"})
    assert left() == [600]
    assert list(control_groups.processors_allowed()) == [1.5]


def test_version_1(system):
    system(
        ["12:cpu,cpuacct:/a", "4:memory:/a/b", "1:name=systemd:/c", "0::/d"],
        [MEMORY, CPU, "/ FS/unified rw - cgroup2 cgroup2 rw", "/ FS/systemd rw - cgroup cgroup rw,name=systemd"],
        {
            "memory/memory.limit_in_bytes": UNLIMITED, "memory/memory.usage_in_bytes": 50,
            "memory/a/memory.limit_in_bytes": 900, "memory/a/memory.usage_in_bytes": 400,
            "memory/a/memory.stat": "cache 5\ntotal_inactive_file 30",
            "memory/a/b/memory.limit_in_bytes": 800, "memory/a/b/memory.usage_in_bytes": 350,
            "cpu,cpuacct/cpu.cfs_quota_us": -1, "cpu,cpuacct/cpu.cfs_period_us": 100_000,
            "cpu,cpuacct/a/cpu.cfs_quota_us": 300_000, "cpu,cpuacct/a/cpu.cfs_period_us": 100_000,
        },
    )  # fmt: skip
    assert left() == [UNLIMITED - 50, 900 - 400 + 30, 800 - 350]
    assert list(control_groups.processors_allowed()) == [3]


def test_version_1_in_a_container_that_sees_the_paths_of_its_host(system):
    """The mount's root is the container's group, as Docker does it."""
    system(
        ["4:memory:/docker/abc/inner"],
        ["/docker/abc FS/memory ro - cgroup cgroup rw,memory"],
        {
            "memory/memory.limit_in_bytes": 500, "memory/memory.usage_in_bytes": 100,
            "memory/inner/memory.limit_in_bytes": 300, "memory/inner/memory.usage_in_bytes": 50,
        },
    )  # fmt: skip
    assert left() == [400, 250]


def test_systems_without_any(system):
    system([], [], {})
    assert left() == list(control_groups.processors_allowed()) == []


@pytest.mark.parametrize(
    ("maximum", "expected"),
    [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("3200000 100000", 8)],
)
def test_threads_by_default_heed_quotas(system, monkeypatch, maximum, expected):
    for name in ("UFM_FAST_NUM_THREADS", "OMP_NUM_THREADS", *threads._LOCAL_SIZES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    system(["0::/job"], [V2], {"job/cpu.max": maximum})
    assert uf.get_num_threads() == expected
