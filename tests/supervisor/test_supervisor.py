"""The supervisor as users meet it: what starts, what stays, who holds a name, what is tried again and
when."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emperor.config.hooks import Hooks
from emperor.config.reloading import Reloading
from emperor.config.sharing import Sharing
from emperor.config.spec import AppSpec
from emperor.monitors.scan import Identity
from emperor.supervisor.actions import Action, End, Forget, Leave, Remember, Reread, Say, Spawn
from emperor.supervisor.fleet import START_GRACE_S, Generation, Phase, Worker
from emperor.supervisor.reading import Reading
from emperor.supervisor.supervisor import Supervisor
from emperor.supervisor.vassal import State


def reading(file: str = "blog.ini", **other: object) -> Reading:
    name = file.rpartition(".")[0]
    made = Reading(
        name=name,
        file=file,
        path=f"/v/{file}",
        identity=Identity(1, 1, 1, "digest"),
        app=AppSpec(module="app"),
        uid=None,
        gid=None,
        processes=2,
        domains=(f"{name}.localhost",),
        default=False,
        need_app=True,
        argv=(),
        queue=1024,
        queue_timeout_s=10.0,
        request_timeout_s=0.0,
        body_limit=0,
        request_buffering=True,
        post_buffering=256 << 10,
        response_buffer=1 << 20,
        start_timeout_s=60.0,
        stop_timeout_s=8.0,
    )
    return replace(made, **other)  # type: ignore[arg-type]


class Emperor:
    """Carries actions out as a real one would, without processes."""

    def __init__(self, parallel: int = 8, has_room: Callable[[], bool] = lambda: True) -> None:
        self.now = 1000.0
        self.wall_jump = 0.0
        self.make = lambda: Supervisor(
            clock=lambda: self.now,
            wall=lambda: 1_700_000_000 + self.now + self.wall_jump,
            random=lambda: 0.5,
            token=lambda: "ab" * 32,
            parallel=parallel,
            has_room=has_room,
        )
        self.supervisor = self.make()
        self.files: dict[str, Reading | str] = {}
        self.running: dict[tuple[str, int], Generation] = {}
        self.leaving: list[tuple[str, int]] = []
        self.done: list[Action] = []
        self.pid = 100

    def act(self) -> None:
        while actions := self.supervisor.take_actions():
            for action in actions:
                self.done.append(action)
                match action:
                    case Spawn(generation):
                        key = (generation.name, generation.number)
                        assert key not in self.running, f"{key} is doubled"
                        assert self.supervisor.wanted(generation.name) is not None
                        self.running[key] = generation
                        self.pid += 1
                        self.supervisor.spawned(generation, self.pid)
                    case Leave(generation, _) | End(generation):
                        self.leaving.append((generation.name, generation.number))
                    case Reread(file):
                        self.read(file)

    def upgrade(self) -> None:
        """Another program takes its place in the same process."""
        handed = json.loads(json.dumps(self.supervisor.hand_over()))
        self.supervisor = self.make()
        self.supervisor.resume(handed)
        for vassal in self.supervisor.vassals.values():
            for number, generation in vassal.generations.items():
                if (generation.name, number) in self.running:
                    self.running[generation.name, number] = generation
        self.act()
        assert json.loads(json.dumps(self.supervisor.hand_over())) == handed

    def read(self, file: str, live: bool = False) -> None:
        match self.files.get(file):
            case None:
                self.supervisor.removed(file)
            case str(reason):
                self.supervisor.wrong(file, f"/v/{file}", reason)
            case Reading() as right:
                self.supervisor.checked(right, live=live)

    def put(self, file: str, content: Reading | str | None, live: bool = False) -> None:
        """A file appears, changes or (None) goes."""
        if content is None:
            self.files.pop(file, None)
        else:
            self.files[file] = content
        self.read(file, live)
        self.act()

    def drop(self, *files: str, **other: object) -> None:
        for file in files:
            self.put(file, reading(file, **other))

    def ready(self, name: str, number: int) -> None:
        self.supervisor.ready(self.running[name, number])
        self.act()

    def failed(self, name: str, number: int, reason: str = "ImportError: no") -> None:
        self.supervisor.failed(self.running[name, number], reason)
        self.act()

    def dies(
        self, name: str, number: int, text: str = "killed by signal 9 (SIGKILL)", killed: bool = True
    ) -> None:
        self.supervisor.gone(self.running.pop((name, number)), text, killed)
        self.act()

    def after(self, seconds: float) -> None:
        self.now += seconds
        self.supervisor.tick()
        self.act()

    def leave_all(self) -> None:
        """What was told to go has gone."""
        for key in self.leaving:
            if key in self.running:
                self.dies(*key, "exited with code 0", False)
        self.leaving.clear()

    def state(self, file: str = "blog.ini") -> State:
        return self.supervisor.vassals[file].state

    def said(self) -> str:
        return "\n".join(each.text for each in self.done if isinstance(each, Say))

    def up(self, *files: str, **other: object) -> None:
        for file in files:
            self.drop(file, **other)
            vassal = self.supervisor.vassals[file]
            assert vassal.awaited is not None
            self.ready(vassal.name, vassal.awaited)


def test_a_new_file_starts_serves_and_its_router_knows() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    assert emperor.state() is State.STARTING
    wanted = emperor.supervisor.wanted("blog")
    assert wanted is not None and wanted.active is None and list(wanted.generations) == [1]
    assert not wanted.entry.available, "an app that was never ready must not let requests wait"
    emperor.ready("blog", 1)
    wanted = emperor.supervisor.wanted("blog")
    assert emperor.state() is State.READY
    assert wanted is not None and wanted.active == 1 and wanted.entry.available
    assert wanted.entry.domains == ("blog.localhost",)


def test_a_reload_moves_only_when_the_next_one_is_ready() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.drop("blog.ini", domains=("new.example.com",))
    wanted = emperor.supervisor.wanted("blog")
    assert emperor.state() is State.RELOADING
    assert wanted is not None and wanted.active == 1 and wanted.entry.domains == ("blog.localhost",)
    emperor.ready("blog", 2)
    wanted = emperor.supervisor.wanted("blog")
    assert wanted is not None and wanted.active == 2 and wanted.entry.domains == ("new.example.com",)
    assert emperor.leaving == [("blog", 1)]
    emperor.leave_all()
    assert list(emperor.supervisor.wanted("blog").generations) == [2]  # type: ignore[union-attr]


def test_a_bad_edit_or_a_failed_start_leaves_the_old_one_serving_and_says_why() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.put("blog.ini", "/v/blog.ini:2: modul: unknown key")
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert (vassal.state, vassal.serving) == (State.READY, 1)
    assert "modul: unknown key" in vassal.problem
    emperor.drop("blog.ini", processes=3)
    assert vassal.problem == ""
    emperor.failed("blog", 2, "ImportError: nope")
    assert (vassal.state, vassal.serving, vassal.problem) == (State.READY, 1, "ImportError: nope")
    # When it dies later, it comes back from what had worked.
    emperor.leave_all()
    emperor.dies("blog", 1)
    assert emperor.running["blog", 3].reading.processes == 2
    emperor.ready("blog", 3)
    assert (vassal.state, vassal.problem) == (State.READY, "ImportError: nope")


def test_a_dead_gateway_is_replaced_at_once_and_a_crash_loop_backs_off() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.dies("blog", 1)
    assert emperor.state() is State.STARTING and ("blog", 2) in emperor.running
    assert emperor.supervisor.vassals["blog.ini"].available, "an app that had been ready lets requests wait"
    emperor.ready("blog", 2)
    emperor.after(1)
    emperor.dies("blog", 2)
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert vassal.state is State.BACKOFF and not vassal.available
    assert vassal.last_exit == "its gateway killed by signal 9 (SIGKILL)"
    emperor.after(0.9)
    assert not emperor.running
    emperor.after(0.2)
    assert list(emperor.running) == [("blog", 3)]


def test_a_failing_start_backs_off_longer_each_time_and_is_given_up_in_the_end() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    waits = []
    while emperor.state() is not State.GIVEN_UP:
        number = emperor.supervisor.vassals["blog.ini"].awaited
        assert number is not None
        emperor.failed("blog", number)
        emperor.leave_all()
        if emperor.state() is State.BACKOFF:
            at = emperor.supervisor.wake_at()
            assert at is not None
            waits.append(at - emperor.now)
            emperor.after(waits[-1])
    assert len(waits) == 19 and waits[:4] == [1, 2, 4, 8] and waits[-1] == 60
    assert emperor.supervisor.vassals["blog.ini"].reason == "ImportError: no"
    assert "emperor reload blog" in emperor.said()
    emperor.drop("blog.ini")
    assert emperor.state() is State.STARTING


def test_a_gateway_killed_while_starting_is_started_again_once_without_a_wait() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    emperor.dies("blog", 1)
    assert list(emperor.running) == [("blog", 2)]
    emperor.dies("blog", 2)
    assert emperor.state() is State.BACKOFF and not emperor.running


def test_a_start_that_takes_too_long_is_ended() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini", start_timeout_s=3.0)
    emperor.after(3.0)
    assert emperor.state() is State.STARTING
    emperor.after(START_GRACE_S)
    assert emperor.state() is State.BACKOFF and emperor.leaving == [("blog", 1)]
    assert "3 s (start-timeout)" in emperor.supervisor.vassals["blog.ini"].reason


def test_the_time_of_hooks_is_not_the_apps() -> None:
    emperor = Emperor()
    hooks = Hooks(before=(("exec-pre-app", "exec:migrate"),), post_fork=("db:connect",), timeout_s=100.0)
    emperor.drop("blog.ini", start_timeout_s=3.0, hooks=hooks)
    emperor.after(202.0)
    assert emperor.state() is State.STARTING
    emperor.after(1.0 + START_GRACE_S)
    assert emperor.state() is State.BACKOFF


def test_eight_start_at_a_time_in_order() -> None:
    emperor = Emperor(parallel=2)
    emperor.drop("a.ini", "b.ini", "c.ini", "d.ini")
    assert list(emperor.running) == [("a", 1), ("b", 1)]
    emperor.ready("b", 1)
    assert list(emperor.running)[2:] == [("c", 1)]
    emperor.failed("a", 1)
    assert list(emperor.running)[3:] == [("d", 1)]
    # What had been ready and died does not wait for its turn.
    emperor.dies("b", 1)
    assert ("b", 2) in emperor.running


def test_a_taken_domain_is_refused_named_and_tried_again_when_it_is_free() -> None:
    emperor = Emperor()
    emperor.up("a.ini", domains=("x.example.com",))
    emperor.drop("b.ini", domains=("x.example.com",))
    loser = emperor.supervisor.vassals["b.ini"]
    assert loser.state is State.REFUSED
    assert "x.example.com is held by a.ini" in loser.reason
    wanted = emperor.supervisor.wanted("b")
    assert wanted is not None and wanted.entry.domains == ("b.localhost",), (
        "its own name answers 503, not 404"
    )
    emperor.put("a.ini", None)
    assert loser.state is State.REFUSED, "the holder keeps it while it lives"
    emperor.leave_all()
    assert "a.ini" not in emperor.supervisor.vassals
    assert loser.state is State.STARTING


def test_an_edit_that_wants_a_taken_domain_leaves_the_old_one_serving() -> None:
    emperor = Emperor()
    emperor.up("a.ini", "b.ini")
    emperor.drop("b.ini", domains=("a.localhost",))
    vassal = emperor.supervisor.vassals["b.ini"]
    assert vassal.state is State.READY and "held by a.ini" in vassal.problem


def test_a_domain_given_up_by_an_edit_is_free_only_after_the_move() -> None:
    emperor = Emperor()
    emperor.up("a.ini", domains=("x.example.com",))
    emperor.drop("b.ini", domains=("x.example.com",))
    emperor.drop("a.ini", domains=("y.example.com",))
    assert emperor.state("b.ini") is State.REFUSED
    emperor.ready("a", 2)
    assert emperor.state("b.ini") is State.STARTING


def shared(weight: int, **other: object) -> dict[str, object]:
    return {"domains": ("x.example.com",), "sharing": Sharing(weight), **other}


def test_vassals_share_a_domain_if_both_say_so_and_are_of_one_user() -> None:
    emperor = Emperor()
    emperor.up("a.ini", domains=("x.example.com",))
    emperor.drop("b.ini", **shared(5))
    assert "which has no weight" in emperor.supervisor.vassals["b.ini"].reason
    emperor.put("a.ini", reading("a.ini", **shared(95)), live=True)
    assert emperor.state("b.ini") is State.STARTING, "it is read again as soon as the other shares"
    emperor.ready("b", 1)
    for name, weight in (("a", 95), ("b", 5)):
        wanted = emperor.supervisor.wanted(name)
        assert wanted is not None and wanted.entry.domains == ("x.example.com",)
        assert wanted.entry.sharing == Sharing(weight)
    emperor.drop("c.ini", **shared(5, uid=4711))
    assert "runs as another user" in emperor.supervisor.vassals["c.ini"].reason
    emperor.upgrade()
    assert emperor.state("a.ini") is emperor.state("b.ini") is State.READY
    emperor.drop("a.ini", domains=("x.example.com",))
    assert "which shares it" in emperor.supervisor.vassals["a.ini"].problem


def test_an_edit_of_the_weight_alone_is_no_reload() -> None:
    emperor = Emperor()
    emperor.up("a.ini", **shared(95))
    edited = reading("a.ini", **shared(50), identity=Identity(1, 1, 2, "other"))
    emperor.put("a.ini", edited, live=True)
    vassal = emperor.supervisor.vassals["a.ini"]
    assert (vassal.state, vassal.serving, list(vassal.generations)) == (State.READY, 1, [1])
    assert vassal.wish is vassal.proven is edited and vassal.generations[1].reading is edited
    assert [each for each in emperor.done if isinstance(each, Remember)] == [Remember(vassal.generations[1])]
    wanted = emperor.supervisor.wanted("a")
    assert wanted is not None and wanted.entry.sharing == Sharing(50)
    # A touch, another edit, and what somebody asks for are reloads.
    for changed, live in (
        (edited, True),
        (replace(edited, queue=5, sharing=Sharing(1)), True),
        (replace(edited, sharing=Sharing(2)), False),
    ):
        number = (vassal.serving or 0) + 1
        emperor.put("a.ini", changed, live=live)
        assert vassal.state is State.RELOADING
        emperor.ready("a", number)
        emperor.leave_all()


def test_two_files_with_one_stem() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.drop("blog.toml")
    second = emperor.supervisor.vassals["blog.toml"]
    assert (second.name, second.state) == ("blog.toml", State.REFUSED)
    assert "blog.ini is the vassal 'blog' already" in second.reason
    assert emperor.supervisor.by_name("blog") is emperor.supervisor.vassals["blog.ini"]
    emperor.put("blog.ini", None)
    emperor.leave_all()
    assert (second.name, second.state) == ("blog", State.STARTING)
    order = [each for each in emperor.done if isinstance(each, Forget | Spawn)]
    assert isinstance(order[-2], Forget) and isinstance(order[-1], Spawn)


def test_the_only_vassal_takes_all_until_another_says_default() -> None:
    emperor = Emperor()
    emperor.supervisor.only("a.ini")
    emperor.up("a.ini", "b.ini")
    assert emperor.supervisor.wanted("a").entry.only  # type: ignore[union-attr]
    assert not emperor.supervisor.wanted("b").entry.only  # type: ignore[union-attr]
    emperor.up("c.ini", default=True)
    assert not emperor.supervisor.wanted("a").entry.only  # type: ignore[union-attr]
    emperor.drop("d.ini", default=True)
    assert "c.ini is the default vassal" in emperor.supervisor.vassals["d.ini"].reason


def test_a_removed_file_drains_and_a_returning_one_starts_beside_it() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.put("blog.ini", None)
    assert emperor.state() is State.DRAINING
    assert Leave(emperor.running["blog", 1], empty_queue=True) in emperor.done
    wanted = emperor.supervisor.wanted("blog")
    assert wanted is not None and wanted.entry.domains == () and wanted.active == 1
    emperor.drop("blog.ini")
    assert emperor.state() is State.STARTING
    emperor.leave_all()
    emperor.ready("blog", 2)
    assert emperor.state() is State.READY and list(emperor.running) == [("blog", 2)]
    emperor.put("blog.ini", None)
    emperor.leave_all()
    assert emperor.supervisor.wanted("blog") is None and not emperor.supervisor.vassals
    emperor.drop("blog.ini")
    assert list(emperor.running) == [("blog", 3)], "numbers are never used twice"


def test_a_lost_spawn_is_asked_for_again_under_another_number() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    emperor.supervisor.spawn_lost(emperor.running.pop(("blog", 1)))
    emperor.act()
    assert list(emperor.running) == [("blog", 2)] and emperor.state() is State.STARTING


def adopted(number: int, phase: Phase, **other: object) -> Generation:
    return Generation("blog.ini", number, reading(**other), "cd" * 32, phase, 0.0, 0, 50 + number, True, True)


def test_what_serves_is_adopted_and_not_started() -> None:
    emperor = Emperor()
    emperor.supervisor.adopt(adopted(4, Phase.READY))
    emperor.act()
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert (vassal.state, vassal.serving, vassal.available) == (State.READY, 4, True)
    assert not any(isinstance(each, Spawn) for each in emperor.done)
    emperor.drop("blog.ini")
    assert list(emperor.running) == [("blog", 5)]


def test_a_reload_cut_short_by_the_emperors_death_begins_anew() -> None:
    emperor = Emperor()
    newer, older = adopted(5, Phase.STARTING, processes=3), adopted(4, Phase.READY)
    emperor.supervisor.adopt(newer)
    emperor.supervisor.adopt(older)
    emperor.act()
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert (vassal.state, vassal.serving) == (State.READY, 4)
    assert End(newer) in emperor.done and Leave(older, False) not in emperor.done


def test_an_older_one_that_still_drained_goes_on_leaving() -> None:
    emperor = Emperor()
    emperor.supervisor.adopt(adopted(5, Phase.READY))
    emperor.supervisor.adopt(adopted(4, Phase.READY))
    emperor.act()
    assert emperor.leaving == [("blog", 4)]
    assert emperor.supervisor.vassals["blog.ini"].serving == 5


def test_one_that_was_leaving_already_goes_on_and_its_file_starts_or_is_gone() -> None:
    emperor = Emperor()
    leaving = adopted(5, Phase.LEAVING)
    emperor.supervisor.adopt(leaving)
    emperor.act()
    assert emperor.leaving == [("blog", 5)] and emperor.supervisor.wanted("blog") is None
    emperor.drop("blog.ini")
    assert list(emperor.running) == [("blog", 6)]

    emperor = Emperor()
    leaving = adopted(5, Phase.LEAVING)
    emperor.supervisor.adopt(leaving)
    emperor.put("blog.ini", None)
    emperor.supervisor.gone(leaving, "exited with code 0", False)
    emperor.act()
    assert not emperor.supervisor.vassals


def test_an_app_that_had_been_ready_under_a_former_emperor_lets_requests_wait() -> None:
    emperor = Emperor()
    emperor.supervisor.remember("blog", 7, was_ready=True)
    emperor.drop("blog.ini")
    assert emperor.supervisor.vassals["blog.ini"].available
    assert list(emperor.running) == [("blog", 8)]


def test_nothing_starts_once_the_emperor_stops() -> None:
    emperor = Emperor(parallel=1)
    emperor.up("a.ini")
    emperor.drop("b.ini", "c.ini")
    emperor.supervisor.close()
    emperor.dies("a", 1)
    emperor.dies("b", 1)
    assert not emperor.running


_FILES = ["a.ini", "b.ini", "b.toml"]
_STEPS = [
    *("put", "prove", "roll", "fall", "worker", "clash", "wrong", "remove", "ready", "failed", "dies"),
    *("killed", "lost", "wait", "leave", "upgrade"),
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(_STEPS), st.sampled_from(_FILES), st.integers(0, 99)), max_size=60))
def test_whatever_happens_one_serves_names_are_held_once_and_the_table_has_a_row(
    steps: list[tuple[str, str, int]],
) -> None:
    emperor = Emperor(parallel=2)
    chance = random.Random(1)
    for step, file, number in steps:
        alive = sorted(emperor.running)
        key = alive[number % len(alive)] if alive else None
        match step:
            case "put":
                emperor.put(file, reading(file, domains=(f"{file}.example.com",)))
            case "prove":
                emperor.put(file, reading(file, reloading=Reloading(probation_s=1.0)))
            case "roll":
                emperor.put(file, reading(file, reloading=Reloading(style="rolling")))
            case "worker" if key:
                generation = emperor.running[key]
                states = ("starting", "ready", "draining", "dead", "closed")
                now = Worker(number % 2, 1, states[number % 5], 0, 0, "exited" if number % 3 else "")
                before = generation.workers.get(now.seat)
                generation.workers[now.seat] = now
                emperor.supervisor.worker(generation, before, now)
                emperor.act()
            case "fall" if file in emperor.supervisor.vassals:
                emperor.supervisor.fell(file, "it fell")
                emperor.act()
            case "clash":
                emperor.put(file, reading(file, domains=("x.example.com",), default=number % 2 == 0))
            case "wrong":
                emperor.put(file, "/v: no")
            case "remove":
                emperor.put(file, None)
            case "ready" if key:
                emperor.ready(*key)
            case "failed" if key:
                emperor.failed(*key)
            case "dies" if key:
                emperor.dies(*key, "exited with code 1", False)
            case "killed" if key:
                emperor.dies(*key)
            case "lost" if key and emperor.running[key].phase is Phase.SPAWNING:
                emperor.supervisor.spawn_lost(emperor.running.pop(key))
                emperor.act()
            case "wait":
                emperor.after(chance.choice([0.5, 2.0, 100.0]))
            case "leave":
                emperor.leave_all()
            case "upgrade":
                emperor.upgrade()
        check(emperor)
    for file in _FILES:
        emperor.put(file, None)
    for _ in range(3):
        emperor.leave_all()
    assert not emperor.supervisor.vassals and not emperor.running


def test_an_upgrade_forgets_nothing() -> None:
    """A back-off, a probation, a paused one, and what is told to go again since nobody knows whether it was."""
    emperor = Emperor()
    emperor.up("a.ini", "p.ini")
    emperor.drop("bad.ini")
    emperor.failed("bad", 1)
    emperor.drop("a.ini", reloading=Reloading(probation_s=60.0))
    emperor.ready("a", 2)
    emperor.supervisor.pause("p", "hold", "somebody")
    emperor.put("p.ini", None)
    before = {file: emperor.state(file) for file in ("a.ini", "bad.ini", "p.ini")}
    assert before == {"a.ini": State.PROVING, "bad.ini": State.BACKOFF, "p.ini": State.DRAINING}
    emperor.done.clear()
    emperor.upgrade()
    assert {file: emperor.state(file) for file in before} == before
    assert emperor.supervisor.paused == {"p": "hold"}
    assert [each.generation.name for each in emperor.done if isinstance(each, Leave)] == ["p"]
    vassal = emperor.supervisor.vassals["a.ini"]
    assert vassal.wish is not vassal.proven and vassal.generations[1].reading is vassal.proven
    emperor.after(2.0)
    assert emperor.state("bad.ini") is State.STARTING
    emperor.supervisor.fell("a.ini", "it fell")
    emperor.act()
    assert (emperor.state("a.ini"), vassal.serving) == (State.READY, 1)


def test_what_another_version_handed_over_may_lack_what_has_a_default_and_nothing_else() -> None:
    emperor = Emperor()
    emperor.up("a.ini")
    handed = json.loads(json.dumps(emperor.supervisor.hand_over()))
    handed["hyperdrive"] = handed["vassals"][0]["hyperdrive"] = 1
    del handed["vassals"][0]["spared"]
    emperor.make().resume(handed)
    del handed["vassals"][0]["path"]
    with pytest.raises(ValueError, match="Vassal: path: missing"):
        emperor.make().resume(handed)
    with pytest.raises(ValueError, match="what the supervisor knew"):
        emperor.make().resume({})


def check(emperor: Emperor) -> None:
    domains: Counter[str] = Counter()
    defaults = 0
    for vassal in emperor.supervisor.vassals.values():
        wanted = emperor.supervisor.wanted(vassal.name)
        if wanted is not None and emperor.supervisor.by_name(vassal.name) is vassal:
            domains.update(wanted.entry.domains)
            defaults += wanted.entry.default
            assert set(wanted.generations) == {
                number for name, number in emperor.running if name == vassal.name
            }
        phases = Counter(each.phase for each in vassal.generations.values())
        serving = {State.READY: 1, State.RELOADING: 1, State.ROLLING: 2, State.PROVING: 2}
        assert phases[Phase.READY] == serving.get(vassal.state, 0), vassal
        coming = phases[Phase.QUEUED] + phases[Phase.SPAWNING] + phases[Phase.STARTING]
        assert coming == (vassal.state in (State.STARTING, State.RELOADING)), vassal
        assert (vassal.retry_at is not None) == (vassal.state is State.BACKOFF)
    assert not [domain for domain, count in domains.items() if count > 1]
    assert defaults <= 1


def test_a_hundred_reloads_keep_two_generations_and_the_last_content_wins() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    emperor.ready("blog", 1)
    for queue in range(1, 101):
        emperor.drop("blog.ini", queue=queue)
        assert len(emperor.running) <= 2
    # The one that was discarded has yet to go.
    assert len(emperor.running) == 2
    emperor.leave_all()
    (number,) = emperor.running.keys() - {("blog", 1)}
    assert emperor.running[number].reading.queue == 100
    emperor.ready(*number)
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert (vassal.state, vassal.serving) == (State.READY, number[1])


def test_a_reload_waits_for_the_former_generation_and_no_longer_than_it_must() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    emperor.ready("blog", 1)
    emperor.drop("blog.ini")
    emperor.ready("blog", 2)
    emperor.drop("blog.ini")
    assert ("blog", 3) not in emperor.running
    wake_at = emperor.supervisor.wake_at()
    assert wake_at is not None
    emperor.after(wake_at - emperor.now)
    # A download of ten minutes goes on in the first; it holds up nobody.
    assert emperor.running.keys() == {("blog", 1), ("blog", 2), ("blog", 3)}
    emperor.ready("blog", 3)
    emperor.drop("blog.ini")
    emperor.leave_all()
    assert emperor.running.keys() == {("blog", 3), ("blog", 4)}


def test_a_start_says_by_whose_hand_it_was() -> None:
    emperor = Emperor()
    emperor.drop("blog.ini")
    emperor.ready("blog", 1)
    emperor.supervisor.checked(reading(), (), "touch-reload /x")
    emperor.act()
    emperor.failed("blog", 2, "no")
    told = [(each.kind, each.by) for each in emperor.done if isinstance(each, Say) and each.kind]
    assert told == [("ready", ""), ("rolled back", "touch-reload /x")]


def proving(**other: object) -> Emperor:
    """A vassal whose second generation has just taken over, on probation."""
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.drop("blog.ini", reloading=Reloading(probation_s=30.0), **other)
    emperor.ready("blog", 2)
    assert emperor.state() is State.PROVING
    return emperor


def wanted(emperor: Emperor) -> tuple[int | None, int | None]:
    found = emperor.supervisor.wanted("blog")
    assert found is not None
    return found.active, found.kept


def test_on_probation_the_former_generation_rests_and_then_leaves() -> None:
    emperor = proving()
    assert wanted(emperor) == (2, 1) and not emperor.leaving
    emperor.after(29)
    assert emperor.state() is State.PROVING
    assert emperor.supervisor.wake_at() == emperor.now + 1
    emperor.after(1)
    assert emperor.state() is State.READY and wanted(emperor) == (2, None)
    assert emperor.leaving == [("blog", 1)]


def test_one_that_falls_is_taken_back_and_says_why() -> None:
    emperor = proving(queue=7)
    emperor.supervisor.fell("blog.ini", "9 of its 10 answers were 5xx")
    emperor.act()
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert (emperor.state(), wanted(emperor), emperor.leaving) == (State.READY, (1, None), [("blog", 2)])
    assert vassal.problem == "generation 2 was taken back: 9 of its 10 answers were 5xx"
    assert [each.kind for each in emperor.done if isinstance(each, Say) and each.kind][-1] == "taken back"
    emperor.leave_all()
    # Should it die later, it starts from what had worked.
    emperor.dies("blog", 1)
    assert emperor.running["blog", 3].reading.queue == 1024


def test_a_gateway_that_dies_on_probation_is_no_crash_loop() -> None:
    emperor = proving()
    emperor.dies("blog", 2)
    assert (emperor.state(), wanted(emperor), list(emperor.running)) == (
        State.READY,
        (1, None),
        [("blog", 1)],
    )
    assert (
        "generation 2 was taken back: its gateway killed by signal 9"
        in emperor.supervisor.vassals["blog.ini"].problem
    )


def test_the_death_of_the_one_that_rests_ends_the_probation() -> None:
    emperor = proving()
    emperor.dies("blog", 1)
    assert (emperor.state(), wanted(emperor)) == (State.READY, (2, None))
    emperor.supervisor.fell("blog.ini", "late")
    assert emperor.state() is State.READY


def test_an_edit_on_probation_makes_way_and_a_wrong_one_does_not() -> None:
    emperor = proving()
    emperor.put("blog.ini", "no")
    assert emperor.state() is State.PROVING
    emperor.drop("blog.ini")
    assert emperor.state() is State.RELOADING and emperor.leaving == [("blog", 1)]
    emperor.leave_all()
    assert emperor.running.keys() == {("blog", 2), ("blog", 3)}


def test_a_removed_file_on_probation_lets_both_go() -> None:
    emperor = proving()
    emperor.put("blog.ini", None)
    assert sorted(emperor.leaving) == [("blog", 1), ("blog", 2)]
    emperor.leave_all()
    assert "blog.ini" not in emperor.supervisor.vassals


def test_without_room_there_is_no_probation() -> None:
    emperor = Emperor(has_room=lambda: False)
    emperor.up("blog.ini")
    emperor.drop("blog.ini", reloading=Reloading(probation_s=30.0))
    emperor.ready("blog", 2)
    assert emperor.state() is State.READY and emperor.leaving == [("blog", 1)]
    assert "there is no memory" in emperor.said()


def test_names_of_both_are_held_until_the_probation_is_over() -> None:
    for falls, free in ((False, "old.example.com"), (True, "new.example.com")):
        emperor = Emperor()
        emperor.up("blog.ini", domains=("old.example.com",))
        emperor.drop("blog.ini", domains=("new.example.com",), reloading=Reloading(probation_s=30.0))
        emperor.ready("blog", 2)
        emperor.drop("a.ini", domains=("old.example.com",))
        emperor.drop("b.ini", domains=("new.example.com",))
        assert {emperor.supervisor.vassals[file].state for file in ("a.ini", "b.ini")} == {State.REFUSED}
        if falls:
            emperor.supervisor.fell("blog.ini", "no")
            emperor.act()
        else:
            emperor.after(30)
        states = {
            vassal.wish.domains[0]: vassal.state
            for vassal in emperor.supervisor.vassals.values()
            if vassal.wish
        }
        assert states[free] is State.STARTING


def test_who_is_replaced_may_take_as_long_as_reload_mercy_says() -> None:
    emperor = Emperor()
    emperor.up("blog.ini", reloading=Reloading(mercy_s=600.0))
    first = emperor.running["blog", 1]
    emperor.drop("blog.ini")
    emperor.ready("blog", 2)
    assert first.leave_within_s == 600.0
    emperor.put("blog.ini", None)
    assert emperor.running["blog", 2].leave_within_s == 8.0


def digested(digest: str, **other: object) -> Reading:
    return reading(identity=Identity(1, 1, 1, digest), **other)


def test_rollback_goes_to_the_reading_before_and_back_again() -> None:
    emperor = Emperor()
    for number, digest in enumerate(("one", "two"), 1):
        emperor.put("blog.ini", digested(digest))
        emperor.ready("blog", number)
    emperor.put("blog.ini", digested("two"))  # a touch is no other reading
    emperor.leave_all()
    emperor.after(2)
    emperor.ready("blog", 3)
    assert emperor.supervisor.roll_back("blog.ini", "by hand") == "the reading before is started"
    emperor.act()
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert vassal.pending.startswith("rolled back")
    emperor.leave_all()
    emperor.ready("blog", 4)
    assert emperor.running["blog", 4].reading.identity.digest == "one"
    assert vassal.pending.startswith("rolled back")
    emperor.put("blog.ini", digested("three"))
    assert vassal.pending == ""
    emperor.leave_all()
    emperor.ready("blog", 5)
    emperor.supervisor.roll_back("blog.ini", "by hand")
    emperor.act()
    emperor.leave_all()
    emperor.ready("blog", 6)
    assert emperor.running["blog", 6].reading.identity.digest == "one"


def test_rollback_after_an_edit_that_never_ran_and_with_nothing_to_go_back_to() -> None:
    emperor = Emperor()
    emperor.put("blog.ini", digested("one"))
    emperor.ready("blog", 1)
    with pytest.raises(LookupError, match="no other reading"):
        emperor.supervisor.roll_back("blog.ini", "")
    emperor.put("blog.ini", digested("two"))
    emperor.dies("blog", 1)
    emperor.failed("blog", 2)
    emperor.leave_all()
    assert emperor.state() is State.BACKOFF
    emperor.supervisor.roll_back("blog.ini", "")
    emperor.act()
    assert emperor.running["blog", 3].reading.identity.digest == "one"


def test_rollback_ends_a_probation_and_respects_names() -> None:
    emperor = proving()
    assert "generation 2 is taken back" in emperor.supervisor.roll_back("blog.ini", "by hand")
    emperor.act()
    assert emperor.state() is State.READY and wanted(emperor) == (1, None)
    other = Emperor()
    other.put("blog.ini", digested("one", domains=("x.example.com",)))
    other.ready("blog", 1)
    other.put("blog.ini", digested("two", domains=("y.example.com",)))
    other.ready("blog", 2)
    other.leave_all()
    other.up("shop.ini", domains=("x.example.com",))
    with pytest.raises(LookupError, match=r"x\.example\.com is held by shop\.ini"):
        other.supervisor.roll_back("blog.ini", "")


def test_a_pause_is_told_to_routers_and_outlives_reloads_but_not_the_vassal() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.supervisor.pause("blog", "hold", "by hand")
    emperor.drop("blog.ini")
    emperor.ready("blog", 2)
    found = emperor.supervisor.wanted("blog")
    assert found is not None and found.entry.paused == "hold"
    emperor.supervisor.pause("blog", "", "by hand")
    found = emperor.supervisor.wanted("blog")
    assert found is not None and found.entry.paused == ""
    emperor.supervisor.pause("blog", "refuse", "by hand")
    emperor.put("blog.ini", None)
    emperor.leave_all()
    assert emperor.supervisor.paused == {}
    kinds = [each.kind for each in emperor.done if isinstance(each, Say) and "hand" in each.by]
    assert kinds == ["paused", "resumed", "paused"]


def test_an_edit_that_waits_is_said_until_it_is_applied() -> None:
    emperor = Emperor()
    emperor.up("blog.ini")
    emperor.supervisor.edited("blog.ini", "the edit is valid, and not applied")
    emperor.act()
    vassal = emperor.supervisor.vassals["blog.ini"]
    assert (vassal.state, vassal.pending) == (State.READY, "the edit is valid, and not applied")
    emperor.drop("blog.ini")
    assert vassal.pending == ""


def test_a_wall_clock_that_jumps_moves_no_deadline() -> None:
    emperor = proving()
    emperor.wall_jump = -10 * 365 * 86400.0
    emperor.after(29)
    assert emperor.state() is State.PROVING
    emperor.wall_jump = 10 * 365 * 86400.0
    emperor.after(1)
    assert emperor.state() is State.READY
    emperor.leave_all()
    emperor.dies("blog", 2)
    emperor.failed("blog", 3)
    assert emperor.state() is State.BACKOFF
    at = emperor.supervisor.wake_at()
    assert at is not None and at - emperor.now == 1.0


def test_a_name_that_a_failed_edit_had_wanted_is_not_told_to_routers_for_it() -> None:
    emperor = Emperor()
    emperor.up("b.ini")
    emperor.drop("b.ini", domains=("x.example.com",))
    emperor.drop("a.ini", domains=("x.example.com",))
    emperor.dies("b", 2, killed=False)
    emperor.dies("b", 1)
    emperor.failed("b", 3)
    assert emperor.state("b.ini") is State.BACKOFF
    for name, domains in (("a", ("x.example.com",)), ("b", ("b.localhost",))):
        found = emperor.supervisor.wanted(name)
        assert found is not None and found.entry.domains == domains
