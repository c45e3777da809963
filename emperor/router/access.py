"""The access log of one vassal: one line for each request that it is to tell of, written by nobody who has better to do.

The event loop makes the line and puts it into a bounded store; a thread of the writer's own takes what has gathered, some
ten times a second, and writes it for as long as that takes (decision 0010). A disc or a reader that stalls costs lines,
which are counted, and never a request, not even another vassal's line. What was lost is said in the log as soon as it
flows again.
"""

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from emperor.config.accesslog import (
    FORWARDED,
    JSON_TEXT,
    JSON_VALUE,
    KINDS,
    LITERAL,
    PACKET,
    STDOUT,
    AccessLog,
)
from emperor.protocol import logline
from emperor.router.exchange import Exchange
from emperor.router.upstreams import Upstream

FLUSH_S: Final = 0.1
"""How long a line may wait for others, so that one write takes them all."""

STORE_BYTES: Final = 1 << 20
"""The most that waits to be written, for one writer."""

CLIENT_GONE: Final = 499
"""The status in the log of a request whose client went before it had an answer (nginx's number)."""

# Looked at for each piece of a line, and C integers in what is compiled.
_LITERAL: Final = LITERAL
_PACKET: Final = PACKET
_FORWARDED: Final = FORWARDED
_JSON_TEXT: Final = JSON_TEXT
_JSON_VALUE: Final = JSON_VALUE
_STATUS: Final = KINDS["status"]
_RSIZE: Final = KINDS["rsize"]
_HSIZE: Final = KINDS["hsize"]
_SIZE: Final = KINDS["size"]
_CL: Final = KINDS["cl"]
_MICROS: Final = KINDS["micros"]
_MSECS: Final = KINDS["msecs"]
_SECS: Final = KINDS["secs"]
_TMSECS: Final = KINDS["tmsecs"]
_TMICROS: Final = KINDS["tmicros"]
_TIME: Final = KINDS["time"]
_LTIME: Final = KINDS["ltime"]
_FTIME: Final = KINDS["ftime"]
_CTIME: Final = KINDS["ctime"]
_EPOCH: Final = KINDS["epoch"]
_PID: Final = KINDS["pid"]
_WID: Final = KINDS["wid"]
_SWITCHES: Final = KINDS["switches"]
_VARS: Final = KINDS["vars"]
_PKTSIZE: Final = KINDS["pktsize"]
_HEADERS: Final = KINDS["headers"]
_WERR: Final = KINDS["werr"]
_RERR: Final = KINDS["rerr"]
_IOERR: Final = KINDS["ioerr"]
_ISOTIME: Final = KINDS["isotime"]
_ID: Final = KINDS["id"]
_VASSAL: Final = KINDS["vassal"]
_GEN: Final = KINDS["gen"]
_UPSTREAM: Final = KINDS["upstream"]


