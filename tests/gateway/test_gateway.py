"""The real spawner and real gateways, over the real control protocol; only the workers are a stand-in
(`fake_worker.py`)."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from emperor.control.channel import Channel, ChannelClosed, ControlError
from emperor.supervisor import process
from tests.scenarios.harness import machine

from .emperor_side import FAKE, ROOT, EmperorSide, wait_until


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


def saw(gateway: Any) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(gateway.wait_line("SEEN ").removeprefix("SEEN "))
    return seen


def test_a_gateway_is_the_emperors_child_and_gets_ready(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec(processes=2))
    gateway.connect()
    assert gateway.hello["name"] == "blog" and gateway.hello["generation"] == 3
    assert gateway.hello["pid"] == gateway.pid and parent(gateway.pid) == os.getpid()
    assert gateway.hello["start_time"] == process.start_time(gateway.pid)
    gateway.wait_state("ready")
    pids = gateway.wait_workers("ready", 2)
    assert {parent(pid) for pid in pids.values()} == {gateway.pid}
    assert title(gateway.pid) == "emperor gateway blog.3"
    assert title(pids[1]) == "emperor worker blog.3/1"
    assert title(emperor.spawner_pid) == "emperor spawner"
    assert os.getsid(gateway.pid) == gateway.pid and os.getsid(pids[0]) == pids[0]
    assert gateway.channel is not None and gateway.channel.peer()[0] == gateway.pid


def test_drain_tells_workers_and_exits_0(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec(processes=2))
    gateway.connect()
    gateway.wait_workers("ready", 2)
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 10})
    gateway.wait_message(op="state", state="draining")
    assert gateway.wait_exit(5).code == 0


@pytest.mark.parametrize("order", [{"op": "drain", "timeout_s": 0.3}, {"op": "stop"}])
def test_what_does_not_drain_in_time_is_killed(emperor: EmperorSide, order: dict[str, Any]) -> None:
    gateway = emperor.spawn(emperor.spec("stubborn"))
    gateway.connect()
    pid = gateway.wait_workers("ready", 1)[0]
    assert gateway.channel is not None
    before = time.monotonic()
    gateway.channel.request(order)
    assert gateway.wait_exit(5).code == 0
    assert time.monotonic() - before >= 0.2 and not alive(pid)


def test_a_shorter_drain_overtakes_a_longer_one(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("stubborn"))
    gateway.connect()
    gateway.wait_workers("ready", 1)
    assert gateway.channel is not None
    gateway.channel.request({"op": "drain", "timeout_s": 60})
    gateway.channel.request({"op": "stop"})
    assert gateway.wait_exit(5).code == 0


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("fail", "ZeroDivisionError: division by zero (app.py:3)"),
        ("fail-hang", "no (app.py:1)"),
        ("exit-3", "exited with code 3 while it imported the app"),
        ("raise", "exited with code 1 while it imported the app"),
        ("crash", "killed by signal 9 (SIGKILL) while it imported the app"),
    ],
)
def test_an_app_that_does_not_start_fails_the_gateway_with_its_reason(
    emperor: EmperorSide, act: str, reason: str
) -> None:
    gateway = emperor.spawn(emperor.spec(act, processes=2))
    gateway.connect()
    assert gateway.wait_state("failed") == reason
    assert gateway.wait_exit().code == 70


def test_a_failed_gateway_waits_to_be_heard(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("fail"))
    wait_until(lambda: has_buried(gateway.pid), "the worker to end")
    assert alive(gateway.pid)
    gateway.connect()
    assert (gateway.hello["state"], gateway.hello["reason"]) == (
        "failed",
        "ZeroDivisionError: division by zero (app.py:3)",
    )
    gateway.wait_line("two")  # the traceback goes to the log
    assert gateway.wait_exit().code == 70


def has_buried(pid: int) -> bool:
    """Whether it has waited for a child: the page faults of those (field 11 of stat) count."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[8]) > 0


