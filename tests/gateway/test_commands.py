"""What a gateway runs for its app: real gateways and real commands; the workers are a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from emperor.config.hooks import Hooks
from emperor.config.spec import AppSpec

from .emperor_side import EmperorSide, wait_until
from .test_gateway import alive


def sh(*commands: str, option: str = "exec-pre-app") -> tuple[tuple[str, str], ...]:
    return tuple((option, f"exec:{command}") for command in commands)


def test_each_moment_in_its_order(emperor: EmperorSide, tmp_path: Path) -> None:
    log = tmp_path / "it's a log"
    hooks = Hooks(
        before=(
            *sh('echo "one $PWD $EMPEROR_VASSAL.$EMPEROR_GENERATION" >> "$LOG"'),
            *sh('echo two >> "$LOG"'),
        ),
        # The worker serves before this has ended, and what is run then waits for it.
        after=sh('sleep 0.3; echo three >> "$LOG"'),
        accepting1=sh('echo four >> "$LOG"'),
        accepting=sh('echo "five $EMPEROR_WORKER" >> "$LOG"'),
        atexit=sh('echo six >> "$LOG"'),
    )
    here = tmp_path / "it's here"
    here.mkdir()
    app = AppSpec(module="ok", chdir=str(here), env=(("LOG", str(log)),), umask=0o027)
    gateway = emperor.spawn(emperor.spec(app=app, hooks=hooks))
    gateway.connect()
    gateway.wait_state("ready")
    assert log.read_text().splitlines()[:3] == [f"one {here} blog.3", "two", "three"], "before it is ready"
    assert log.stat().st_mode & 0o777 == 0o640
    wait_until(lambda: "five 0" in log.read_text(), "what is run when a worker serves")
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 10})
    assert gateway.wait_exit().code == 0
    assert log.read_text().splitlines()[3:] == ["four", "five 0", "six"]


def test_a_line_for_the_log_and_what_a_command_says(emperor: EmperorSide) -> None:
    hooks = Hooks(before=(("hook-asap", "print:here we go"), *sh("echo out; echo err >&2")))
    gateway = emperor.spawn(emperor.spec(hooks=hooks))
    gateway.connect()
    gateway.wait_state("ready")
    gateway.wait_line("hook-asap: here we go")
    gateway.wait_line("exec-pre-app: `echo out; echo err >&2` runs (pid ")
    assert {"out", "err"} <= {text for _, text in gateway.log_lines()}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_one_that_fails_fails_the_start_with_its_last_words(
    emperor: EmperorSide, tmp_path: Path, moment: str
) -> None:
    commands = sh("echo a; echo b; echo; echo no table users >&2; exit 3", f"touch {tmp_path}/next")
    gateway = emperor.spawn(emperor.spec(hooks=Hooks(**{moment: commands})))  # type: ignore[arg-type]
    gateway.connect()
    assert gateway.wait_state("failed") == (
        "exec-pre-app: `echo a; echo b; echo; echo no table users >&2; exit 3` exited with code 3: "
        "a / b / no table users"
    )
    assert gateway.wait_exit().code == 70
    assert not (tmp_path / "next").exists(), "the first that fails is the last"


def test_one_that_hangs_is_killed_with_all_that_it_has_started(emperor: EmperorSide, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    command = (
        f"sleep 60 & echo $! >> {pids}; setsid sleep 60 & echo $! >> {pids}; "
        f"sh -c 'sleep 60 & echo $! >> {pids}; wait' & echo waiting; wait"
    )
    gateway = emperor.spawn(emperor.spec(hooks=Hooks(before=sh(command), timeout_s=1.0)))
    gateway.connect()
    reason = gateway.wait_state("failed")
    assert "did not finish within 1 s (hook-timeout), and was killed: waiting" in reason
    found = [int(pid) for pid in pids.read_text().split()]
    assert len(found) == 3
    wait_until(lambda: not any(map(alive, found)), "its children to end")
    assert gateway.wait_exit().code == 70


def test_a_flood_of_output_is_bounded_and_counted(emperor: EmperorSide) -> None:
    hooks = Hooks(before=sh("yes 0123456789abcdef | head -c 3000000; echo end"))
    gateway = emperor.spawn(emperor.spec(hooks=hooks))
    gateway.connect()
    gateway.wait_state("ready")
    said = gateway.wait_line("bytes more of its output were dropped")
    dropped = int(said.split(": ")[-1].split()[0])
    assert 2_700_000 <= dropped <= 3_000_004
    kept = sum(len(text) + 1 for kind, text in gateway.log_lines() if kind == "app")
    assert kept <= 256 * 1024 + 64


def test_one_that_fails_when_a_worker_serves_or_at_the_end_is_only_logged(emperor: EmperorSide) -> None:
    hooks = Hooks(
        accepting=sh("exit 4", option="hook-accepting"), atexit=sh("exit 5", option="exec-as-user-atexit")
    )
    gateway = emperor.spawn(emperor.spec(hooks=hooks))
    gateway.connect()
    gateway.wait_workers("ready", 1)
    gateway.wait_line("hook-accepting: `exit 4` exited with code 4")
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 10})
    gateway.wait_line("exec-as-user-atexit: `exit 5` exited with code 5")
    assert gateway.wait_exit().code == 0


def test_one_that_hangs_at_the_end_does_not_keep_the_gateway(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec(hooks=Hooks(atexit=sh("sleep 60"))))
    gateway.connect()
    gateway.wait_workers("ready", 1)
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 0.3})
    gateway.wait_line("`sleep 60` did not finish within 1")
    assert gateway.wait_exit().code == 0


def test_who_is_told_to_leave_while_a_command_runs_leaves(emperor: EmperorSide, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    gateway = emperor.spawn(emperor.spec(hooks=Hooks(before=sh(f"echo $$ > {pid_file}; sleep 60"))))
    gateway.connect()
    pid = int(wait_until(lambda: pid_file.exists() and pid_file.read_text(), "the command to run"))
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 10})
    assert gateway.wait_exit().code == 0
    assert not alive(pid)


def test_what_a_command_leaves_running_goes_with_the_generation(emperor: EmperorSide, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = f"(setsid sh -c 'echo $$ > {pid_file}; exec sleep 60' &) ; while ! test -s {pid_file}; do sleep 0.01; done"
    gateway = emperor.spawn(emperor.spec(hooks=Hooks(before=sh(command))))
    gateway.connect()
    gateway.wait_state("ready")
    pid = int(pid_file.read_text())
    assert alive(pid)
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 10})
    assert gateway.wait_exit().code == 0 and not alive(pid)


def test_a_callable_that_does_not_come_back_is_named_and_its_worker_killed(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("hook-hang", hooks=Hooks(timeout_s=0.3)))
    gateway.connect()
    assert (
        gateway.wait_state("failed") == "post-fork-hook db:connect did not finish within 0.3 s (hook-timeout)"
    )
    assert gateway.wait_exit().code == 70


def test_one_that_hangs_while_its_worker_serves_costs_that_worker(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("hook-hang-ready", hooks=Hooks(timeout_s=0.3)))
    gateway.connect()
    gateway.wait_line("is killed: worker-ready-hook db:warm did not finish within 0.3 s (hook-timeout)")
    again = gateway.wait_message(op="worker", seat=0, restarts=1, state="starting")
    assert again["last_exit"].startswith("worker-ready-hook db:warm did not finish")