class Writer:
    """Lines on their way to one descriptor. Everything but `_write_on` belongs to the loop's thread.

    Without a descriptor lines wait, up to the bound: it may be on its way. `dropped` counts lines that went nowhere.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        note: bytes,
        on_full: Callable[[int], None],
        bound: int = STORE_BYTES,
    ) -> None:
        self.dropped = 0
        self.written = 0
        self.size = -1
        """Bytes in the regular file; −1: it is none."""
        self.limit = 0
        """`on_full(limit)` is called once, when the file has grown to this size; 0: never."""
        self.waiting = 0  # bytes, those that the thread has now among them
        self._loop = loop
        self._note = note  # with one %d
        self._on_full = on_full
        self._bound = bound
        self._lines: list[bytes] = []
        self._told = 0
        self._gap = 0  # before which of `_lines` those are missing that were dropped and not told of
        self._torn = False
        self._note_end = 0  # in what the thread has: where our note ends, and of how many lost lines it tells
        self._note_lost = 0
        self._mended = False  # what the thread has begins with the end of a torn line
        self._fd = -1
        self._whole_lines = False
        self._busy = False
        self._busy_fd = -1  # what the thread writes to, or soon will
        self._planned: asyncio.TimerHandle | None = None
        self._jobs: queue.SimpleQueue[tuple[int, bytes | None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = False

    def put(self, line: bytes) -> bool:
        """Take a line; False: it was dropped."""
        waiting = self.waiting + len(line)
        if waiting > self._bound or self._closing:
            if self.dropped == self._told:
                self._gap = len(self._lines)
            self.dropped += 1
            return False
        self.waiting = waiting
        self._lines.append(line)
        if self._planned is None and not self._busy and self._fd >= 0:
            self._planned = self._loop.call_later(FLUSH_S, self._flush)
        return True

    def use(self, fd: int, size: int) -> None:
        """Write to `fd` from now on, which is ours to close; what has been handed to the thread still goes to the old one.
        `size`: bytes that are in it, −1 for what is no regular file.

        A tenant's file may lie on a file system of the tenant's: whatever is asked of it may take for ever, or fail. So the
        loop asks nothing of it.
        """
        if self._closing:
            let_go(fd)
            return
        if self._fd >= 0:
            if self._jobs.qsize() and not (self._busy and self._busy_fd == self._fd):
                # The thread is stuck, and has nothing to do with this one: they are not to gather behind it.
                let_go(self._fd)
            else:
                self._put((self._fd, None))
        self._fd = fd
        self._whole_lines = size < 0
        self.size = size
        if not self._busy and self._lines and self._planned is None:
            self._planned = self._loop.call_later(0, self._flush)

    def _flush(self) -> None:
        self._planned = None
        if self._busy or not self._lines or self._fd < 0:
            return
        lines, self._lines = self._lines, []
        lost = self.dropped - self._told
        self._note_lost = lost
        self._mended = self._torn
        if lost:
            self._told = self.dropped
            note = self._note % lost
            self._note_end = self._torn + len(note) + sum([len(line) for line in lines[: self._gap]])
            lines.insert(self._gap, note)
            self.waiting += len(note)
        if self._torn:
            self._torn = False
            lines.insert(0, b"\n")
            self.waiting += 1
        self._busy = True
        self._busy_fd = self._fd
        self._put((self._fd, b"".join(lines)))

    def _put(self, job: tuple[int, bytes | None] | None) -> None:
        """For the thread: a descriptor and what to write to it, or None to close it; None alone: that was all."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_on, name="access log", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _write_on(self) -> None:
        while (job := self._jobs.get()) is not None:
            fd, block = job
            if block is None:
                _close(fd)
                continue
            done, _failure = logline.write_lines(fd, block, self._whole_lines)
            # What others write to the file, another router among them, is in it as well.
            size = -1 if self._whole_lines else _size(fd)
            # At the router's end the loop may be closed: nobody counts any more.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._written, block, done, size)
        # Last of all, and here: to close a file may take as long as to write it.
        if self._fd >= 0:
            _close(self._fd)

    def _written(self, block: bytes, done: int, size: int) -> None:
        if self._closing:
            return
        self._busy = False
        self.waiting -= len(block)
        self.written += done
        if self.size >= 0:
            self.size = size if size >= 0 and self._busy_fd == self._fd else self.size + done
            if 0 < self.limit <= self.size:
                self.limit, limit = 0, self.limit
                self._on_full(limit)
        if done < len(block):
            # Only lines that were handed in are lost lines: not our note, nor what ends a torn one.
            self.dropped += block.count(b"\n", done)
            if self._mended and not done:
                self.dropped -= 1
            if self._note_lost and done < self._note_end:
                self.dropped -= 1
                self._told -= self._note_lost  # nobody has read it
            self._torn = self._mended if not done else block[done - 1] != 10
            self._gap = 0  # they came before all that wait
        if self._lines:
            self._planned = self._loop.call_later(FLUSH_S, self._flush)

    def close(self) -> None:
        """Take no more lines; what waits is still written, by the thread, however long that takes it."""
        if self._closing:
            return
        self._closing = True
        if self._planned is not None:
            self._planned.cancel()
            self._planned = None
        if self._fd >= 0 and self._lines:
            self._put((self._fd, b"".join(self._lines)))
            self._lines = []
        self._put(None)

    def join(self, timeout_s: float) -> None:
        """After `close`: wait until all has been written, but not for longer. A stuck thread is left behind."""
        if self._thread is not None:
            self._thread.join(timeout_s)


def let_go(fd: int) -> None:
    """Close a tenant's file without waiting for it."""
    threading.Thread(target=_close, args=(fd,), name="close", daemon=True).start()


def _size(fd: int) -> int:
    """Bytes in this file; −1: it cannot be told."""
    try:
        return os.fstat(fd).st_size
    except OSError:
        return -1


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # it is closed all the same
        os.close(fd)