def process_children_of(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text()


def test_an_import_that_hangs_fails_at_start_timeout(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("hang", start_timeout_s=0.3))
    gateway.connect()
    reason = gateway.wait_state("failed")
    assert reason == "the app did not finish importing within 0.3 s (start-timeout)"
    assert gateway.wait_exit().code == 70


def test_a_worker_killed_once_while_starting_is_started_again(emperor: EmperorSide, tmp_path: Path) -> None:
    gateway = emperor.spawn(emperor.spec("crash-once", env={"MARK": str(tmp_path / "mark")}))
    gateway.connect()
    gateway.wait_state("ready")
    gateway.wait_workers("ready", 1)


def test_a_worker_killed_after_ready_is_back_at_once(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec(processes=2))
    gateway.connect()
    pids = gateway.wait_workers("ready", 2)
    before = machine.now()
    os.kill(pids[1], signal.SIGKILL)
    dead = gateway.wait_message(op="worker", seat=1, state="dead")
    assert dead["reason"] == dead["last_exit"] == "killed by signal 9 (SIGKILL)" and dead["restarts"] == 0
    again = gateway.wait_message(op="worker", seat=1, state="ready")
    assert time.monotonic() - before.at_s < machine.allowed(1.0, before)
    assert again["pid"] != pids[1] and alive(pids[0]) and again["reason"] == ""
    assert (again["restarts"], again["last_exit"]) == (1, "killed by signal 9 (SIGKILL)")
    gateway.connect()  # as the next emperor
    told = [(worker["restarts"], worker["last_exit"]) for worker in gateway.hello["workers"]]
    assert told == [(0, ""), (1, "killed by signal 9 (SIGKILL)")]


def test_a_fork_that_fails_is_named_with_its_limit_and_done_once_it_can_be(
    emperor: EmperorSide, tmp_path: Path
) -> None:
    full = tmp_path / "no-fork"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NO_FORK": str(full)}
    gateway = emperor.spawn(emperor.spec(processes=2), environ)
    gateway.connect()
    pids = gateway.wait_workers("ready", 2)
    full.touch()
    os.kill(pids[0], signal.SIGKILL)
    said = gateway.wait_line("cannot fork a worker")
    assert "worker 0: cannot fork a worker: Resource temporarily unavailable (a limit on processes" in said
    full.unlink()
    assert gateway.wait_workers("ready", 2)[1] == pids[1], "the other one has not noticed"


def test_a_worker_that_a_router_refuses_is_said_to_be(emperor: EmperorSide, tmp_path: Path) -> None:
    gateway = emperor.spawn(emperor.spec("refused-once", env={"MARK": str(tmp_path / "mark")}))
    gateway.connect()
    gateway.wait_workers("ready", 1)
    why = "left, since the router refuses it: generation 7 is not expected"
    assert (gateway.workers[0]["restarts"], gateway.workers[0]["last_exit"]) == (1, why)
    assert gateway.workers[0]["reason"] == ""


def test_workers_live_on_and_restart_without_an_emperor_and_the_next_one_is_told(
    emperor: EmperorSide,
) -> None:
    gateway = emperor.spawn(emperor.spec("talk"))
    gateway.connect()
    pid = gateway.wait_workers("ready", 1)[0]
    assert gateway.channel is not None
    descriptors = Path(f"/proc/{gateway.pid}/fd")
    before = len(list(descriptors.iterdir()))
    gateway.channel.close()
    gateway.channel = None
    gateway.seen.clear()
    # What it says before it has noticed goes to nobody.
    wait_until(
        lambda: len(list(descriptors.iterdir())) < before, "the gateway to notice the loss of its emperor"
    )
    emperor.end_spawner()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: process_children_of(gateway.pid).split() not in ([], [str(pid)]), "another worker")
    assert alive(gateway.pid)
    gateway.connect(board=False)
    assert gateway.wait_workers("ready", 1)[0] != pid
    assert gateway.workers[0]["restarts"] == 1 and "SIGKILL" in gateway.workers[0]["last_exit"]
    gateway.wait_line("killed by signal 9")
    gateway.wait_line("to stdout")


