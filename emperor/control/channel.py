"""One connection of the control plane: length-prefixed JSON messages, with descriptors, over a unix stream
socket.

Owns its socket, which it makes non-blocking, and the descriptors that wait in its two queues. It has no
loop and no clock of its own, so that the emperor, a gateway (which must stay tiny), the router's asyncio
loop and the blocking CLI share one implementation: the owner watches `fileno()` for reading, and for
writing while `wants_write` is true.

The wire form is `docs/specs/control.md`: a u32 big-endian length, then that many bytes of JSON. Descriptors
travel with the first byte of the message that needs them, whose `fds` key says how many. A stream socket
never joins two writes that both carry descriptors into one read, so one queue of received descriptors,
taken from in order, pairs them with their messages.

A peer that does not read must never hold up its sender: nothing here blocks except the `*_wait` verbs and
`request`, and what may be lost (log lines) goes through `send_droppable`, which says no rather than grow.
"""

from __future__ import annotations

import array
import base64
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

MAX_MESSAGE = 4 * 1024 * 1024
"""The longest JSON text of one message, bytes."""

MAX_FDS = 200
"""Descriptors one message can carry. The kernel's own bound is 253 (SCM_MAX_FD)."""

DROPPABLE_BOUND = 1024 * 1024
"""Above this many queued bytes `send_droppable` drops."""

QUEUE_BOUND = 64 * 1024 * 1024
"""Above this many queued bytes the peer counts as gone: it has stopped reading."""

_LENGTH = struct.Struct("!I")
_READ_BYTES = 64 * 1024
_READ_BUDGET = 64  # reads in one `receive`, so that a flooding peer gets one turn like any other
_KERNEL_MAX_FDS = 253
_ANCILLARY_BYTES = socket.CMSG_SPACE(_KERNEL_MAX_FDS * array.array("i").itemsize)

Message = dict[str, Any]


class ChannelClosed(Exception):
    """The connection is over; the text says why. Close the channel; whatever was queued is lost."""


