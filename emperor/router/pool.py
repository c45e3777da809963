"""An app's workers, as far as choosing among them goes. Pure: it reads its members and acts on nothing.

A request goes to a worker with a free slot, the one that became idle last (its caches are warm, and surplus workers stay
idle); of workers that run several at once, to the one that runs the fewest (their threads share an interpreter). When none
is free it may go on deck: offered to a busy worker, revocable, so that the worker need not wait for a round trip. How many
may wait there, and when it is for too long, is ``deck``'s rule by what the app's requests usually take. When nobody has room
it stays in the queue.
"""

from typing import Final

from emperor.router import deck

SETTLED_NS: Final = 1_000_000
"""A younger one is about to end as likely as not: revoking from behind it would cost more than it saves."""


MEAN_OF: Final = 64
"""The mean is of about so many requests: the last ones count most."""


class Member:
    """What the pool reads of a link."""

    __slots__ = ("accepting", "aside", "far", "fresh", "in_flight", "owed", "slots")

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.fresh = False  # chosen last, and nothing goes on its deck
        self.aside = False  # not chosen at all, for now
        self.owed = False  # another router gets a slot of it as soon as one is free: nothing goes on its deck
        self.in_flight = 0  # offered, begun and abandoned, all that the worker has not ended
        self.accepting = False
        self.far = False  # on another host: `emperor.router.far` has it, and not the pool

    def room(self) -> bool:
        """A deck word is free (without a page: a slot is)."""
        raise NotImplementedError

    def running_ns(self, now_ns: int) -> int:
        """How long every slot has been busy; −1 when one is idle or it cannot be known."""
        raise NotImplementedError

    def waiting(self) -> int:
        """Requests offered beyond the slots."""
        raise NotImplementedError


class Pool:
    """The members of one app, all generations, and what its requests take: ``usual_ns``, by which decks are made, and
    ``mean_ns``, by which the work that waits is estimated (0 before one has ended)."""

    __slots__ = ("_idle", "known", "mean_ns", "members", "usual_ns")

    def __init__(self) -> None:
        self.usual_ns = deck.FIRST_NS
        self.mean_ns = 0
        self.known = 0  # so many requests the mean is of
        self.members: list[Member] = []
        self._idle: list[Member] = []  # a stack: the last to become idle is the first to be used

    def join(self, member: Member) -> None:
        self.members.append(member)
        self.became_idle(member)

    def leave(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
        if member in self._idle:
            self._idle.remove(member)

    def became_idle(self, member: Member) -> None:
        """A slot of it is free again."""
        if (
            member.accepting
            and member.in_flight < member.slots
            and not member.far
            and member not in self._idle
            and not member.aside
        ):
            if member.fresh:
                self._idle.insert(0, member)
            else:
                self._idle.append(member)

    def retire(self, member: Member) -> None:
        """It takes nothing new, but has not left."""
        if member in self._idle:
            self._idle.remove(member)

    def serves(self) -> bool:
        """Somebody here takes requests."""
        for member in self.members:  # noqa: SIM110 - a generator would not be compiled here
            if member.accepting:
                return True
        return False

    def idle_member(self) -> Member | None:
        """The member to give a request to at once, or None. Stale entries of the stack are dropped on the way."""
        idle = self._idle
        while idle:
            member = idle[-1]
            if member.accepting and member.in_flight < member.slots and member.room():
                return self._least_busy(member) if member.slots > 1 and member.in_flight else member
            idle.pop()
        return None

    def _least_busy(self, best: Member) -> Member:
        for member in reversed(self._idle):
            if (
                member.in_flight < best.in_flight
                and member.accepting
                and member.in_flight < member.slots
                and (best.fresh or not member.fresh)
                and member.room()
            ):
                best = member
        return best

    def free_slots(self) -> int:
        """Of all that take requests now."""
        free = 0
        for member in self.members:
            if member.accepting and not member.aside and member.in_flight < member.slots:
                free += member.slots - member.in_flight
        return free

    def total_slots(self) -> int:
        """Of all that take requests, busy or not."""
        total = 0
        for member in self.members:
            if member.accepting:
                total += member.slots
        return total

    def took(self, service_ns: int) -> None:
        """A request has ended that was in its slot for so long."""
        self.usual_ns = deck.learn(self.usual_ns, service_ns) if self.known else deck.first(service_ns)
        if self.known < MEAN_OF:
            self.known += 1
        self.mean_ns += (service_ns - self.mean_ns) // self.known

    def took_in_vain(self, service_ns: int) -> None:
        """The same of one that failed: what failures take says nothing of what work takes."""
        self.usual_ns = deck.learn(self.usual_ns, service_ns)

    def depth(self, slots: int) -> int:
        """Requests that may wait on the deck of a member with so many slots."""
        return deck.depth(self.usual_ns, slots, len(self.members) == 1)

    def long_ns(self) -> int:
        """From which age on a request is long."""
        return deck.long_ns(self.usual_ns)

    def deck_member(self, now_ns: int) -> Member | None:
        """The busy member to put a request on deck of, or None: the least loaded that is not behind a long request."""
        best: Member | None = None
        for member in self.members:
            if not member.accepting or (best is not None and member.in_flight >= best.in_flight):
                continue
            if not member.slots or member.fresh or member.aside or member.owed:
                continue  # no slot: another router's, for now, and nothing would begin what lies there
            if member.waiting() >= self.depth(member.slots) or not member.room():
                continue
            if member.running_ns(now_ns) > self.long_ns():
                continue
            best = member
        return best

    def stuck_member(self, now_ns: int) -> Member | None:
        """Where a request waits best when every slot of the app has a long one: with who has run the longest, if nobody
        waits there; the next look takes it back if another is free first.

        None while there is anybody else, and where requests are not usually quick.
        """
        if self.usual_ns > deck.QUICK_NS:
            return None
        best: Member | None = None
        best_ns = self.long_ns()
        for member in self.members:
            if not member.accepting or not member.slots:
                continue
            running_ns = member.running_ns(now_ns)
            if running_ns <= self.long_ns():
                return None
            if member.aside or member.owed:
                continue
            if running_ns > best_ns and member.waiting() <= 0 and member.room():
                best = member
                best_ns = running_ns
        return best

    def stuck_members(self, now_ns: int, elsewhere: bool = False) -> list[Member]:
        """Whose decks should be taken back, for others to have: every slot of theirs has a long request.

        Empty when there are no others: what has nowhere to go stays where it is. ``elsewhere``: other routers have slots, and
        let go of them for a queue.
        """
        stuck: list[Member] = []
        others = elsewhere
        for member in self.members:
            if not member.accepting or not member.slots:
                continue
            if member.running_ns(now_ns) <= self.long_ns():
                others = True
            elif member.waiting() > 0:
                stuck.append(member)
        return stuck if others else []

    def blocked_member(self, now_ns: int) -> tuple[Member | None, bool]:
        """From whose deck an idle member should take: ``(member or None, look again soon)``.

        The one with most waiting behind a request that has run for a while. The second value is True when somebody waits
        behind a younger one.
        """
        best: Member | None = None
        again = False
        for member in self.members:
            waiting = member.waiting()
            if waiting <= 0:
                continue
            if member.accepting and member.running_ns(now_ns) < SETTLED_NS:
                again = True
                continue
            if best is None or waiting > best.waiting():
                best = member
        return best, again