def test_a_gateway_that_no_emperor_comes_back_for_drains(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec(orphan_timeout_s=1.0))
    gateway.connect()
    gateway.wait_workers("ready", 1)
    assert gateway.channel is not None
    gateway.channel.close()
    gateway.connect()  # the next one came in time
    gateway.channel.request({"op": "hello"})
    gateway.channel.close()
    gateway.channel = None
    left = time.monotonic()
    assert gateway.wait_exit().code == 0
    assert time.monotonic() - left >= 0.9


def test_the_newest_connection_is_served(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec())
    gateway.connect()
    first, gateway.channel = gateway.channel, None
    assert first is not None
    gateway.connect()
    with pytest.raises(ChannelClosed):  # it is hung up on, whatever was on its way
        first.request({"op": "hello"}, timeout_s=5)
    first.close()
    assert gateway.channel is not None
    gateway.channel.request({"op": "hello"})


def test_a_control_socket_whose_path_has_vanished_is_replaced_and_the_connection_stays(
    emperor: EmperorSide,
) -> None:
    gateway = emperor.spawn(emperor.spec())
    gateway.connect()
    workers = gateway.wait_workers("ready", 1)
    gateway.path.unlink()
    assert gateway.channel is not None
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(gateway.path))
        answer, _ = gateway.channel.request({"op": "control"}, [control.fileno()])
    assert answer["ok"] is True
    gateway.channel.request({"op": "hello"})
    gateway.connect()
    assert gateway.channel.peer()[0] == gateway.pid
    assert gateway.wait_workers("ready", 1) == workers
    with pytest.raises(ControlError, match="no operation 'control'"):  # without its socket
        gateway.channel.request({"op": "control"})


def test_the_page_comes_back_with_hello(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec())
    (board,) = gateway.connect(board=True)
    assert os.pread(board, 8, 0) == b"EMPBOARD"
    os.close(board)


def test_an_unknown_operation_is_answered_by_an_error(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec())
    gateway.connect()
    assert gateway.channel is not None
    with pytest.raises(ControlError, match="there is no operation 'fly'"):
        gateway.channel.request({"op": "fly"})


def test_a_worker_gets_exactly_its_descriptors(emperor: EmperorSide) -> None:
    inherited = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(inherited, True)  # as a careless shell would leave it
    try:
        emperor.end_spawner()
        emperor.start_spawner()
    finally:
        os.close(inherited)
    gateway = emperor.spawn(emperor.spec("look", processes=3))
    gateway.connect()
    seen = saw(gateway)
    # What listdir itself has open is not in the table any more when it is asked for its link.
    fds = {int(fd): link for fd, link in seen["fds"].items()}
    (trace_fd,) = (fd for fd, link in fds.items() if "memfd:emperor-trace" in link)
    assert set(fds) == {0, 1, 2, seen["board_fd"], seen["leash_fd"], seen["log_read_fd"], trace_fd}, fds
    assert fds[0] == "/dev/null" and "memfd" in fds[seen["board_fd"]]
    assert fds[1] == fds[2] == fds[seen["log_read_fd"]] and fds[1].startswith("pipe:")
    assert seen["board"] == "EMPBOARD"
    assert seen["sid"] == seen["pid"] and seen["blocked"] == []


def test_libraries_hear_of_the_fork_in_each_worker(emperor: EmperorSide) -> None:
    gateways = [emperor.spawn(emperor.spec("look")) for _ in range(2)]
    seen = []
    for gateway in gateways:
        gateway.connect()
        seen.append(saw(gateway))
        os.kill(seen[-1]["pid"], signal.SIGKILL)
        gateway.seen.clear()
        seen.append(saw(gateway))
    assert len({one["random"] for one in seen}) == 4, "each fork has random numbers of its own"