class ControlError(Exception):
    """The peer answered a request with `ok: false`. `reason` is its text: what, where, why, next step."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class AskAgain(ControlError):
    """It was refused for no reason of its own: the peer is becoming another version, and the same question will do."""


class Channel:
    """One control connection. Owns the (non-blocking) socket; fits any loop.

    `on_wants_write`, when set, is called each time the queue of outgoing messages turns from empty to not
    empty, so that a loop need not ask before each poll.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._out: deque[tuple[memoryview, tuple[int, ...], Callable[[int], None]]] = deque()
        self._queued_bytes = 0
        self._in = bytearray()
        self._in_fds: deque[int] = deque()
        self._whole: deque[tuple[Message, list[int]]] = deque()
        self._over: str | None = None  # why nothing more can be read or written
        self._closed = False
        self._next_id = 0
        self.on_wants_write: Callable[[], None] | None = None

    @classmethod
    def connect(cls, path: str) -> Channel:
        """Connect to the unix socket at `path`. Raises OSError (with the path in `filename`)."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            error.filename = path
            raise
        return cls(sock)

    @classmethod
    def resume(cls, document: Message) -> Channel:
        """The connection that the program before us in this process had, from what its `hand_over` gave. Raises KeyError,
        ValueError, OSError."""
        channel = cls(socket.socket(fileno=document["fd"]))
        channel._in += base64.b64decode(document["in"])
        channel._split()
        return channel

    def hand_over(self) -> Message | None:
        """All there is to this connection, for another program in this process: its descriptor and what has arrived and was
        not taken. None while something is half done, or at its end: then it cannot go on elsewhere."""
        if self._over is not None or self._out or self._in_fds or any(fds for _, fds in self._whole):
            return None
        rest = b"".join(_frame(message) for message, _ in self._whole) + self._in
        return {"fd": self._sock.fileno(), "in": base64.b64encode(rest).decode()}

    def fileno(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._sock.fileno()

    def peer(self) -> tuple[int, int, int]:
        """(pid, uid, gid) of the peer, by SO_PEERCRED: of whoever called connect() or listen()."""
        size = struct.calcsize("3i")
        pid, uid, gid = struct.unpack(
            "3i", self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return pid, uid, gid

    # -- sending -----------------------------------------------------------------------------------------

    @property
    def wants_write(self) -> bool:
        """True while something is queued that the socket did not take."""
        return bool(self._out) and self._over is None

    @property
    def queued_bytes(self) -> int:
        """Bytes queued and not yet in the socket."""
        return self._queued_bytes

    def send(
        self, message: Message, fds: Sequence[int] = (), close: Callable[[int], None] = os.close
    ) -> None:
        """Queue `message` and write what the socket takes now. Never blocks.

        `fds` are duplicated: the caller keeps, and closes, its own. `close` ends the duplicates, for files whose end may take
        long. `message` is not changed; its `fds` key
        is set on the wire. A peer that has gone shows at the next `receive`, not here. Raises ValueError
        for a message that is too long or carries more than `MAX_FDS`, ChannelClosed after `close`.
        """
        if self._closed:
            raise ChannelClosed("this control connection was closed on our side")
        if len(fds) > MAX_FDS:
            raise ValueError(
                f"{len(fds)} descriptors in one control message; at most {MAX_FDS}: send several messages"
            )
        frame = _frame({**message, "fds": len(fds)} if fds else message)
        if self._over is not None:
            return
        if self._queued_bytes + len(frame) > QUEUE_BOUND:
            self._end(f"the peer stopped reading: {self._queued_bytes} bytes are queued for it")
            return
        own: list[int] = []
        try:
            for fd in fds:
                own.append(os.dup(fd))
        except OSError:
            for fd in own:
                close(fd)
            raise
        self._push(frame, tuple(own), close)

    def send_droppable(self, message: Message) -> bool:
        """Queue a message that may be lost. False: it was dropped (queue over its bound, or the peer gone);
        count it."""
        if self._closed or self._over is not None or self._queued_bytes > DROPPABLE_BOUND:
            return False
        frame = _frame(message)
        if self._queued_bytes + len(frame) > DROPPABLE_BOUND:
            return False
        self._push(frame, ())
        return True

    def flush(self) -> bool:
        """Write what the socket takes now. True when nothing is left (also when the peer has gone)."""
        while self._out and self._over is None:
            view, fds, close = self._out[0]
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg([view], ancillary, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return False
            except OSError as error:
                # What the peer wrote before it went may still be unread, so only writing ends here.
                self._discard_out()
                if not isinstance(error, (BrokenPipeError, ConnectionResetError)):
                    self._end(f"writing to the control connection failed: {error}")
                return True
            for fd in fds:
                close(fd)
            self._queued_bytes -= sent
            if sent == len(view):
                self._out.popleft()
            else:
                self._out[0] = (view[sent:], (), close)
        return True

    def flush_wait(self, timeout_s: float) -> bool:
        """Write until nothing is left or the time is up. True when nothing is left."""
        deadline = time.monotonic() + timeout_s
        while not self.flush():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._poll(select.POLLOUT, left)
        return True

    # -- receiving ---------------------------------------------------------------------------------------

    def receive(self) -> list[tuple[Message, list[int]]]:
        """All whole messages that can be read now, each with its descriptors (close-on-exec; the caller
        closes them).

        Raises ChannelClosed at end of file, at a reset and for bytes that are no message, once every whole
        message that came before has been returned.
        """
        self._read_nowait()
        if not self._whole and self._over is not None:
            raise ChannelClosed(self._over)
        messages = list(self._whole)
        self._whole.clear()
        return messages

    def receive_wait(self, timeout_s: float | None = None) -> tuple[Message, list[int]]:
        """The next message, blocking up to `timeout_s` (None: for ever). Raises TimeoutError,
        ChannelClosed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if self._whole:
                return self._whole.popleft()
            self._wait_readable(deadline, "no message came in time on the control connection")

    def request(
        self, message: Message, fds: Sequence[int] = (), timeout_s: float = 10.0
    ) -> tuple[Message, list[int]]:
        """Send `message` with a new `id` and block for its answer; what else arrives meanwhile stays for
        `receive`.

        Returns the answer and its descriptors. Raises ControlError (`ok: false`), TimeoutError,
        ChannelClosed.
        """
        self._next_id += 1
        wanted = self._next_id
        deadline = time.monotonic() + timeout_s
        self.send({**message, "id": wanted}, fds)
        seen = 0
        while True:
            while seen < len(self._whole):
                answer, answer_fds = self._whole[seen]
                if answer.get("re") != wanted:
                    seen += 1
                    continue
                del self._whole[seen]
                if answer.get("ok") is not True:
                    _close_all(answer_fds)
                    kind = AskAgain if answer.get("again") is True else ControlError
                    raise kind(str(answer.get("error", "the peer refused without a reason")))
                return answer, answer_fds
            self._wait_readable(deadline, f"no answer to {message.get('op')!r} within {timeout_s:g} s")

    # -- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket and every descriptor still queued in either direction. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._over = self._over or "this control connection was closed on our side"
        self._discard_out()
        _close_all(self._in_fds)
        self._in_fds.clear()
        for _, fds in self._whole:
            _close_all(fds)
        self._whole.clear()
        self._sock.close()

    def forget(self) -> None:
        """Let go of the socket and all descriptors without closing them: for a fork that has closed, or
        reuses, their numbers. Nothing is done to the connection, which stays the other process's."""
        self._closed = True
        self._over = "this control connection belongs to the process that we were forked from"
        self._out.clear()
        self._in_fds.clear()
        self._whole.clear()
        self._sock.detach()

    # -- inside ------------------------------------------------------------------------------------------

    def _push(self, frame: bytes, fds: tuple[int, ...], close: Callable[[int], None] = os.close) -> None:
        was_empty = not self._out
        self._out.append((memoryview(frame), fds, close))
        self._queued_bytes += len(frame)
        if was_empty and not self.flush() and self.on_wants_write is not None:
            self.on_wants_write()

    def _discard_out(self) -> None:
        for _, fds, close in self._out:
            for fd in fds:
                close(fd)
        self._out.clear()
        self._queued_bytes = 0

    def _end(self, why: str) -> None:
        self._over = why
        self._discard_out()
        # So that a poll reports the descriptor again and the owner meets ChannelClosed, whoever ended it.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def _read_nowait(self) -> None:
        for _ in range(_READ_BUDGET):
            if self._over is not None:
                return
            try:
                chunk, ancillary, flags, _ = self._sock.recvmsg(
                    _READ_BYTES, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError as error:
                self._end(f"the control connection broke: {error}")
                return
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                    self._in_fds.extend(numbers)
            if flags & socket.MSG_CTRUNC:
                self._end(
                    "the kernel dropped descriptors sent over the control connection: "
                    "this process is at its descriptor limit; raise RLIMIT_NOFILE"
                )
                return
            if not chunk:
                self._end(
                    "the peer closed the control connection"
                    + (" in the middle of a message" if self._in else "")
                )
                return
            self._in += chunk
            self._split()

    def _split(self) -> None:
        at = 0
        while len(self._in) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._in, at)
            if length > MAX_MESSAGE:
                self._end(f"the peer announced a control message of {length} bytes; at most {MAX_MESSAGE}")
                break
            if len(self._in) - at - _LENGTH.size < length:
                break
            at += _LENGTH.size
            try:
                message = json.loads(self._in[at : at + length])
            except (ValueError, RecursionError) as error:
                self._end(f"the peer sent a control message that is no JSON: {error}")
                break
            at += length
            if not isinstance(message, dict):
                self._end("the peer sent a control message that is no JSON object")
                break
            count = message.get("fds", 0)
            if type(count) is not int or not 0 <= count <= len(self._in_fds):
                self._end(
                    f"a control message names {count!r} descriptors and {len(self._in_fds)} came with it"
                )
                break
            self._whole.append((message, [self._in_fds.popleft() for _ in range(count)]))
        del self._in[:at]

    def _wait_readable(self, deadline: float | None, late: str) -> None:
        """Block until something was read; flush meanwhile. Raises TimeoutError(late), ChannelClosed."""
        before = len(self._whole)
        while True:
            self._read_nowait()
            if len(self._whole) > before:
                return
            if self._over is not None:
                raise ChannelClosed(self._over)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError(late)
            self.flush()
            self._poll(select.POLLIN | (select.POLLOUT if self.wants_write else 0), left)

    def _poll(self, events: int, timeout_s: float | None) -> None:
        poller = select.poll()
        poller.register(self._sock.fileno(), events)
        poller.poll(None if timeout_s is None else max(0, int(timeout_s * 1000) + 1))


def _frame(message: Message) -> bytes:
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode()
    if len(text) > MAX_MESSAGE:
        raise ValueError(
            f"a control message {message.get('op')!r} of {len(text)} bytes; at most {MAX_MESSAGE}"
        )
    return _LENGTH.pack(len(text)) + text


def _close_all(fds: Sequence[int] | deque[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
