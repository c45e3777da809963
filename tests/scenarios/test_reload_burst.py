"""A hundred reloads of one file in a second: the last content wins, two generations live at a time, nobody is dropped."""

import threading
import time

import psutil
import pytest

from emperor.control.channel import Channel

from .harness import Fleet, Flood, Target, wait_for


class Gateways:
    """The most gateways of one vassal that were alive at a time."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.most = 0
        self._emperor = psutil.Process(fleet.pid("emperor"))
        self._title = f"emperor gateway {name}."
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.is_set():
            count = 0
            for process in self._emperor.children():
                try:
                    running = process.status() != psutil.STATUS_ZOMBIE
                    count += running and " ".join(process.cmdline()).startswith(self._title)
                except psutil.NoSuchProcess:
                    continue
            self.most = max(self.most, count)
            time.sleep(0.005)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.most


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
    gateways = Gateways(fleet, "a")
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
