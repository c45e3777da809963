"""Real processes on loopback: what the scenario tests are written in.

`Fleet` is one emperor in a directory of its own; `Orphans` keeps and ends what it leaves behind; `Census`
counts what it holds; `Flood` is the open-loop client; `http` speaks raw bytes; `Caller` asks who serves it.
Nothing sleeps and hopes: `wait_for` a condition.
"""

from .callers import Caller, Holding, Served, at_once
from .census import Census, take_census
from .fleet import Fleet
from .flood import Answer, Flood, Target
from .http import Connection, Response, accepts, fetch
from .network import Host, Network, NoNetwork
from .orphans import Orphans, reaped
from .ports import free_port
from .records import Begun, begun_requests
from .waiting import wait_for

__all__ = [
    "Answer",
    "Begun",
    "Caller",
    "Census",
    "Connection",
    "Fleet",
    "Flood",
    "Holding",
    "Host",
    "Network",
    "NoNetwork",
    "Orphans",
    "Response",
    "Served",
    "Target",
    "accepts",
    "at_once",
    "begun_requests",
    "fetch",
    "free_port",
    "reaped",
    "take_census",
    "wait_for",
]
