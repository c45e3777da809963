"""`reload-style = rolling`: worker by worker, with one more than there are at a time, and no request fails."""

import os

import pytest

from .harness import Fleet, Flood, Target, wait_for
from .harness.peak import Peak


@pytest.mark.slow
def test_worker_by_worker_without_a_failed_request(fleet: Fleet) -> None:
    chain = fleet.root / "chain"
    fleet.nonce_vassal("a", processes=3, reload_style="rolling", touch_chain_reload=chain)
    fleet.start()
    old = fleet.pids()
    targets = [Target("a"), Target("a", "&sleep=20"), Target("a", body_bytes=50_000)]
    flood = Flood(fleet.orphans, fleet.http_port, targets, fleet.root / "answers").start()
    peak = Peak(fleet.pid("emperor"), "emperor worker a.", deep=True)
    try:
        done = fleet.cli("reload", "a", "--wait", "--run-dir", fleet.run_dir, deadline_s=60)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: not os.path.exists(f"/proc/{old['gateway a']}"), 20, "the first gateway")
        chain.touch()
        wait_for(lambda: (v := fleet.vassal_status("a"))["generation"] == 3 and v["state"] == "READY", 40)
    finally:
        most = peak.stop()
    assert [answer for answer in flood.stop() if not answer.ok] == []
    assert most <= 4
    fleet.wait_log("(touch-chain-reload ")


@pytest.mark.slow
def test_one_that_fails_half_way_and_a_killed_emperor_lose_no_request(fleet: Fleet) -> None:
    mark = fleet.root / "third"
    source = f"""
        import os, sys
        sys.path.insert(0, {str(fleet.root / "apps")!r})
        if os.path.exists({str(mark)!r}):
            count = int(open({str(mark)!r}).read() or 0) + 1
            open({str(mark)!r}, "w").write(str(count))
            if count == 2:
                raise RuntimeError("the second worker has no room")

        def application(environ, start_response):
            nonce = environ["QUERY_STRING"].partition("n=")[2].partition("&")[0]
            body = f"{{nonce}} {{os.getpid()}} 0".encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
    """
    fleet.app("a", source, processes=3, reload_style="rolling")
    fleet.start()
    flood = Flood(fleet.orphans, fleet.http_port, [Target("a")], fleet.root / "answers", rate=100).start()
    mark.write_text("")
    done = fleet.cli("reload", "a", "--wait", "--run-dir", fleet.run_dir, deadline_s=60)
    assert done.returncode == 1 and "the second worker has no room" in done.stderr
    now = fleet.vassal_status("a")
    assert (now["state"], now["generation"]) == ("READY", 1)
    wait_for(
        lambda: [each["state"] for each in fleet.vassal_status("a")["workers"]] == ["ready"] * 3,
        20,
        fleet.summary,
    )
    mark.unlink()
    fleet.cli("reload", "a", "--run-dir", fleet.run_dir)
    wait_for(lambda: fleet.vassal_status("a")["state"] in ("ROLLING", "READY"), 20, fleet.summary)
    fleet.kill_emperor()
    fleet.start()
    wait_for(
        lambda: [each["state"] for each in fleet.vassal_status("a")["workers"]] == ["ready"] * 3,
        20,
        fleet.summary,
    )
    assert [answer for answer in flood.stop() if not answer.ok] == []
