# cython: language_level=3
"""Whether this process is the worker, or a child that the app has forked and that came back from the app: no worker.

Asked several times a request: a look at a flag that a fork sets, since to ask for the pid is a system call.
"""

cdef extern from *:
    """
    #include <pthread.h>
    static int forked;
    static void note_fork(void) { forked = 1; }
    static void listen_to_forks(void) { pthread_atfork(NULL, NULL, note_fork); }
    """
    int forked
    void listen_to_forks()

listen_to_forks()


def settle_here():
    """This process is the worker: the children that it forks from now on are not."""
    global forked
    forked = 0


cpdef bint forked_off() noexcept:
    """This is a child that the worker has forked."""
    return forked
