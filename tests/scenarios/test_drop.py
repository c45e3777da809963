"""A file is live within 1 s and its app's import time of its writer closing it."""

import time

import pytest

from .harness import Fleet, machine, wait_for
from .harness.fleet import APPS


@pytest.mark.parametrize("import_ms", [0, 700])
def test_a_dropped_file_is_live_within_a_second_and_its_import(fleet: Fleet, import_ms: int) -> None:
    fleet.vassal("old", wsgi_file=APPS / "hello.py")
    fleet.start()
    fleet.nonce_vassal("fresh", env=[f"NONCE_LOG={fleet.nonce_log('fresh')}", f"IMPORT_MS={import_ms}"])
    closed = machine.now()
    wait_for(lambda: fleet.get("fresh", "/?n=a").status == 200, 30, fleet.summary, every_s=0.01)
    live_s = time.monotonic() - closed.at_s
    assert live_s < machine.allowed(1 + import_ms / 1000, closed), fleet.log()


def test_a_file_written_slowly_starts_once_it_is_closed(fleet: Fleet) -> None:
    fleet.vassal("old", wsgi_file=APPS / "hello.py")
    fleet.start()
    with (fleet.directory / "half.ini").open("w") as stream:
        stream.write("[uwsgi]\n")
        stream.flush()
        # Long enough for an emperor that does not wait for the writer to have read half a file.
        time.sleep(1.5)
        assert fleet.vassal_status("half") == {} or fleet.vassal_status("half")["state"] != "REFUSED"
        stream.write(f"wsgi-file = {APPS / 'hello.py'}\n")
    fleet.wait_ready("half")


def test_a_file_moved_into_place_is_live(fleet: Fleet) -> None:
    fleet.vassal("old", wsgi_file=APPS / "hello.py")
    fleet.start()
    made = fleet.root / "elsewhere.ini"
    made.write_text(f"[uwsgi]\nwsgi-file = {APPS / 'hello.py'}\n")
    made.rename(fleet.directory / "moved.ini")
    fleet.wait_ready("moved")
    assert fleet.get("moved").text == "hello"
