"""Free memory is what the machine has and what the limits around this process leave of it."""

import pytest

from eval.free_memory import available_bytes

GIB = 1 << 30
UNLIMITED = 9223372036854771712


def write(root, groups, **files):
    """A file system with 8 GiB free, this process's groups, and files whose ``__`` are slashes."""
    for name, text in {"proc/meminfo": f"MemAvailable: {8 * GIB >> 10} kB\n", **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    if groups is not None:
        (root / "proc" / "self").mkdir()
        (root / "proc" / "self" / "cgroup").write_text(groups)
    return root


def version_2(folder, limit, use, unused=0):
    stat = f"anon 5\ninactive_file {unused}\n"
    return {f"{folder}/memory.max": limit, f"{folder}/memory.current": use} | {
        f"{folder}/memory.stat": stat
    }


def version_1(folder, limit, use, unused=0):
    stat = f"inactive_file 1\ntotal_inactive_file {unused}\n"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
    return {f"{folder}/{name}": text for name, text in zip(names, (limit, use, stat), strict=True)}


def test_without_control_groups_it_is_the_machines(tmp_path):
    assert available_bytes(write(tmp_path, None)) == 8 * GIB


def test_a_limit_of_a_group_leaves_what_is_not_used_but_for_files_that_nobody_reads(tmp_path):
    group = "sys/fs/cgroup/job"
    files = version_2(group, 3 * GIB, 2 * GIB, GIB // 2)
    assert available_bytes(write(tmp_path, "0::/job\n", **files)) == 1.5 * GIB


def test_the_tightest_of_the_groups_around_decides(tmp_path):
    files = version_2("sys/fs/cgroup/job", 2 * GIB, GIB) | version_2(
        "sys/fs/cgroup/job/step", "max", GIB // 2
    )
    assert available_bytes(write(tmp_path, "0::/job/step\n", **files)) == GIB


def test_a_group_that_a_container_hides_is_looked_for_at_its_top(tmp_path):
    files = version_2("sys/fs/cgroup", 2 * GIB, 1.5 * GIB // 1)
    files["sys/fs/cgroup/memory.current"] = GIB
    root = write(tmp_path, "0::/../../docker/abc\n", **files)
    assert available_bytes(root) == GIB


def test_groups_of_version_1_count_too_and_a_limit_beyond_the_machine_does_not(tmp_path):
    top = "sys/fs/cgroup/memory"
    files = version_1(top, UNLIMITED, 5 * GIB) | version_1(
        f"{top}/slurm/job", 4 * GIB, 3 * GIB, GIB
    )
    groups = "7:cpu,cpuacct:/elsewhere\n4:memory:/slurm/job\n0::/\n"
    assert available_bytes(write(tmp_path, groups, **files)) == 2 * GIB
    (tmp_path / f"{top}/slurm/job/memory.limit_in_bytes").write_text(str(UNLIMITED))
    assert available_bytes(tmp_path) == 8 * GIB


def test_a_group_beyond_its_limit_leaves_nothing(tmp_path):
    files = version_2("sys/fs/cgroup/job", GIB, 2 * GIB)
    assert available_bytes(write(tmp_path, "0::/job\n", **files)) == 0


def test_what_cannot_be_understood_is_named(tmp_path):
    files = version_2("sys/fs/cgroup/job", "plenty", GIB)
    with pytest.raises(ValueError, match="job does not tell"):
        available_bytes(write(tmp_path, "0::/job\n", **files))
    (tmp_path / "proc" / "meminfo").write_text("MemFree: 5 kB\n")
    with pytest.raises(ValueError, match="meminfo does not tell"):
        available_bytes(tmp_path)


def test_this_machine_has_some():
    assert 0 < available_bytes() < 1 << 50
