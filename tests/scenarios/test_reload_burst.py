"""A hundred reloads of one file in a second: the last content wins, two generations live at a time, nobody is dropped."""

import pytest

from emperor.control.channel import Channel

from .harness import Fleet, Flood, Target, wait_for
from .harness.peak import Peak


@pytest.mark.slow
@pytest.mark.parametrize("import_s", [0, 0.5])
def test_the_last_content_wins_and_two_generations_live(fleet: Fleet, import_s: float) -> None:
    source = f"""
        import os, time
        time.sleep({import_s})
        TURN = os.environ["TURN"]

        def application(environ, start_response):
            nonce = environ["QUERY_STRING"].partition("n=")[2].partition("&")[0]
            body = f"{{nonce}} {{os.getpid()}} 0 {{TURN}}".encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
    """
    fleet.app("a", source, env="TURN=0")
    fleet.start()
    flood = Flood(fleet.orphans, fleet.http_port, [Target("a")], fleet.root / "answers", rate=100).start()
    gateways = Peak(fleet.pid("emperor"), "emperor gateway a.")
    channel = Channel.connect(str(fleet.run_dir / "control.sock"))
    try:
        for turn in range(1, 101):
            fleet.app("a", source, env=f"TURN={turn}")
            channel.request({"op": "reload", "name": "a"}, timeout_s=20)
        wait_for(
            lambda: (
                (v := fleet.vassal_status("a"))["state"] == "READY"
                and fleet.get("a", "/?n=x").text[-3:] == "100"
                and v
            ),
            40,
            lambda: [fleet.summary(), fleet.log()[-2000:]],
        )
    finally:
        channel.close()
        most = gateways.stop()
    assert [answer for answer in flood.stop() if not answer.ok] == []
    assert most <= 2