def test_the_environment_is_the_message_s(emperor: EmperorSide) -> None:
    env = {"PATH": "/bin", "LANG": "C.UTF-8", "ODD": "a=b"}
    gateway = emperor.spawn(emperor.spec("look"), env=env)
    gateway.connect()
    assert saw(gateway)["environ"] == env


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_workers_run_as_the_vassals_user_and_it_may_not_connect(emperor: EmperorSide) -> None:
    emperor.directory.chmod(0o711)
    gateway = emperor.spawn(emperor.spec("look", uid=65534, gid=65534))
    gateway.connect()
    seen = saw(gateway)
    assert seen["uids"] == [65534] * 3 and seen["gids"] == [65534] * 3
    os.chmod(gateway.path, 0o777)
    for directory in [emperor.directory, *emperor.directory.parents][:4]:
        directory.chmod(directory.stat().st_mode | 0o011)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            channel = Channel.connect(str(gateway.path))
            try:
                channel.request({"op": "hello"}, timeout_s=5)
            except ChannelClosed:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gateway.wait_line("refused a control connection from pid")


def test_a_user_that_cannot_be_taken_fails_the_gateway(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec(uid=3_999_999_999 if os.geteuid() == 0 else 0))
    gateway.connect()
    assert gateway.wait_state("failed").startswith(("gid: ", "uid: "))
    assert gateway.wait_exit().code == 70


def test_output_comes_as_lines(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("talk"))
    gateway.connect()
    gateway.wait_workers("ready", 1)
    assert gateway.channel is not None
    gateway.channel.send({"op": "stop"})
    gateway.wait_line("no end")
    lines = [line for line in gateway.log_lines() if line[0] == "app"]
    assert lines == [("app", "to stdout"), ("app", "to stderr"), ("app", "bad \\xff byte"), ("app", "no end")]
    assert gateway.wait_exit().code == 0


def test_nonsense_on_the_leash_is_logged_and_nothing_else(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("nonsense"))
    gateway.connect()
    gateway.wait_state("ready")
    gateway.wait_line("unknown state 'flying'")
    gateway.wait_line("'ready' has no row there")


def test_the_death_of_a_gateway_ends_its_workers(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("stubborn", processes=2))
    gateway.connect()
    pids = gateway.wait_workers("ready", 2)
    os.kill(gateway.pid, signal.SIGKILL)
    assert gateway.wait_exit().signal == signal.SIGKILL
    for pid in pids.values():
        wait_until(lambda pid=pid: not alive(pid), f"worker {pid} to hear of its gateway's death")  # type: ignore[misc]
        os.waitpid(pid, 0)


def test_what_an_app_leaves_running_goes_with_its_gateway(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("daemon"))
    gateway.connect()
    worker = gateway.wait_workers("ready", 1)[0]
    (daemon,) = process_children_of(worker).split()
    os.kill(worker, signal.SIGKILL)
    gateway.wait_message(op="worker", seat=0, state="dead")
    assert parent(int(daemon)) == gateway.pid
    assert gateway.channel is not None
    gateway.channel.send({"op": "stop"})
    assert gateway.wait_exit().code == 0
    assert not alive(int(daemon))


def test_term_drains_a_gateway(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec())
    gateway.connect()
    gateway.wait_workers("ready", 1)
    os.kill(gateway.pid, signal.SIGTERM)
    gateway.wait_message(op="state", state="draining")
    assert gateway.wait_exit().code == 0


def test_a_gateway_nobody_knows_leaves_with_its_spawner(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec("stubborn"))
    os.kill(emperor.spawner_pid, signal.SIGKILL)
    assert gateway.wait_exit(5).code == 0