class Access:
    """What one vassal's requests are told by, and to which writer."""

    def __init__(self, name: str, log: AccessLog, writer: Writer) -> None:
        self.log = log
        self.writer = writer
        self.lines = 0
        self.dropped = 0
        self._dropped_before = writer.dropped
        self._name = name.encode()
        self._pieces = list(log.pieces())
        self._everything = log.everything
        self._client_errors = log.client_errors
        self._server_errors = log.server_errors
        self._slow_s = log.slow_ms / 1000
        self._big = log.big_bytes
        self._zero = log.zero
        self._second = -1
        self._times: dict[int, bytes] = {}

    def note(
        self, exchange: Exchange, status: int, head_bytes: int, body_bytes: int, fields: int, cut: bool
    ) -> None:
        """A request is over. `cut`: the client did not get all of its answer."""
        took = time.monotonic() - exchange.arrived
        if not self._everything and not self._matches(status, took, body_bytes):
            return
        out = self._render(exchange, status, head_bytes, body_bytes, fields, cut, took)
        self.lines += 1
        if not self.writer.put(out):
            self.dropped += 1

    def _matches(self, status: int, took: float, body_bytes: int) -> bool:
        return (
            (self._client_errors and 400 <= status < 500)
            or (self._server_errors and status >= 500)
            or (0 < self._slow_s <= took)
            or (0 < self._big <= body_bytes)
            or (self._zero and not body_bytes)
        )

    def _render(
        self,
        exchange: Exchange,
        status: int,
        head_bytes: int,
        body_bytes: int,
        fields: int,
        cut: bool,
        took: float,
    ) -> bytes:
        packet = exchange.head.packet
        now = time.time()
        out = []
        for kind, text, how in self._pieces:
            if kind == _LITERAL:
                out.append(text)
                continue
            value: bytes | None
            if kind == _PACKET:
                value = logline.variable(packet, text)
                if value is not None and not value:
                    value = None
            elif kind == _FORWARDED:
                value = logline.variable(packet, text) or logline.variable(packet, b"REMOTE_ADDR") or None
            elif kind == _STATUS:
                value = b"%d" % status
            elif kind == _RSIZE:
                value = b"%d" % body_bytes
            elif kind == _HSIZE:
                value = b"%d" % head_bytes
            elif kind == _SIZE:
                value = b"%d" % (head_bytes + body_bytes)
            elif kind == _MICROS:
                value = b"%d" % int(took * 1e6)
            elif kind == _MSECS:
                value = b"%d" % int(took * 1e3)
            elif kind == _SECS:
                value = b"%.6f" % took
            elif kind == _ID:
                value = exchange.request_id or None
            elif kind == _VASSAL:
                value = self._name
            elif kind == _UPSTREAM:
                value = exchange.worker.spelled if isinstance(exchange.worker, Upstream) else None
            elif kind in (_LTIME, _FTIME, _CTIME, _ISOTIME):
                value = self._stamp(kind, now - took)
            else:
                value = b"%d" % self._rare(kind, exchange, took, now, fields, cut, head_bytes)
                if kind == _CL and value == b"-1":
                    value = None
            if how == _JSON_VALUE:
                if value is None:
                    out.append(b"null")
                elif kind in (_PACKET, _FORWARDED, _ID, _VASSAL, _UPSTREAM, _LTIME, _FTIME, _CTIME, _ISOTIME):
                    out.append(b'"%b"' % logline.escaped(value, True))
                else:
                    out.append(value)
            elif value is None:
                out.append(b"-")
            else:
                out.append(logline.escaped(value, how == _JSON_TEXT))
        return b"".join(out)

    def _rare(
        self,
        kind: int,
        exchange: Exchange,
        took: float,
        now: float,
        fields: int,
        cut: bool,
        head_bytes: int,
    ) -> int:
        worker: Any = exchange.worker
        if kind == _WID:
            return 0 if worker is None else int(worker.seat) + 1
        if kind == _PID:
            return 0 if worker is None else int(worker.pid)
        if kind == _GEN:
            return 0 if worker is None else int(worker.generation)
        if kind == _CL:
            return exchange.head.content_length
        if kind == _TIME:
            return int(now - took)
        if kind == _TMSECS:
            return int((now - took) * 1e3)
        if kind == _TMICROS:
            return int((now - took) * 1e6)
        if kind == _EPOCH:
            return int(now)
        if kind == _VARS:
            return 2 * logline.variables(exchange.head.packet)
        if kind == _PKTSIZE:
            return len(exchange.head.packet) - 4
        if kind == _HEADERS:
            return fields
        if kind == _SWITCHES:
            return 1
        if kind == _WERR:
            return int(cut and head_bytes > 0)
        if kind == _RERR:
            return int(cut and head_bytes == 0)
        if kind == _IOERR:
            return int(cut)
        return 0

    def _stamp(self, kind: int, when: float) -> bytes:
        second = int(when)
        if second != self._second:
            self._second = second
            self._times = {}
        text = self._times.get(kind)
        if text is None:
            if kind == _ISOTIME:
                made = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            elif kind == _CTIME:
                made = time.ctime(second)
            else:
                made = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(second))
            text = self._times[kind] = made.encode()
        if kind == _ISOTIME:
            return b"%b.%03dZ" % (text, int((when - second) * 1000))
        return text

    @property
    def lost(self) -> int:
        """Lines that went nowhere: no room, and, if the writer is ours alone, those whose writing failed."""
        return self.dropped if self.log.place == STDOUT else self.writer.dropped - self._dropped_before


def note_of(log: AccessLog) -> bytes:
    """What a log says of lines that it lost: a line with one %d for their number."""
    if log.is_json:
        return b'{"dropped":%d}\n'
    return b"# %d lines of this log were dropped here: writing was too slow, or failed\n"
