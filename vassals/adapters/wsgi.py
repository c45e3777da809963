"""WSGI 1.0.1 (PEP 3333): one call of `Wsgi.run` for each exchange. docs/specs/wsgi.md goes through it clause by clause.

The adapter owns the environ, ``start_response`` and the app's iterable: what is asked of the app, what it may
do, and what becomes of its errors. Bytes go out through the exchange (`vassals.adapters.answer`), whose
credit it never sees.

Two paths. A list or tuple that is whole and small is one record, which is nearly every response of most apps.
Everything else goes out piece by piece as the app yields it, since PEP 3333 forbids holding a piece back
while the app makes the next, and is ended only after ``close()``, which is app code too: the end frees the
slot.
"""

import contextlib
import os
import stat
import traceback
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, TextIO

from emperor.protocol.environ import code_of, count_of, response_head
from emperor.protocol.environ import environ as read_packet
from emperor.protocol.records import BODY_LIMIT
from vassals.adapters.answer import Answer

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
_App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_HEAD_LIMIT: Final = 65535
_ERROR_BODY: Final = b"Internal Server Error\n"
_ERROR_HEAD: Final = b"500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % len(
    _ERROR_BODY
)


class AppError(Exception):
    """The app broke a rule of PEP 3333. ``str()`` says which, for the app's author."""


class FileWrapper:
    """``wsgi.file_wrapper``: a file, from where it stands, as an iterable of blocks.

    The length of the response is the app's to say: that of a file with a descriptor may be the length of something else
    (GzipFile has the descriptor of what it unpacks).
    """

    def __init__(self, filelike: Any, block_size: int = BODY_LIMIT) -> None:
        self.filelike = filelike
        # The size is a suggestion (PEP 3333). A regular file loses nothing by larger blocks, each of which is a record;
        # whatever else it is may be slow to fill one.
        self._block_size = max(block_size, BODY_LIMIT) if _is_regular(filelike) else block_size
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self._block_size):
            yield block


def _is_regular(filelike: Any) -> bool:
    try:
        return stat.S_ISREG(os.fstat(filelike.fileno()).st_mode)
    except Exception:  # no descriptor, or a method of the app's that fails in a way of its own
        return False


