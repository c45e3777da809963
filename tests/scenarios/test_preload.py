"""``preload``: an app that is loaded once, in a template, and shared by its workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from .harness import Fleet, wait_for

APP = """
    import os, threading

    loaded_by = os.getpid()
    forks = []
    os.register_at_fork(after_in_child=lambda: forks.append(os.getpid()))
    weight = bytearray(os.urandom(1 << 20) * 64)

    def connect():
        forks.append("connect")

    def application(environ, start_response):
        start_response("200 OK", [])
        print("served", flush=True)
        if environ["PATH_INFO"] == "/forks":
            return [repr((os.getpid() in forks, forks[-1])).encode()]
        return [f"{loaded_by} {os.getpid()}".encode()]
"""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def template_of(fleet: Fleet) -> int:
    """The pid of the child of a's gateway that is its template."""

    def found() -> int:
        gateway = fleet.pid("gateway", "a")
        children = Path(f"/proc/{gateway}/task/{gateway}/children").read_text().split()
        titles = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return next((pid for pid, title in titles.items() if b"emperor template a." in title), 0)

    return int(wait_for(found, 20, fleet.log))


def app(fleet: Fleet, source: str = APP, **keys: object) -> None:
    path = fleet.app("a", source, preload="true", **keys)
    text = path.read_text().splitlines()
    path.write_text(
        "\n".join(line for line in text if not keys.get("module") or "wsgi-file" not in line) + "\n"
    )


def private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def test_workers_are_forked_from_one_that_has_loaded_the_app(fleet: Fleet) -> None:
    app(
        fleet, processes=2, module="a:application", pythonpath=fleet.root / "apps", post_fork_hook="a:connect"
    )
    fleet.start()
    template, gateway = template_of(fleet), fleet.pid("gateway", "a")
    workers = [fleet.pid("worker", "a", seat) for seat in (0, 1)]
    assert {parent(pid) for pid in workers} == {gateway}, "not the template's: that may die"
    loaded_by, served_by = map(int, fleet.get("a").text.split())
    assert loaded_by == template and served_by in workers
    assert fleet.get("a", "/forks").text == "(True, 'connect')", "what runs at forks has, and then our hook"
    for pid in workers:
        assert private_kb(pid) < 40_000, "64 MB of the app are the template's, shared"
    wait_for(lambda: "a: served" in fleet.log() or "served" in fleet.log(), 10, fleet.log)


def test_a_template_that_is_killed_costs_no_worker_and_the_next_one_waits_for_another(fleet: Fleet) -> None:
    app(fleet)
    fleet.start()
    template, worker = template_of(fleet), fleet.pid("worker", "a")
    os.kill(template, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{template}"), 10, "the template to end")
    assert fleet.get("a").text == f"{template} {worker}"
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: fleet.get("a").status == 200, 20, fleet.log)
    loaded_by, served_by = map(int, fleet.get("a").text.split())
    assert loaded_by == template_of(fleet) != template and served_by != worker


def test_a_template_is_warmed_by_a_request_of_our_own(fleet: Fleet) -> None:
    source = """
        import os
        seen = []

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/warm":
                seen.append(os.getpid())
            start_response("200 OK", [])
            return [repr(seen).encode()]
    """
    app(fleet, source, processes=2, preload_warm_up="/warm")
    fleet.start()
    assert {fleet.get("a").text for _ in range(4)} == {f"[{template_of(fleet)}]"}


def test_threads_that_an_app_starts_at_import_are_named(fleet: Fleet) -> None:
    source = (
        APP
        + """
    threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
"""
    )
    app(fleet, source)
    fleet.start()
    (trouble,) = wait_for(lambda: fleet.vassal_status("a").get("troubles"), 10, fleet.log)
    assert trouble.startswith(
        "preload: the app started threads while it was imported (poller): no worker has"
    )
    assert fleet.get("a").status == 200


def test_an_app_that_does_not_load_says_why_as_without_it(fleet: Fleet) -> None:
    app(fleet, "import nowhere\n", processes=2)
    fleet.start(ready=False)
    vassal = fleet.wait_state("a", "BACKOFF")
    assert (
        "there is no module 'nowhere'" in vassal["reason"] or "No module named 'nowhere'" in vassal["reason"]
    )
    wait_for(lambda: not fleet.vassal_status("a")["workers"], 10, fleet.log)


def test_a_recycled_worker_comes_from_the_template(fleet: Fleet) -> None:
    app(fleet, max_requests=3, max_requests_delta=0, min_worker_lifetime=0)
    fleet.start()
    template = template_of(fleet)
    first = fleet.pid("worker", "a")
    for _ in range(4):
        fleet.get("a")
    wait_for(lambda: fleet.get("a").text.split()[1] != str(first), 20, fleet.log)
    assert fleet.get("a").text.split()[0] == str(template)
