# cython: language_level=3, boundscheck=False, wraparound=False
"""The few calls of libzmq that are made for every message.

pyzmq makes the contexts and sockets, sets their options and closes them. Its ``send``, ``recv`` and ``get`` let go of the
interpreter's lock, make an object per frame and say "nothing there" by an exception, which costs more than the message; a
`Wire` calls the same functions of the same library without any of this. None of its calls waits, so none lets go of the lock.

The functions are those of zmq.h (API of libzmq 4.2 and later), found in the library that pyzmq itself runs on.
"""
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uintptr_t
from posix.dlfcn cimport RTLD_LAZY, dlopen, dlsym

import zmq
import zmq.backend.cython._zmq as backend

cdef extern from *:
    """
    typedef struct { _Alignas(void *) unsigned char _[64]; } message_t;
    """
    ctypedef struct message_t:
        pass

ctypedef int (*message_function)(message_t *) noexcept
ctypedef int (*receive_function)(message_t *, void *, int) noexcept
ctypedef int (*send_function)(void *, const void *, size_t, int) noexcept
ctypedef void *(*data_function)(message_t *) noexcept
ctypedef size_t (*size_function)(const message_t *) noexcept
ctypedef int (*more_function)(const message_t *) noexcept
ctypedef int (*option_function)(void *, int, void *, size_t *) noexcept

cdef enum:
    DONTWAIT = 1
    SNDMORE = 2
    OPTION_EVENTS = 15


cdef void *find(void *library, bytes name) except NULL:
    cdef void *found = dlsym(library, PyBytes_AS_STRING(name))
    if found == NULL:
        raise ImportError(
            f"{name.decode()} is not in the libzmq of pyzmq {zmq.__version__} ({backend.__file__}); "
            "install pyzmq 26 or newer for CPython, from a wheel or built with its own libzmq"
        )
    return found


cdef void *library = dlopen(backend.__file__.encode(), RTLD_LAZY)
if library == NULL:
    raise ImportError(f"pyzmq's own module cannot be opened: {backend.__file__}")
cdef message_function message_init = <message_function> find(library, b"zmq_msg_init")
cdef message_function message_close = <message_function> find(library, b"zmq_msg_close")
cdef receive_function message_receive = <receive_function> find(library, b"zmq_msg_recv")
cdef data_function message_data = <data_function> find(library, b"zmq_msg_data")
cdef size_function message_size = <size_function> find(library, b"zmq_msg_size")
cdef more_function message_more = <more_function> find(library, b"zmq_msg_more")
cdef send_function socket_send = <send_function> find(library, b"zmq_send")
cdef option_function socket_option = <option_function> find(library, b"zmq_getsockopt")


cdef class Wire:
    """The hot calls of one open pyzmq socket, for the thread that owns it. The owner drops it before it closes the socket.

    ``more`` is true while the message that was received last has further frames.
    """

    def __init__(self, socket):
        self.handle = <void *> <uintptr_t> socket.underlying
        self.socket = socket
        self.more = False

    cpdef bytes receive(self):
        """The next frame, or None when there is none. Raises zmq.ZMQError."""
        cdef message_t message
        cdef bytes frame
        message_init(&message)
        while message_receive(&message, self.handle, DONTWAIT) < 0:
            if errno == EINTR:
                continue
            if errno == EAGAIN:
                self.more = False
                return None
            raise zmq.ZMQError(errno)
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
        """POLLIN and POLLOUT as they are now. Raises zmq.ZMQError."""
        cdef int now = 0
        cdef size_t size = sizeof(now)
        while socket_option(self.handle, OPTION_EVENTS, &now, &size) < 0:
            if errno != EINTR:
                raise zmq.ZMQError(errno)
        return now