class Response:
    """The response of one request: what ``start_response`` was told, and how far its body is.

    ``head`` is None until the app has said; ``started`` is True once it is on its way and cannot be changed.
    ``length`` is the declared Content-Length or −1, ``cut_bytes`` what the app made beyond it; ``bare`` means that no
    body byte may be sent (HEAD, 204, 304).
    """

    __slots__ = ("_exchange", "_is_head", "_sent_bytes", "bare", "cut_bytes", "head", "length", "started")

    def __init__(self, exchange: Answer) -> None:
        self._exchange = exchange
        self._is_head = False
        self._sent_bytes = 0
        self.head: bytes | None = None
        self.length = -1
        self.cut_bytes = 0
        self.started = False
        self.bare = False

    def expect_head_only(self) -> None:
        """The request is a HEAD."""
        self._is_head = self.bare = True

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: _ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's. Raises TypeError or ValueError naming what cannot be sent; with ``exc_info`` after the
        head has gone, raises that exception again."""
        if exc_info is not None:
            try:
                if self.started:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.head is not None:
            raise AppError("start_response was called a second time without exc_info")
        if type(headers) is not list:
            headers = list(headers)
        head = response_head(status, headers)
        if len(head) > _HEAD_LIMIT - 64:
            raise ValueError(
                f"the response head is {len(head)} bytes; at most {_HEAD_LIMIT - 64} can be sent"
            )
        self.length = self._look_through(headers)
        # RFC 9110, 6.4.1: no 204 or 304 has content; a 1xx is no response of an app's.
        code = code_of(status)
        self.bare = self._is_head or code == 204 or code == 304
        self.head = head
        return self.write

    def _look_through(self, headers: list[tuple[str, str]]) -> int:
        """The declared length, or −1. Raises ValueError for a header that is not the app's to set."""
        length = -1
        for name, value in headers:
            size = len(name)
            if size == 14:
                if name.lower() == "content-length":
                    count = count_of(value) if length == -1 and type(value) is str else -1
                    length = count if count >= 0 else _declared(value, length)
            # A bit for each length that a name in _HOP_BY_HOP has.
            elif size < 20 and 0xF0584 >> size & 1 and name.lower() in _HOP_BY_HOP:
                raise ValueError(
                    f"the response header {name!r} is hop-by-hop: it is the server's to say (PEP 3333, RFC 9110, 7.6.1)"
                )
        return length

    def write(self, piece: bytes) -> None:
        """Sends ``piece``, after the head if that has not gone. Bytes beyond the declared length are cut."""
        if type(piece) is not bytes:
            piece = _as_bytes(piece)
        if not piece:
            # Nothing to send, which is how else a worker of one request at a time hears that the client has gone.
            self._exchange.look()
            return
        if self.head is None:
            raise AppError("body bytes came before start_response was called")
        if self.bare:
            piece = b""
        elif self.length >= 0:
            left = self.length - self._sent_bytes
            if len(piece) > left:
                self.cut_bytes += len(piece) - left
                piece = piece[:left]
        self._sent_bytes += len(piece)
        if self.started:
            if piece:
                self._exchange.send(piece)
        else:
            self.started = True
            self._exchange.start(self.head, piece)

    def wants_more(self) -> bool:
        """False: further pieces would not be sent, so the app need not make them. Until the head has gone one may still be
        what it goes with."""
        if self._exchange.gone:
            return False
        return not self.started or (not self.bare and (self.length < 0 or self._sent_bytes < self.length))

    def whole(self, body: bytes) -> str:
        """The response is this ``body`` and nothing was sent before. Returns what is wrong with it, or
        nothing."""
        head = self.head
        size = len(body)
        if head is None:
            raise AppError("the app returned without calling start_response")
        if self.bare:
            body = b""
        elif self.length < 0:
            head += b"Content-Length: %d\r\n" % size
        elif size != self.length:
            if size < self.length:
                return self._short(size)
            self.cut_bytes = size - self.length
            body = body[: self.length]
        # Before the call: one that is cut short by an exception (a timeout of the app's) has sent the head.
        self.started = True
        self._exchange.finish(head, body)
        return self._long()

    def only(self, body: bytes) -> None:
        """The app says that this is the one piece there is: its length is the response's."""
        if self.head is not None and not self.started and self.length < 0 and not self.bare:
            self.length = len(body)
            self.head += b"Content-Length: %d\r\n" % self.length
        self.write(body)

    def flush_head(self) -> None:
        """The app has yielded its last piece: a head that waited for the first one goes now, if somebody waits for it."""
        if self._exchange.gone:
            return
        if self.head is None:
            raise AppError("the app returned without calling start_response")
        if not self.started:
            self.started = True
            self._exchange.start(self.head, b"")

    def done(self) -> str:
        """The app has closed its iterable: ends the response. Returns what is wrong with it, or nothing."""
        if self._exchange.gone:
            self._exchange.abort(self._exchange.gone)
        elif not self.bare and self._sent_bytes < self.length:
            return self._short(self._sent_bytes)
        else:
            self._exchange.end()
            return self._long()
        return ""

    def _long(self) -> str:
        if not self.cut_bytes:
            return ""
        return f"the app sent {self.cut_bytes} bytes of body beyond its Content-Length of {self.length}: they were cut"

    def _short(self, size: int) -> str:
        reason = f"the app sent {size} bytes of body, but declared a Content-Length of {self.length}"
        self._exchange.abort(reason)
        return reason


