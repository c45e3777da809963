"""What each of several routers has of the limits that are one for all."""

from dataclasses import replace

from emperor.config.balancing import Balancing
from emperor.config.settings import EmperorSettings, RouterSettings, Settings
from emperor.config.upstreams import Upstream, Upstreams
from emperor.control.messages import RouterEntry
from emperor.supervisor.sharedout import (
    arguments_of_each,
    refusal,
    settings_of_each,
    wanted_of_each,
    warnings_of,
)
from emperor.supervisor.wanted import Wanted

BALANCING = Balancing(
    rate=(5.0, 3),
    rate_each=(5.0, 3),
    concurrency=7,
    concurrency_each=7,
    bulkheads=(("/slow", 1),),
    reserve=(("/a", 4),),
)
ENTRY = RouterEntry(
    name="blog",
    queue=101,
    balancing=BALANCING,
    upstreams=Upstreams(upstreams=(Upstream("10.0.0.2:80", most=5), Upstream("10.0.0.3:80"))),
)


def test_each_has_its_part_rounded_up() -> None:
    said = RouterSettings(max_connections=1001, max_connections_per_address=9, spool_limit=7, body_memory=0)
    each = settings_of_each(said, 2)
    assert (each.max_connections, each.spool_limit, each.body_memory) == (501, 4, 0)
    assert (each.max_connections_per_address, each.head_limit) == (9, said.head_limit)
    settings = Settings(EmperorSettings(routers=3), said)
    assert "--max-connections=334" in arguments_of_each(settings)


def test_of_a_vassal_as_well_but_for_what_one_client_may_do() -> None:
    found = wanted_of_each(Wanted(ENTRY, {}, None), 2).entry
    assert found.queue == 51
    assert found.balancing == replace(
        BALANCING, rate=(2.5, 2), concurrency=4, bulkheads=(("/slow", 1),), reserve=(("/a", 2),)
    )
    assert [each.most for each in found.upstreams.upstreams] == [3, 0]


def test_what_routers_count_together_on_an_app_s_page_is_not_divided() -> None:
    found = wanted_of_each(Wanted(replace(ENTRY, upstreams=Upstreams()), {}, None), 2).entry.balancing
    assert (found.rate, found.concurrency) == (BALANCING.rate, BALANCING.concurrency)
    assert found.bulkheads == (("/slow", 1),) and found.reserve == (("/a", 2),)


def test_one_has_all() -> None:
    wanted, said = Wanted(ENTRY, {}, None), RouterSettings(max_connections=7)
    assert wanted_of_each(wanted, 1) is wanted and settings_of_each(said, 1) is said


def test_who_needs_the_same_worker_is_warned() -> None:
    assert warnings_of(BALANCING, 2) == warnings_of(Balancing(sticky="s", balance="hash"), 1) == []
    sticky, by_hash = warnings_of(Balancing(sticky="s", balance="hash"), 2)
    assert sticky.startswith("sticky = s: with routers = 2 ") and by_hash.startswith("balance = hash: ")


def test_what_one_process_alone_can_have_is_refused() -> None:
    backplane = "tcp://0.0.0.0:5555"
    text = refusal(Settings(EmperorSettings(routers=2, backplane=backplane)))
    assert text.startswith(f"routers = 2 and backplane = {backplane}: ") and "remove backplane" in text
    assert not refusal(Settings(EmperorSettings(backplane=backplane)))
    assert not refusal(Settings(EmperorSettings(routers=2)))
