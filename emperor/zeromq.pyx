# cython: language_level=3, boundscheck=False, wraparound=False
"""The few calls of libzmq that are made for every message, and those that a worker makes to have a socket.

pyzmq makes the router's contexts and sockets, sets their options and closes them. Its ``send``, ``recv`` and ``get`` let go of the
interpreter's lock, make an object per frame and say "nothing there" by an exception, which costs more than the message; a
`Wire` calls the same functions of the same library without any of this. None of its calls waits, so none lets go of the lock.

A worker has one socket, and what pyzmq keeps beside it (sets of weak references, enums for each option, attributes that are
options) costs each of them some 400 KB of pages that it would otherwise share with the spawner: hence `Context` and `Socket`.

The functions are those of zmq.h (API of libzmq 4.2 and later), found in the library that pyzmq itself runs on.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uintptr_t
from posix.dlfcn cimport RTLD_LAZY, dlerror, dlopen, dlsym

import os
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

cdef extern from *:
    """
    typedef struct { _Alignas(void *) unsigned char _[64]; } message_t;
    """
    ctypedef struct message_t:
        pass

ctypedef int (*message_function)(message_t *) noexcept
ctypedef int (*receive_function)(message_t *, void *, int) noexcept
ctypedef int (*send_function)(void *, const void *, size_t, int) noexcept nogil
ctypedef void *(*data_function)(message_t *) noexcept
ctypedef size_t (*size_function)(const message_t *) noexcept
ctypedef int (*more_function)(const message_t *) noexcept
ctypedef int (*option_function)(void *, int, void *, size_t *) noexcept
ctypedef const char *(*text_function)(int) noexcept
ctypedef void *(*new_function)() noexcept
ctypedef void *(*socket_function)(void *, int) noexcept
ctypedef int (*end_function)(void *) noexcept nogil
ctypedef int (*set_function)(void *, int, const void *, size_t) noexcept
ctypedef int (*connect_function)(void *, const char *) noexcept
ctypedef int (*monitor_function)(void *, const char *, int) noexcept

# The numbers of zmq.h that a worker needs.
POLLIN = 1
POLLOUT = 2
PAIR = 0
DEALER = 5
ROUTING_ID = 5
LINGER = 17
RECONNECT_IVL = 18
SNDHWM = 23
RCVHWM = 24
IMMEDIATE = 39
CURVE_PUBLICKEY = 48
CURVE_SECRETKEY = 49
CURVE_SERVERKEY = 50
HANDSHAKE_IVL = 66
HEARTBEAT_IVL = 75
HEARTBEAT_TTL = 76
HEARTBEAT_TIMEOUT = 77
EVENT_CLOSED = 0x0080
EVENT_DISCONNECTED = 0x0200
EVENT_HANDSHAKE_FAILED_NO_DETAIL = 0x0800
EVENT_HANDSHAKE_FAILED_PROTOCOL = 0x2000
EVENT_HANDSHAKE_FAILED_AUTH = 0x4000

cdef enum:
    DONTWAIT = 1
    SNDMORE = 2
    OPTION_FD = 14
    OPTION_EVENTS = 15
    OPTION_LINGER = 17


class SocketError(OSError):
    """What libzmq refused, and why."""


def pyzmq_module():
    """The file of pyzmq's compiled module, found without running pyzmq: what it imports costs more than what is used of it."""
    spec = find_spec("zmq")
    for directory in () if spec is None else spec.submodule_search_locations or ():
        for suffix in EXTENSION_SUFFIXES:
            path = os.path.join(directory, "backend", "cython", "_zmq" + suffix)
            if os.path.exists(path):
                return path
    raise ImportError(
        f"pyzmq's compiled module is not in {'sys.path' if spec is None else spec.origin}; "
        "install pyzmq 26 or newer for CPython, from a wheel or built with its own libzmq"
    )


cdef void *find(void *library, bytes name) except NULL:
    cdef void *found = dlsym(library, PyBytes_AS_STRING(name))
    if found == NULL:
        raise ImportError(
            f"{name.decode()} is not in the libzmq of pyzmq ({module}); "
            "install pyzmq 26 or newer for CPython, from a wheel or built with its own libzmq"
        )
    return found


cdef str module = pyzmq_module()
cdef void *library = dlopen(module.encode(), RTLD_LAZY)
if library == NULL:
    raise ImportError(f"pyzmq's own module cannot be opened: {dlerror().decode()}")
cdef message_function message_init = <message_function> find(library, b"zmq_msg_init")
cdef message_function message_close = <message_function> find(library, b"zmq_msg_close")
cdef receive_function message_receive = <receive_function> find(library, b"zmq_msg_recv")
cdef data_function message_data = <data_function> find(library, b"zmq_msg_data")
cdef size_function message_size = <size_function> find(library, b"zmq_msg_size")
cdef more_function message_more = <more_function> find(library, b"zmq_msg_more")
cdef send_function socket_send = <send_function> find(library, b"zmq_send")
cdef option_function socket_option = <option_function> find(library, b"zmq_getsockopt")
cdef text_function error_text = <text_function> find(library, b"zmq_strerror")
cdef new_function context_new = <new_function> find(library, b"zmq_ctx_new")
cdef end_function context_end = <end_function> find(library, b"zmq_ctx_term")
cdef socket_function socket_new = <socket_function> find(library, b"zmq_socket")
cdef set_function socket_set = <set_function> find(library, b"zmq_setsockopt")
cdef connect_function socket_connect = <connect_function> find(library, b"zmq_connect")
cdef monitor_function socket_monitor = <monitor_function> find(library, b"zmq_socket_monitor")
cdef end_function socket_close = <end_function> find(library, b"zmq_close")


