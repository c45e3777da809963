"""What the status says of each process of a fleet, and what it must say once some of them have been killed.

Roles are named as `Fleet.pids` names them: `emperor`, `spawner`, `router 0`, `gateway red`, `worker red/0`.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

KILLED = "killed by signal 9 (SIGKILL)"
UNSEEN = "died unsupervised"
IMPORTING = " while it imported the app"
ANOTHER = -1


@dataclass(frozen=True)
class Life:
    """The process of one role. What the status has no word for is 0 and empty: a router is of no generation.

    A gateway's `restarts` and `last_exit` are its vassal's, `adopted` says that it was started by a former
    emperor; of an emperor, that it took something over.
    """

    pid: int
    restarts: int = 0
    last_exit: str = ""
    generation: int = 0
    adopted: int = 0


Lives = dict[str, Life]


def lives(status: dict[str, Any]) -> Lives:
    """Every process of the document."""
    spawner = status["spawner"]
    found = {
        "emperor": Life(status["emperor"]["pid"], adopted=status["emperor"]["adopted"]),
        "spawner": Life(spawner["pid"], spawner["restarts"], spawner["last_exit"]),
    }
    for router in status["routers"]:
        found[f"router {router['seat']}"] = Life(router["pid"], router["restarts"], router["last_exit"])
    for vassal in status["vassals"]:
        if gateway := vassal["gateway"]:
            found[f"gateway {vassal['name']}"] = Life(
                gateway["pid"],
                vassal["restarts"],
                vassal["last_exit"],
                vassal["generation"],
                gateway["adopted"],
            )
        for worker in vassal["workers"]:
            found[f"worker {vassal['name']}/{worker['seat']}"] = Life(
                worker["pid"], worker["restarts"], worker["last_exit"]
            )
    return found


def taken_along(role: str, struck: Counter[str]) -> bool:
    """Whether this role gets a new process when those in `struck` are killed: they themselves, an emperor's
    spawner, a gateway's workers."""
    kind, _, name = role.partition(" ")
    return (
        role in struck
        or (kind == "spawner" and "emperor" in struck)
        or (kind == "worker" and f"gateway {name.split('/')[0]}" in struck)
    )


def untrue(before: Lives, after: Lives, struck: Counter[str]) -> list[str]:
    """What the status says and should not, for people, with `struck` (how often each role was killed) between the
    two documents; empty when it says just what has happened, of the struck and of everybody else."""
    wrong = [f"{role}: appeared: {after[role]}" for role in after.keys() - before.keys()]
    for role, was in before.items():
        allowed = _expected(role, was, struck)
        now = after.get(role)
        if now is None:
            wrong.append(f"{role}: vanished: it was {was}")
        elif (_foreseeable(was, now) if taken_along(role, struck) else now) not in allowed:
            wrong.append(f"{role}: it was {was}, should be {allowed}, and is {now}")
    return wrong


def _foreseeable(was: Life, now: Life) -> Life:
    # Which pid a new process has nobody can foretell, nor whether the one before was killed while it imported.
    pid = ANOTHER if now.pid not in (0, was.pid) else now.pid
    return replace(now, pid=pid, last_exit=now.last_exit.removesuffix(IMPORTING))


def _expected(role: str, was: Life, struck: Counter[str]) -> list[Life]:
    """The lives that are true of this role now. Two, where an emperor is killed together with something else that
    the next one may still have met in its last moments, or found dead."""
    new_emperor = "emperor" in struck
    match role.partition(" ")[0]:
        case "emperor":
            return [Life(ANOTHER, adopted=1)] if new_emperor else [was]
        case "spawner":
            if new_emperor:
                return [Life(ANOTHER)]  # nobody could wait for the old one
            return [Life(ANOTHER, was.restarts + 1, KILLED)] if role in struck else [was]
        case "router":
            if new_emperor:
                # Its restarts are counted by each emperor for itself.
                return [Life(ANOTHER), Life(ANOTHER, 1, UNSEEN)] if role in struck else [Life(was.pid)]
            return [Life(ANOTHER, was.restarts + 1, KILLED)] if role in struck else [was]
        case "gateway":
            next_one = was.generation + 1
            if new_emperor and role in struck:
                met = Life(ANOTHER, 1, f"its gateway {UNSEEN}", next_one)
                return [Life(ANOTHER, generation=next_one), met]
            if new_emperor:
                return [Life(was.pid, generation=was.generation, adopted=1)]
            if role in struck:
                # One that was taken over is nobody's child: how it ended is not seen.
                end = UNSEEN if was.adopted else KILLED
                return [Life(ANOTHER, was.restarts + 1, f"its gateway {end}", next_one)]
            return [was]
        case _:
            if role in struck:
                return [Life(ANOTHER, was.restarts + struck[role], KILLED)]
            # Its gateway knows of it whoever is the emperor; a new gateway knows nothing of former workers.
            return [Life(ANOTHER)] if taken_along(role, struck) else [was]
