"""Our threads times the libraries' never exceed the usable cores."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from embedkit.utils import parallel, threads
from embedkit.utils.parallel import in_order
from embedkit.utils.threads import library_threads, threads_for, usable_cores, use_one_thread


def library_counts():
    """Threads that each library would use in the calling thread."""
    np.ones((2, 2)) @ np.ones((2, 2))
    return {one["filepath"]: one["num_threads"] for one in threadpool_info()}


@pytest.fixture
def many_threads():
    """Libraries that would take eight threads each."""
    before = torch.get_num_threads()
    with threadpool_limits(8):
        torch.set_num_threads(8)
        yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize("limit", [1, 2])
def test_libraries_are_limited_and_released(limit):
    before = library_counts()
    assert max(before.values()) == 8
    with library_threads(limit):
        assert max(library_counts().values()) <= limit
        assert torch.get_num_threads() == limit
    assert library_counts() == before
    assert torch.get_num_threads() == 8


def test_a_lower_setting_is_kept():
    with threadpool_limits(1), library_threads(4):
        assert max(library_counts().values()) == 1


@pytest.mark.usefixtures("many_threads")
@pytest.mark.parametrize(("cores", "workers"), [(8, 4), (8, 8), (4, 9), (2, 1)])
def test_workers_times_library_threads_fit_the_cores(monkeypatch, cores, workers):
    monkeypatch.setattr(parallel, "usable_cores", lambda: cores)
    each = [max(found.values()) for _, found in in_order(lambda _: library_counts(), "ab", workers)]
    assert max(each) * min(workers, cores) <= cores


@pytest.mark.usefixtures("many_threads")
def test_a_thread_of_a_pool_computes_alone():
    openmp = {one["filepath"] for one in threadpool_info() if one["user_api"] == "openmp"}
    with ThreadPoolExecutor(1, initializer=use_one_thread) as pool:
        inside = pool.submit(library_counts).result()
    assert openmp
    assert {inside[path] for path in openmp} == {1}


def test_little_work_takes_one_thread():
    assert threads_for(1e6) == 1
    assert threads_for(1e12) == usable_cores()


@pytest.mark.parametrize(
    ("files", "lines", "cores"),
    [
        ({"cpu.max": "max 100000\n"}, "0::/\n", None),
        ({"cpu.max": "150000 100000\n"}, "0::/\n", 2),
        ({"a/cpu.max": "max 100000\n", "cpu.max": "50000 100000\n"}, "0::/a\n", 1),
        ({"a/b/cpu.max": "100000 100000\n"}, "0::/a/b\n", 1),
        (
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            "4:memory:/x\n2:cpu,cpuacct:/\n",
            3,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/\n", None),
        ({}, "0::/\n", None),
    ],
    ids=str,
)
def test_the_quota_of_a_control_group_counts(tmp_path, monkeypatch, files, lines, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "self").write_text(lines)
    monkeypatch.setattr(threads, "_CGROUP", tmp_path)
    monkeypatch.setattr(threads, "_MINE", tmp_path / "self")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    assert usable_cores() == (cores or 16)


def test_only_one_module_limits_threads():
    """The policy is in one place: no other module sets the threads of a library."""
    package = Path(threads.__file__).parents[1]
    setters = ("threadpool_limits(", "ThreadpoolController(", ".setNumThreads(")
    for path in package.rglob("*.py"):
        if path != Path(threads.__file__):
            assert not any(name in path.read_text("utf-8") for name in setters), path
