"""What of uWSGI's `uwsgi` and `uwsgidecorators` an app needs to start and serve unchanged (docs/decisions/0031).

What is here does what it does under uWSGI. What is not says so when it is asked for, and what to use in its place: nothing
pretends to have done what it has not.
"""

import sys
import traceback
from typing import TYPE_CHECKING

from vassals.loaders import target
from vassals.worker.crew import HookError

if TYPE_CHECKING:
    from vassals.worker.orders import Orders

PAGE = "docs/guides/uwsgi-module.md"

TASKS = "a task queue (Celery, RQ, Dramatiq, huey)"
CLOCK = "a thread that a @postfork function starts (in each worker), or the machine's cron"
APART = "a process of its own (a service, or a thread that a @postfork function starts)"

INSTEAD = (
    ("add_timer add_rb_timer add_cron", "timers", CLOCK),
    ("register_signal signal signal_wait signal_registered signal_received", "signals", CLOCK),
    ("add_file_monitor", "file monitors", "touch-reload or fs-reload in the vassal's file"),
    (
        "spool send_to_spooler set_spooler_frequency spooler_jobs spooler_pid spooler_pids spooler_get_task",
        "spooler",
        TASKS,
    ),
    ("mule_msg mule_get_msg farm_msg farm_get_msg in_farm", "mules", APART),
    ("register_rpc rpc rpc_list", "remote calls", "an HTTP request"),
    (
        "cache_get cache_set cache_update cache_del cache_exists cache_clear cache_inc cache_dec cache_mul cache_div "
        "cache_num cache_keys",
        "cache",
        "Redis or memcached, with the framework's own backend",
    ),
    ("queue_get queue_set queue_push queue_pull queue_pop queue_slot queue_last", "queues", TASKS),
    (
        "sharedarea_read sharedarea_write sharedarea_inc64 sharedarea_rlock sharedarea_wlock sharedarea_unlock",
        "shared areas",
        "multiprocessing.shared_memory",
    ),
    (
        "metric_get metric_set metric_inc metric_dec metric_mul metric_div",
        "metrics of apps",
        "prometheus_client in its multiprocess mode",
    ),
    (
        "websocket_handshake websocket_recv websocket_recv_nb websocket_send websocket_send_binary",
        "WebSockets for WSGI",
        "an ASGI app",
    ),
    (
        "async_sleep async_connect suspend green_schedule wait_fd_read wait_fd_write",
        "async of its own",
        "gevent = N in the vassal's file",
    ),
    ("sendfile offload", "offloading", "wsgi.file_wrapper, or X-Accel-Redirect for an nginx in front"),
    ("set_logvar get_logvar", "log variables", "a response header, which log-format can name as ${name}"),
    ("reload stop", "ending by its own hand", "emperor reload NAME, or touch-reload"),
)


class Unsupported(RuntimeError):
    """Something of uWSGI's that there is not. The text says what, and what to use in its place."""


def why_not(module: str, name: str) -> str:
    """That there is no such thing, and what to use."""
    for names, what, instead in INSTEAD:
        if name in names.split():
            return f"{module}.{name}: the emperor has no {what}: use {instead} ({PAGE})"
    return f"{module}.{name}: the emperor has nothing of that name ({PAGE})"


def after_fork(orders: "Orders") -> None:
    """The app is loaded, in a worker: call what it wants called then. Raises HookError."""
    uwsgi = sys.modules.get("uwsgi")
    hook = None if uwsgi is None else vars(uwsgi).get("post_fork_hook")
    if hook is None:
        return
    orders.tell("hook", reason="@postfork")
    try:
        hook()
    except BaseException as error:
        line = traceback.format_exception_only(error)[-1].strip()
        raise HookError(f"@postfork: {line}{target.place_of(error)}", traceback.format_exc()) from None
    finally:
        orders.tell("hook", reason="")