def test_a_gateway_that_was_adopted_survives_its_spawner(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(emperor.spec())
    gateway.connect()
    pids = gateway.wait_workers("ready", 1)
    os.kill(emperor.spawner_pid, signal.SIGKILL)
    os.waitpid(emperor.spawner_pid, 0)
    emperor.spawner_pid = 0
    assert gateway.channel is not None
    answer, _ = gateway.channel.request({"op": "hello"})
    assert answer["state"] == "ready" and answer["workers"][0]["pid"] == pids[0]


def test_a_new_spawner_takes_the_next_vassal(emperor: EmperorSide) -> None:
    emperor.end_spawner()
    emperor.start_spawner()
    gateway = emperor.spawn(emperor.spec())
    gateway.connect()
    gateway.wait_state("ready")


def test_exec_mode_is_the_same_gateway_in_a_fresh_interpreter(emperor: EmperorSide) -> None:
    gateway = emperor.spawn(
        emperor.spec("look"),
        mode="exec",
        argv=[sys.executable, str(FAKE), "gateway"],
        env={"PYTHONPATH": str(ROOT), "X": "1"},
    )
    gateway.connect()
    seen = saw(gateway)
    assert seen["environ"]["X"] == "1"
    fds = {int(fd) for fd, link in seen["fds"].items() if "memfd:emperor-trace" not in link}
    assert fds == {0, 1, 2, seen["board_fd"], seen["leash_fd"], seen["log_read_fd"]}
    assert len(seen["fds"]) == len(fds) + 1  # and that of its stacks
    gateway.wait_state("ready")


def test_the_command_of_exec_mode_is_a_gateway(emperor: EmperorSide, tmp_path: Path) -> None:
    """With the real worker: an app that is not there is its first, and failing, act."""
    spec = emperor.spec("no_such_app", config_path=str(tmp_path / "blog.ini"))
    gateway = emperor.spawn(spec, mode="exec", argv=[sys.executable, "-P", "-m", "vassals"])
    gateway.connect()
    assert "no_such_app" in gateway.wait_state("failed")
    assert gateway.wait_exit().code == 70


def test_a_package_that_is_not_whole_is_named(emperor: EmperorSide) -> None:
    code = (
        "import sys; sys.modules['vassals.worker.main'] = None; "
        "from vassals.gateway.main import run_gateway; run_gateway()"
    )
    gateway = emperor.spawn(emperor.spec(), mode="exec", argv=[sys.executable, "-c", code])
    gateway.connect()
    assert f"the worker's own code cannot be imported by {sys.executable}" in gateway.wait_state("failed")
    assert gateway.wait_exit().code == 70


def test_exec_of_an_interpreter_that_is_not_there_is_refused(emperor: EmperorSide) -> None:
    with pytest.raises(ControlError, match=r"blog\.3: cannot run '/no/python': No such file"):
        emperor.spawn(emperor.spec(), mode="exec", argv=["/no/python", "-m", "vassals"])


def test_the_spawner_refuses_what_it_does_not_understand(emperor: EmperorSide) -> None:
    for message, why in (
        ({"op": "dance"}, "there is no operation 'dance'"),
        ({"op": "spawn", "mode": "fork", "env": {}}, "0 descriptors came, not control, spec, board, log"),
    ):
        with pytest.raises(ControlError, match=why):
            emperor.channel.request(message)


def test_workers_that_fail_in_one_instant_are_all_noticed(emperor: EmperorSide) -> None:
    """Both are reaped in one turn; the first one's failure kills the other, which is no process any more."""
    for _ in range(3):
        gateway = emperor.spawn(emperor.spec("fail", processes=4))
        gateway.connect()
        os.kill(gateway.pid, signal.SIGSTOP)
        wait_until(lambda gateway=gateway: all_ended(gateway.pid), "all workers to end")  # type: ignore[misc]
        os.kill(gateway.pid, signal.SIGCONT)
        assert gateway.wait_exit(5).code == 70


def all_ended(pid: int) -> bool:
    return not any(alive(int(child)) for child in process_children_of(pid).split())


def test_a_gateway_at_rest_costs_little_memory_of_its_own(emperor: EmperorSide) -> None:
    """There is one for every vassal. 1 MB on CPython 3.11, of 1.6 that is its own when its worker is ready.

    Three of them, since the kernel counts a page of the spawner's original as private to the only one that looks at it.
    """
    gateways = [emperor.spawn(emperor.spec()) for _ in range(3)]
    for gateway in gateways:
        gateway.connect()
        gateway.wait_workers("ready", 1)
    for gateway in gateways:
        wait_until(
            lambda pid=gateway.pid: rollup_kb(pid, "Private_Dirty") < 1300,  # type: ignore[misc]
            "the gateway to give memory back",
        )


def rollup_kb(pid: int, field: str) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.split(f"{field}:")[1].split()[0])