class Wsgi:
    """Runs one WSGI app; several threads may `run` it at a time."""

    def __init__(
        self,
        app: _App,
        errors: TextIO,
        *,
        multithread: bool = False,
        multiprocess: bool = False,
        file_wrapper: bool = True,
        raised: Callable[[BaseException], None] | None = None,
    ) -> None:
        """``raised`` is told of each error that the app lets out, but those of a client that has gone."""
        self._app = app
        self._raised = raised
        self._errors = errors
        self._constants: dict[str, Any] = {
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": errors,
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }
        if file_wrapper:
            self._constants["wsgi.file_wrapper"] = FileWrapper

    def run(self, exchange: Answer) -> str:
        """Answers one request and ends its exchange. Raises nothing.

        Returns a reason to leave when the app, or its iterable's ``close()``, raised SystemExit, else nothing.
        """
        response = Response(exchange)
        environ: dict[str, Any] = {}
        leave = ""
        try:
            environ, offset = read_packet(exchange.payload, self._constants)
            environ["wsgi.input"] = exchange.body(offset)
            if environ.get("REQUEST_METHOD") == "HEAD":
                response.expect_head_only()
            result = self._app(environ, response.start_response)
            if (type(result) is list or type(result) is tuple) and not response.started:
                body = result[0] if len(result) == 1 else b"".join(result)
                if type(body) is not bytes:
                    body = _as_bytes(body)
                wrong = response.whole(body)
            else:
                try:
                    self._stream(response, result)
                finally:
                    leave = self._close(environ, result)
                wrong = response.done()
            if wrong:
                self._complain(environ, wrong)
        except BaseException as error:
            return self._failed(environ, exchange, response, error) or leave
        return leave

    def _stream(self, response: Response, result: Any) -> None:
        if type(result) is bytes:
            # Not PEP 3333's, whose pieces would be its numbers; uWSGI takes it, and so do we.
            response.only(result)
        elif _is_one(result):
            for piece in result:
                response.only(piece if type(piece) is bytes else _as_bytes(piece))
                break
        else:
            if result is None:
                raise AppError("the app returned None; WSGI wants an iterable of bytes")
            for piece in result:
                response.write(piece)
                if not response.wants_more():
                    break
        response.flush_head()

    def _close(self, environ: dict[str, Any], result: Any) -> str:
        """Calls the iterable's ``close()``, if it has one. Returns a reason to leave when that raised SystemExit."""
        try:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            # The client has, or is getting, all that the app made; cutting it off would help nobody.
            self._complain(environ, f"close() of the response: {_traceback(error)}")
            if self._raised is not None:
                self._raised(error)
            return _reason_to_leave(error)
        return ""

    def _failed(
        self, environ: dict[str, Any], exchange: Answer, response: Response, error: BaseException
    ) -> str:
        if exchange.gone and isinstance(error, OSError):
            self._complain(environ, f"{type(error).__name__}: {error}")
        else:
            self._complain(environ, _traceback(error))
            if self._raised is not None:
                self._raised(error)
        if response.started:
            name = type(error).__name__
            exchange.abort(exchange.gone or f"the app raised {name} in the middle of its response")
        else:
            exchange.finish(_ERROR_HEAD, b"" if environ.get("REQUEST_METHOD") == "HEAD" else _ERROR_BODY)
        return _reason_to_leave(error)

    def _complain(self, environ: dict[str, Any], text: str) -> None:
        target = environ.get("REQUEST_URI") or environ.get("PATH_INFO") or "?"
        with contextlib.suppress(Exception):
            self._errors.write(f"{environ.get('REQUEST_METHOD', '?')} {target}: {text.rstrip()}\n")
            self._errors.flush()


def _is_one(result: Any) -> bool:
    """Whether ``len()`` says that the iterable has one piece, which PEP 3333 lets a server rely on."""
    try:
        return hasattr(type(result), "__len__") and len(result) == 1
    except Exception:  # an app's own: what it cannot tell is not known
        return False


# RFC 9110, 7.6.1, and wsgiref.util.is_hop_by_hop.
_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    )
)


def _declared(value: str, earlier: int) -> int:
    value = value.strip(" \t")
    if not (value.isascii() and value.isdigit()):
        raise ValueError(f"Content-Length is {value!r}; a number of bytes expected")
    length = int(value)
    if earlier not in (-1, length):
        raise ValueError(f"Content-Length is given twice, as {earlier} and as {length}")
    return length


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise AppError(f"the app yielded {type(piece).__name__}; WSGI wants bytes")


def _reason_to_leave(error: BaseException) -> str:
    return f"the app raised SystemExit({error.code!r})" if isinstance(error, SystemExit) else ""


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # MemoryError again, or an exception whose str() raises
        return type(error).__name__
