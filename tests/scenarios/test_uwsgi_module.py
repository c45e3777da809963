"""Apps that import `uwsgidecorators` and `uwsgi`: what there is works as it does there, what there is not says so by name."""

import os
import threading

import pytest

from .harness import Fleet, wait_for

APP = """
    import os, time
    import uwsgi
    from uwsgidecorators import harakiri, lock, postfork, thread

    ran = []

    @postfork
    def connect():
        ran.append(os.getpid())

    @postfork
    @thread
    def background():
        ran.append("thread")

    @lock
    def alone(path):
        with open(path) as file:
            count = int(file.read())
        time.sleep(0.01)
        with open(path, "w") as file:
            file.write(str(count + 1))

    @harakiri(1)
    def slow(seconds):
        time.sleep(seconds)

    def application(environ, start_response):
        start_response("200 OK", [])
        what, _, query = environ["PATH_INFO"].strip("/"), None, environ["QUERY_STRING"]
        if what == "count":
            alone(query)
        elif what == "slow":
            slow(float(query))
        elif what == "die":
            uwsgi.lock(3)
            os._exit(9)
        elif what == "locked":
            return [str(uwsgi.is_locked(3)).encode()]
        parent = uwsgi.masterpid() == os.getppid()
        return [f"{ran == [os.getpid(), 'thread']} {uwsgi.worker_id()} {uwsgi.numproc} {parent}".encode()]
"""
ENGINES: list[dict[str, object]] = [
    {},
    {"threads": 4},
    {"threads": 4, "wsgi-on-loop": "true"},
    {"preload": "true"},
    {"gevent": 4, "gevent-monkey-patch": "true"},
]


@pytest.mark.parametrize("engine", ENGINES, ids=["", "threads", "on-loop", "preload", "gevent"])
def test_what_there_is(fleet: Fleet, engine: dict[str, object]) -> None:
    fleet.app("a", APP, processes=2, **engine)
    fleet.start()
    seen = {fleet.get("a").text for _ in range(8)}
    assert seen <= {"True 1 2 True", "True 2 2 True"} and seen
    count = fleet.root / "count"
    count.write_text("0")
    asking = [threading.Thread(target=fleet.get, args=("a", f"/count?{count}")) for _ in range(20)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert count.read_text() == "20", "one at a time, in all workers"
    # Who dies with a lock gives it back.
    assert fleet.get("a", "/die").status == 502
    wait_for(lambda: fleet.get("a", "/locked").text == "False", 10, fleet.log)


@pytest.mark.parametrize("engine", ENGINES[:3], ids=["", "threads", "on-loop"])
def test_a_limit_that_the_app_sets_ends_its_worker_and_shows_where_it_was(
    fleet: Fleet, engine: dict[str, object]
) -> None:
    fleet.app("a", APP, retries="false", **engine)
    fleet.start()
    old = fleet.pid("worker", "a")
    assert fleet.get("a", "/slow?0.1").status == 200
    assert fleet.get("a", "/slow?60", timeout_s=30).status == 502
    wait_for(lambda: not os.path.exists(f"/proc/{old}"), 10, fleet.log)
    fleet.wait_ready()
    fleet.wait_log("(set_user_harakiri) has run for", "in slow")
    assert fleet.vassal_status("a")["workers"][0]["last_exit"].startswith("harakiri: ")


def test_what_there_is_not_fails_the_start_and_says_what_to_use(fleet: Fleet) -> None:
    fleet.app("timed", "from uwsgidecorators import timer\n@timer(3)\ndef tick(_): ...\napplication = None\n")
    fleet.app("cached", "import uwsgi\nuwsgi.cache_get('x')\n")
    fleet.app("guarded", "from uwsgi import cache_get\n")
    fleet.start(ready=False)
    reason = fleet.wait_state("timed", "BACKOFF")["reason"]
    assert (
        "@timer of uwsgidecorators: the emperor has no timers: use a thread that a @postfork function"
        in reason
    )
    assert "timed.py:2" in reason
    reason = fleet.wait_state("cached", "BACKOFF")["reason"]
    assert "uwsgi.cache_get: the emperor has no cache: use Redis or memcached" in reason
    fleet.wait_state("guarded", "BACKOFF")
    fleet.wait_log("[guarded] uwsgi.cache_get: the emperor has no cache")


def test_a_postfork_function_that_fails_is_named(fleet: Fleet) -> None:
    fleet.app(
        "a",
        """
        from uwsgidecorators import postfork
        @postfork
        def connect():
            raise ConnectionError("no database")
        application = print
        """,
    )
    fleet.start(ready=False)
    reason = fleet.wait_state("a", "BACKOFF")["reason"]
    assert "@postfork: ConnectionError: no database (" in reason and "a.py:4)" in reason


def test_guards_hold_and_an_apps_own_module_of_that_name_goes_first(fleet: Fleet) -> None:
    fleet.app(
        "a",
        """
        import uwsgi
        assert not hasattr(uwsgi, "cache_get") and uwsgi.opt.get("enable-threads")

        def application(environ, start_response):
            start_response("200 OK", [])
            return [str(uwsgi.__file__).encode()]
        """,
    )
    fleet.app(
        "uwsgi",
        "def application(e, s):\n    s('200 OK', []); import uwsgi; return [uwsgi.__file__.encode()]\n",
    )
    fleet.vassal("uwsgi", module="uwsgi", chdir=fleet.root / "apps2")
    (fleet.root / "apps2").mkdir()
    (fleet.root / "apps" / "uwsgi.py").rename(fleet.root / "apps2" / "uwsgi.py")
    fleet.start()
    assert fleet.get("a").text.endswith("vassals/shim/uwsgi.py")
    assert fleet.get("uwsgi").text == str(fleet.root / "apps2" / "uwsgi.py")