cdef failure(int number):
    return SocketError(number, error_text(number).decode())


cdef int send_bytes(void *handle, const char *at, size_t size) noexcept nogil:
    """Send one frame without waiting, from any thread that the socket is for now. Returns as `Wire.send`."""
    while socket_send(handle, at, size, DONTWAIT) < 0:
        if errno != EINTR:
            return errno
    return 0


cdef class Wire:
    """The hot calls of one open socket (pyzmq's, or a `Socket`), for the thread that owns it. The owner drops it before it closes the socket.

    ``more`` is true while the message that was received last has further frames.
    """

    def __init__(self, socket):
        self.handle = <void *> <uintptr_t> socket.underlying
        self.socket = socket
        self.more = False

    cpdef bytes receive(self):
        """The next frame, or None when there is none. Raises SocketError."""
        cdef message_t message
        cdef bytes frame
        message_init(&message)
        while message_receive(&message, self.handle, DONTWAIT) < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                self.more = False
                return None
            raise failure(errno)
        try:
            frame = PyBytes_FromStringAndSize(<char *> message_data(&message), <Py_ssize_t> message_size(&message))
            self.more = message_more(&message)
        finally:
            message_close(&message)
        return frame

    cpdef int send(self, bytes frame, bint more=False) except -1:
        """Send one frame without waiting. Returns 0, or the errno that says why it was not sent (EAGAIN, EHOSTUNREACH)."""
        while socket_send(
            self.handle, PyBytes_AS_STRING(frame), <size_t> PyBytes_GET_SIZE(frame), DONTWAIT | (SNDMORE if more else 0)
        ) < 0:
            if errno != EINTR:
                return errno
        return 0

    cpdef int events(self) except -1:
        """POLLIN and POLLOUT as they are now. Raises SocketError."""
        cdef int now = 0
        cdef size_t size = sizeof(now)
        while socket_option(self.handle, OPTION_EVENTS, &now, &size) < 0:
            if errno != EINTR:
                raise failure(errno)
        return now


cdef class Context:
    """What sockets are made in. Nothing ends by being collected, since a child that the app forks collects it too: whoever made
    it calls `destroy`, or ends the process."""

    def __init__(self):
        self.handle = context_new()
        if self.handle == NULL:
            raise failure(errno)
        self.sockets = []

    cpdef Socket socket(self, int kind):
        """A new one of a type such as DEALER. Raises SocketError."""
        cdef Socket made = Socket.__new__(Socket)
        made.handle = socket_new(self.handle, kind)
        if made.handle == NULL:
            raise failure(errno)
        self.sockets.append(made)
        made.context = self
        return made

    cpdef destroy(self):
        """Close every socket at once, whatever they have not sent, and end."""
        cdef Socket socket
        cdef void *handle = self.handle
        for socket in list(self.sockets):
            socket.close()
        self.handle = NULL
        if handle != NULL:
            with nogil:
                while context_end(handle) < 0 and errno == EINTR:
                    pass


cdef class Socket:
    """One socket of a `Context`, for the thread that owns it. Raises SocketError for whatever libzmq refuses; a closed one
    refuses everything."""

    @property
    def underlying(self):
        """Its address in libzmq."""
        return <uintptr_t> self.handle

    cpdef set(self, int option, value):
        """Set an option whose value is an int or bytes."""
        cdef int number
        cdef bytes text
        if isinstance(value, bytes):
            text = value
            self.check(socket_set(self.handle, option, PyBytes_AS_STRING(text), <size_t> PyBytes_GET_SIZE(text)))
        else:
            number = value
            self.check(socket_set(self.handle, option, &number, sizeof(number)))

    cdef int get(self, int option) except? -1:
        cdef int value = 0
        cdef size_t size = sizeof(value)
        while socket_option(self.handle, option, &value, &size) < 0:
            if errno != EINTR:
                self.check(-1)
        return value

    cpdef int events(self) except? -1:
        """POLLIN and POLLOUT as they are now."""
        return self.get(OPTION_EVENTS)

    cpdef int fd(self) except? -1:
        """What is readable when `events` may have changed."""
        return self.get(OPTION_FD)

    cpdef connect(self, str endpoint):
        """Begin to connect."""
        cdef bytes text = endpoint.encode()
        self.check(socket_connect(self.handle, PyBytes_AS_STRING(text)))

    cpdef Socket watch(self, int events, int kind):
        """A socket of `kind` (PAIR) that is readable once one of `events` has happened to this one."""
        cdef str endpoint = f"inproc://monitor-{self.fd()}"
        cdef bytes text = endpoint.encode()
        self.check(socket_monitor(self.handle, PyBytes_AS_STRING(text), events))
        cdef Socket monitor = self.context.socket(kind)
        monitor.connect(endpoint)
        return monitor

    cpdef unwatch(self):
        """Nobody wants to know any more."""
        if self.handle != NULL:
            socket_monitor(self.handle, NULL, 0)

    cpdef close(self):
        """Close it at once, whatever it has not sent."""
        cdef int linger = 0
        cdef void *handle = self.handle
        self.handle = NULL
        if handle != NULL:
            socket_set(handle, OPTION_LINGER, &linger, sizeof(linger))
            self.context.sockets.remove(self)
            with nogil:
                socket_close(handle)

    cdef int check(self, int result) except -1:
        if result < 0:
            raise failure(errno)
        return result
