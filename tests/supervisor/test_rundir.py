"""The run directory and the lock: short paths, right modes, one emperor."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from emperor.supervisor.rundir import (
    PATH_BYTES,
    Locked,
    RunDir,
    RunDirError,
    derived,
    lock_directory,
    run_root,
)


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_modes_and_what_is_there_already_is_no_trouble(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path / "run"))
    for _ in range(2):
        run_dir.make()
        assert mode(run_dir.path) == 0o711
        assert mode(run_dir.states) == 0o700
        assert mode(os.path.dirname(run_dir.backplane("blog"))) == 0o711
        assert mode(os.path.dirname(run_dir.gateway("blog", 1))) == 0o700
        os.chmod(run_dir.path, 0o777)


def test_every_path_of_a_directory_that_is_allowed_fits_a_unix_socket() -> None:
    for length in (50, 79, 80, 200):
        run_dir = RunDir("/" + "r" * (length - 1))
        longest = run_dir.gateway("n" * 64, 10**9)
        if len(longest) <= PATH_BYTES:
            continue
        with pytest.raises(RunDirError, match="--run-dir"):
            run_dir.make()


def test_a_path_that_is_too_long_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"too long by \d+ bytes.*--run-dir"):
        RunDir(str(tmp_path / ("x" * 100))).make()


def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("needs root, to give a directory away")
    (tmp_path / "run").mkdir()
    os.chown(tmp_path / "run", 12345, 12345)
    with pytest.raises(RunDirError, match="belongs to uid 12345"):
        RunDir(str(tmp_path / "run")).make()


def test_clear_leaves_what_is_not_ours(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path / "run"))
    run_dir.make()
    Path(run_dir.control).touch()
    Path(run_dir.state("blog", 1)).touch()
    Path(run_dir.path, "theirs").touch()
    run_dir.clear()
    assert sorted(os.listdir(run_dir.path)) == ["theirs"]
    os.unlink(Path(run_dir.path, "theirs"))
    run_dir.make()
    run_dir.clear()
    assert not os.path.exists(run_dir.path)


def test_two_directories_never_share_a_run_directory_and_a_link_is_its_target(tmp_path: Path) -> None:
    for name in ("a/vassals", "b/vassals"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/vassals")
    root = Path("/run/emperor")
    first, second = derived(root, tmp_path / "a/vassals"), derived(root, tmp_path / "b/vassals")
    assert first != second and first.parent == root and first.name.startswith("vassals-")
    assert derived(root, tmp_path / "link") == first
    assert derived(root, Path("/")).name.startswith("root-")


def test_run_roots() -> None:
    assert run_root(0, {"XDG_RUNTIME_DIR": "/run/user/0"}) == Path("/run/emperor")
    assert run_root(1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}) == Path("/run/user/1000/emperor")
    assert run_root(1000, {}).name == "emperor-1000"


def test_a_held_directory_names_its_holders_pid_and_is_free_when_the_holder_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from emperor.supervisor.rundir import lock_directory\n"
            f"lock_directory({str(tmp_path)!r}); print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Locked, match=f"pid {holder.pid}"):
        lock_directory(str(tmp_path))
    holder.kill()
    holder.wait(10)
    holder.stdin.close()
    holder.stdout.close()
    os.close(lock_directory(str(tmp_path)))


def test_no_directory_no_lock(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="nothing"):
        lock_directory(str(tmp_path / "nothing"))
