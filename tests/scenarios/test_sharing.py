"""`weight` and `mirror`, in a fleet: parts, edits without a reload, an emperor that dies, and copies that nobody sees."""

from collections import Counter

from .harness import Fleet, fetch, wait_for

APP = """
    def application(environ, start_response):
        mark = environ.get("HTTP_X_MIRRORED_FROM", "")
        with open({log!r}, "a") as log:
            log.write(f"{{environ['PATH_INFO']}} {{mark}}\\n")
        if mark:
            raise RuntimeError("a copy, and nobody is to notice")
        start_response("200 OK", [("Content-Length", str(len({name!r})))])
        return [{name!r}.encode()]
"""


def version(fleet: Fleet, name: str, **keys: object) -> None:
    source = APP.format(name=name, log=str(fleet.root / f"{name}.log"))
    fleet.app(name, source, **{"domain": "shop.test", "weight-by": "request", **keys})


def answers(fleet: Fleet, count: int) -> Counter[str]:
    found = [fetch(fleet.http_port, "shop.test") for _ in range(count)]
    assert {each.status for each in found} == {200}
    return Counter(each.text for each in found)


def test_two_versions_share_a_domain_and_copies_are_dropped(fleet: Fleet) -> None:
    version(fleet, "shop", weight=1)
    version(fleet, "next", weight=1)
    fleet.start()
    # None of 60 falls to one of them: once in 10^18.
    assert set(answers(fleet, 60)) == {"shop", "next"}
    workers = {name: fleet.vassal_status(name)["workers"][0]["pid"] for name in ("shop", "next")}

    version(fleet, "next", weight=0)
    version(fleet, "shop", weight=1, mirror="next")
    wait_for(lambda: fleet.status()["routers"][0]["apps"]["shop"]["mirrors"], 20, fleet.summary)
    wait_for(lambda: _weights(fleet) == {"next": 0, "shop": 1}, 20, fleet.log)
    assert answers(fleet, 20) == {"shop": 20}
    assert fleet.get("next").text == "next", "its own name leads there all the same"
    mirror = wait_for(lambda: _mirror(fleet)["open"] == 0 and _mirror(fleet), 20, lambda: _mirror(fleet))
    assert mirror["copied"] + mirror["shed"] == 20 and mirror["failed"] == mirror["copied"] > 0
    assert (fleet.root / "next.log").read_text().count(" shop\n") == mirror["copied"]

    fleet.kill_emperor()
    fleet.start()
    assert _weights(fleet) == {"next": 0, "shop": 1}
    for name, pid in workers.items():
        now = fleet.vassal_status(name)
        assert (now["generation"], now["workers"][0]["pid"], now["state"]) == (1, pid, "READY")

    # A version without a weight takes nothing from those that share, and is told so.
    fleet.vassal("other", **{"wsgi-file": fleet.root / "apps" / "shop.py", "domain": "shop.test"})
    reason = fleet.wait_state("other", "REFUSED")["reason"]
    assert "shop.test is held by next.ini, which shares it (weight): set a weight here as well" in reason
    (fleet.directory / "other.ini").unlink()

    # The one with all of the weight goes: what is left has none of it.
    (fleet.directory / "shop.ini").unlink()
    wait_for(lambda: fetch(fleet.http_port, "shop.test").status == 503, 20, fleet.summary)
    assert "every weight of next is 0" in fleet.cli("status", "--run-dir", fleet.run_dir).stdout
    version(fleet, "next", weight=7)
    wait_for(lambda: fetch(fleet.http_port, "shop.test").status == 200, 20, fleet.summary)
    assert answers(fleet, 5) == {"next": 5}


def _weights(fleet: Fleet) -> dict[str, int]:
    shares = fleet.status()["routers"][0]["shares"]
    return {each["name"]: each["weight"] for share in shares for each in share["members"]}


def _mirror(fleet: Fleet) -> dict[str, int]:
    found: dict[str, int] = fleet.status()["routers"][0]["apps"]["shop"]["mirrors"][0]
    return found
