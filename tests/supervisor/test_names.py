"""Who holds which name, and who may share one."""

import pytest

from emperor.supervisor.names import Claim, Names, claims_of


def names(**held: frozenset[Claim]) -> Names:
    made = Names()
    for file, claims in held.items():
        made.hold(file, claims)
    return made


def shop(
    name: str, uid: int | None = 1000, *, shared: bool = True, default: bool = False
) -> frozenset[Claim]:
    return claims_of(name, ["shop.example"], default, uid=uid, shared=shared)


def test_vassals_of_one_user_share_what_all_of_them_share() -> None:
    held = names(a=shop("a", default=True), b=shop("b", default=True))
    assert held.holders(Claim("domain", "shop.example")) == held.holders(Claim("default", "")) == ["a", "b"]
    assert held.hold("a", frozenset()) == shop("a", default=True)
    assert held.holders(Claim("domain", "shop.example")) == ["b"]
    held.hold("b", frozenset())
    assert held.holders(Claim("domain", "shop.example")) == []


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (shop("b"), shop("a", shared=False), "held by a, which has no weight: give it one as well"),
        (
            shop("b", shared=False),
            shop("a"),
            "held by a, which shares it (weight): set a weight here as well",
        ),
        (shop("b", 1001), shop("a"), "held by a, which runs as another user: only vassals of one user share"),
        (shop("b", None), shop("a", 0), "runs as another user"),
        (shop("b", shared=False), shop("a", shared=False), "held by a: remove it there or here"),
    ],
)
def test_else_the_one_that_holds_it_keeps_it(
    mine: frozenset[Claim], theirs: frozenset[Claim], said: str
) -> None:
    held = names(a=theirs)
    (conflict,) = held.conflicts("b", mine)
    assert said in str(conflict) and conflict.held in theirs
    with pytest.raises(ValueError, match="is held by a"):
        held.hold("b", mine)


def test_a_vassals_own_name_and_address_are_shared_with_nobody() -> None:
    mine = claims_of("a", [], False, [":80"], 1000, shared=True)
    assert len(names(x=mine).conflicts("y", mine)) == 2


def test_one_that_reloads_holds_both_ways_and_others_wait() -> None:
    held = names(a=shop("a", shared=False) | shop("a"))
    assert held.conflicts("b", shop("b")) and not held.conflicts("a", shop("a"))
    assert held.hold("a", shop("a")) == frozenset({Claim("domain", "shop.example")})
    held.hold("b", shop("b"))
