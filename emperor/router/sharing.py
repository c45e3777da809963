"""What an app does to share the slots of its workers with other routers: it asks for those that it could use, takes what nobody
holds, and lets go of what others want. ``grants`` decides what is to be done; here it is carried out, and said to the workers.

With one router nothing here is on the path of a request, but for a look at ``App.short``.
"""

from typing import TYPE_CHECKING, Final

from emperor.protocol import records
from emperor.protocol.scoreboard import now_ns
from emperor.router import grants, states
from emperor.router.link import Link

if TYPE_CHECKING:
    from emperor.router.app import App

_NONE: Final = records.pack_slots(0)

VAIN_PER_S: Final = 2000
"""Words of other routers that come too late, in a second and from one worker, before they count towards a flood: with three
routers that want its slots as often as they change hands, some hundred do. To drop one takes 2 µs."""


FIRST_NS: Final = 1
"""Since when those have waited for whom slots are reserved: before everybody."""


class Sharing:
    """One app's."""

    def __init__(self, app: "App") -> None:
        self.app = app
        self.leaves = False  # this router drains: others are to have what it does not need
        self._vain: dict[Link, int] = {}  # what came too late in this second
        self._vain_second = 0

    def leave_all(self) -> None:
        """Whatever this router does not need is for others, from now on."""
        self.leaves = True
        for link in list(self.app.backplane.links.values()):
            if link.held is not None or link.far:
                link.recalled = link.width
                self.give(link)

    def take(self, link: Link) -> int:
        """Take what nobody holds of this worker's. Returns how many slots."""
        app = self.app
        if self.leaves and not self._wants():
            return 0
        count = grants.take(link, app.core.epoch, now_ns())
        if count:
            link.asked_ns = 0
            link.owed = False
            if self.leaves:
                link.recalled = link.width
            has_room = link.room()
            if link.in_flight > 0 or link.revoked_words:
                # What lies on its deck may begin there, and what was taken back is to be met.
                link.send(records.pack(records.RELEASE, 0, records.NO_WORD, 0, _NONE))
                if not has_room:
                    # All its words are of what was taken back: nobody says when they are free.
                    app.look_soon()
        return count

    def granted(self, link: Link, record: records.Cursor) -> None:
        """Slots more than READY said: another router has let go of them."""
        app = self.app
        count = records.unpack_grant(record.payload())
        if link.held is not None:
            waits = self._wants() > 0
            # Of two generations on trial each router is to have slots of both, or it could not keep to the share.
            keeps = waits or (app.balancer.canary is not None and not self.leaves)
            if not keeps and (self.leaves or link.asked_ns):
                link.asked_ns = 0
                return  # for others: whoever waited for it here has been served
            if not self.take(link):
                self._in_vain(link, record.size)
                if waits:
                    self._ask_for(link, now_ns())  # another one was quicker, and is asked now
                return
            self.count_short()
            app.have_room(link)
            self.say()
            return
        if not 0 < count <= link.width - link.slots:
            link.unwanted(record.size)
            return
        link.slots += count
        asked, link.asked_ns = link.asked_ns, 0
        link.since_ns = now_ns()
        if self.leaves:
            link.recalled = link.width  # for others
        app.dispatch()
        if asked and not self._wants():
            # Whoever waited for it here has been served: it goes on to others.
            back = grants.give(link, app.core.epoch, count)
            if back:
                link.send(records.pack(records.RELEASE, 0, records.NO_WORD, 0, records.pack_slots(back)))
        self.give(link)
        self.count_short()

    def recalled(self, link: Link, record: records.Cursor) -> None:
        """Another router wants slots of this worker."""
        holds = link.slots if link.far else bool(link.held)
        count = records.unpack_grant(record.payload())
        if count:
            grants.recall(link, count, record.word, now_ns())
        if count and holds:
            self.give(link)
        else:
            self._in_vain(link, record.size)  # remembered all the same, should we be the next to have one

    def _in_vain(self, link: Link, size: int) -> None:
        """A word of another router's, passed on by a worker: what it was about is another's by now."""
        second = now_ns() // 1_000_000_000
        if second != self._vain_second:
            self._vain_second = second
            self._vain.clear()
        count = self._vain[link] = self._vain.get(link, 0) + 1
        if count > VAIN_PER_S or link.held is None:
            link.unwanted(size)
        else:
            link.backplane.unasked_total += 1

    def give(self, link: Link) -> None:
        """Let go of what others want and we do not need, or have had for long enough."""
        app = self.app
        if self.leaves:
            link.wanted_since_ns = 0  # the next router's clients do not wait for all of this one's queue
        since_ns = self._waits_since(link)
        now = now_ns()
        others_ns = 0 if self.leaves else self._others_wait(link, now)
        # What lies on its deck is begun before we hear that the slot was free: from the last request on there is nothing.
        soon_ns = now + app.pool.usual_ns
        link.owed = grants.may_give(link, since_ns, soon_ns, grants.SHARE_NS, others_ns)
        if link.owed and link.in_flight >= link.slots:
            app.take_back(link)
        if not grants.may_give(link, since_ns, now, grants.SHARE_NS, others_ns):
            return
        # One at a time while somebody waits here as well.
        count = grants.give(link, app.core.epoch, 1 if since_ns else link.recalled)
        if not count:
            return
        link.recalled = link.width if self.leaves else link.recalled - count
        link.owed = link.recalled > 0
        if not link.slots:
            app.pool.retire(link)
        link.send(records.pack(records.RELEASE, 0, records.NO_WORD, 0, records.pack_slots(count)))
        self.count_short()
        if self._wants():
            # Not taken back at once: whoever wants it comes first, and is asked for it then.
            self._ask_for(link, now_ns())

    def _waits_since(self, link: Link) -> int:
        """When the one came who has waited longest, in the queue or on this worker's deck; 0: nobody waits."""
        since_ns = self._queued_since()
        if link.in_flight > link.slots:
            for exchange in link.streams.values():
                if exchange.state == states.OFFERED:
                    submitted_ns = int(exchange.submitted * 1e9)
                    if not since_ns or submitted_ns < since_ns:
                        since_ns = submitted_ns
        return since_ns

    def _queued_since(self) -> int:
        """The same of those in the queue whom a slot would help: not of a path that has all that it may have (`bulkhead`)."""
        app = self.app
        oldest = app.queue.oldest()
        if app.careful:
            oldest, has_reserved = app.balancer.oldest_wanting()
            if has_reserved:
                return FIRST_NS
        return 0 if oldest is None else int(oldest.submitted * 1e9)

    def say(self) -> None:
        """The other routers see on the page since when somebody waits here."""
        app = self.app
        since_ns = self._queued_since()
        seat = app.core.seat
        for generation in app.generations.values():
            board = generation.board
            if seat < board.routers > 1:
                board.say_waits(seat, since_ns)

    def _others_wait(self, link: Link, now: int) -> int:
        """When the one came who has waited longest at any other router; 0: no page says that anybody waits."""
        board = link.board
        if board is None or link.held is None:
            return 0
        return board.others_wait(link.router_seat, now)

    def _wants(self) -> int:
        """How many wait here whom a slot would help."""
        app = self.app
        return app.balancer.wanting() if app.careful else len(app.queue)

    def idle_elsewhere(self) -> bool:
        """Another router holds a slot in which nothing runs, and lets go of it when it is asked."""
        for link in self.app.backplane.links.values():
            board, held = link.board, link.held
            if board is None or held is None or not link.accepting:
                continue
            for slot in {*range(link.width)}.difference(held):
                if not board.slot(link.seat, slot)[0]:
                    return True
        return False

    def count_short(self) -> None:
        """Whether some of our workers' slots are others'."""
        short = False
        for link in self.app.backplane.links.values():
            if (link.far or link.held is not None) and link.slots < link.width:
                short = True
        self.app.short = short

    def demand(self) -> None:
        """There is a queue: take slots that nobody holds any more, and ask for those that others do."""
        app = self.app
        if not self._wants():
            return
        self.say()
        now = now_ns()
        found = False
        for link in app.backplane.links.values():
            if not link.accepting or now - link.asked_ns < grants.ASK_AGAIN_NS:
                continue
            if link.far:
                if link.slots < link.width and app.far is not None and app.far.may_help():
                    self._ask_for(link, now)
                continue
            held = link.held
            if held is not None and len(held) < link.width:
                if self.take(link):
                    app.pool.became_idle(link)
                    found = True
                else:
                    self._ask_for(link, now)
        if found:
            self.count_short()
            app.dispatch()

    def ask(self, links: list[Link]) -> None:
        """Another router has all slots of these, and a request would have gone to one of them."""
        now = now_ns()
        for link in links:
            if link.held is not None and now - link.asked_ns >= grants.ASK_AGAIN_NS and not self.take(link):
                self._ask_for(link, now)

    def _ask_for(self, link: Link, now: int) -> None:
        """Say that we want slots of this worker that others hold."""
        link.asked_ns = now
        has = link.slots if link.far else link.own()
        wanted = records.pack_slots(min(link.width - has, max(1, self._wants())))
        age = grants.age_of(self._queued_since() or now, now)
        link.send(records.pack(records.DEMAND, 0, age, 0, wanted))
