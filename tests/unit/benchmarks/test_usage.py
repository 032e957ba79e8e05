"""CPU and memory of processes are read from /proc."""

import os
from pathlib import Path

import pytest

from benchmarks import usage


def process(proc: Path, pid: int, parent: int, program: str, *, ticks: int = 0) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    fields = ["S", str(parent), *["0"] * 9, str(ticks), str(ticks), "0"]
    (folder / "stat").write_text(f"{pid} (a) name (b)) {' '.join(fields)}\n")
    (folder / "status").write_text("Name:\tx\nVmRSS:\t    1024 kB\n")
    (folder / "cmdline").write_bytes(f"{program}\0--flag=1\0".encode())


def test_any_process_name_leaves_cpu_and_memory_readable(tmp_path: Path) -> None:
    process(tmp_path, 7, 1, "etcd", ticks=os.sysconf("SC_CLK_TCK"))
    assert usage.of(7, tmp_path) == usage.Usage(cpu=2.0, resident=1 << 20)


def test_children_are_found_by_the_name_of_their_program(tmp_path: Path) -> None:
    process(tmp_path, 7, 5, "/opt/kube/kube-apiserver")
    process(tmp_path, 8, 5, "etcd")
    process(tmp_path, 9, 7, "not-ours")
    (tmp_path / "10").mkdir()
    assert usage.children(5, tmp_path) == {"kube-apiserver": 7, "etcd": 8}


def test_an_absent_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        usage.of(1, tmp_path)


def test_this_process_uses_something() -> None:
    assert usage.of(os.getpid()).resident > 1 << 20
