"""The statistics document: what is in it, value by value, and how it is put together.

`FIELDS` describes every value; docs/reference/stats.md is generated from it, and a test holds real
documents against it. Numbers are integers, times unix seconds unless the sentence says otherwise. No
request variable, header or path of a client is ever in it.

The emperor knows of itself and of the vassals; each router answers for its own part. A router that does not
answer in time is in the document with what the emperor knows of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from emperor import __version__
from emperor.stats.answering import answering, workers_elsewhere
from emperor.supervisor.fleet import Generation, Phase, Vassal


class Field(NamedTuple):
    """One value: its place (`[]` any element, `*` any key), its type, and what it says."""

    place: str
    type: str
    says: str


FIELDS: tuple[Field, ...] = (
    Field("version", "string", "the version of emperor-vassals"),
    Field("emperor.pid", "integer", "the emperor's process"),
    Field("emperor.uid", "integer", "who it runs as"),
    Field("emperor.directory", "string", "the vassal directory; several places are separated by a comma"),
    Field("emperor.run_dir", "string", "the run directory: sockets and state"),
    Field("emperor.started", "integer", "when this emperor started"),
    Field(
        "emperor.since",
        "integer",
        "since when it is of this version: its start, or the last `emperor upgrade`",
    ),
    Field("emperor.upgrades", "integer", "how often it has become another version since it started"),
    Field(
        "emperor.state",
        "string",
        "`starting` (the vassals of the start are on their way), `running`, `stopping`",
    ),
    Field("emperor.adopted", "integer", "1 if it took over what a former emperor had left running, else 0"),
    Field(
        "emperor.log_dropped", "integer", "log lines that were dropped because the log's reader was too slow"
    ),
    Field("emperor.vassal_log_dropped", "integer", "log lines of vassals that their gateways dropped"),
    Field(
        "emperor.trouble",
        "string",
        "why a directory cannot be looked at, or the run directory not be made again, now; empty: all is well",
    ),
    Field("emperor.listeners[].kind", "string", "`http`, `uwsgi` or `subscription`"),
    Field("emperor.listeners[].address", "string", "HOST:PORT or unix:PATH"),
    Field(
        "emperor.omitted", "string", "guards left out by EMPEROR_TEST_OMIT; always empty but in our own tests"
    ),
    Field("spawner.pid", "integer", "the spawner's process; 0: there is none at the moment"),
    Field("spawner.restarts", "integer", "how often this emperor has replaced it"),
    Field(
        "spawner.last_exit",
        "string",
        "how the one before it ended, or why none could be started; empty: none has ended under this emperor "
        "(how one ended that a former emperor had started, nobody can know)",
    ),
    Field(
        "routers[].seat",
        "integer",
        "the router's seat. The first lets clients in, and so do as many others as the setting `routers` says; those after "
        "them finish what they have, or are about to take the place of one. Each counts by itself",
    ),
    Field(
        "routers[].serves",
        "integer",
        "1: it lets clients in, or will when it is up; 0: it finishes what it has, or is about to take the place of one",
    ),
    Field("routers[].pid", "integer", "its process; 0: there is none at the moment"),
    Field(
        "routers[].state", "string", "`starting` (its table is not whole yet), `running`, `draining`, `down`"
    ),
    Field("routers[].restarts", "integer", "how often this emperor has replaced it"),
    Field(
        "routers[].last_exit",
        "string",
        "how the one before it ended, or why none could be started; empty: none has ended under this emperor",
    ),
    Field(
        "routers[].silent", "integer", "1 if it did not answer in time: what only it knows is then missing"
    ),
    Field("routers[].started", "integer", "when it started"),
    Field("routers[].connections", "integer", "client connections open now"),
    Field(
        "routers[].dripping",
        "integer",
        "of these, those that send a head or body a few bytes at a time; they are read apart from the others",
    ),
    Field("routers[].accepted", "integer", "client connections accepted since it started"),
    Field(
        "routers[].errors.*",
        "integer",
        "answers of its own (400, 404, 431 …) that belong to no vassal, by status",
    ),
    Field("routers[].log_dropped", "integer", "log lines it could not pass on"),
    Field(
        "routers[].limits.*.value",
        "integer",
        "what this setting is: bytes, a number, or milliseconds (`*`: each setting of the router that is a number)",
    ),
    Field("routers[].limits.*.hits", "integer", "how often a client was refused or cut off because of it"),
    Field(
        "routers[].stdout_log_dropped",
        "integer",
        "lines of access logs on the standard output that were dropped: its reader was too slow, or is gone",
    ),
    Field("routers[].caps.limit", "integer", "the most client connections (setting `max-connections`)"),
    Field(
        "routers[].caps.limit_per_address",
        "integer",
        "the most of one address (setting `max-connections-per-address`)",
    ),
    Field(
        "routers[].caps.refused",
        "integer",
        "connections answered 503 since it started: the cap of all was reached",
    ),
    Field(
        "routers[].caps.refused_per_address",
        "integer",
        "connections answered 429: the cap of their address was reached",
    ),
    Field(
        "routers[].caps.reset",
        "integer",
        "connections reset without an answer: far beyond a cap, or beyond it with TLS or a PROXY header still to come",
    ),
    Field(
        "routers[].responses_ahead",
        "integer",
        "the most bytes of responses that may be in memory now for clients that do not keep up: 320 KiB each, and what "
        "`response-buffer` gave",
    ),
    Field(
        "routers[].responses_ahead_limit",
        "integer",
        "up to which `response-buffer` is given (setting `response-memory`)",
    ),
    Field("routers[].remote.address", "string", "where workers of other hosts come in (setting `backplane`)"),
    Field("routers[].remote.keys", "integer", "keys that may serve something (`emperor keys allow`)"),
    Field("routers[].remote.links", "integer", "workers of other hosts that are connected"),
    Field("routers[].remote.admitted", "integer", "how many ever were"),
    Field(
        "routers[].remote.lost",
        "integer",
        "how many were lost: their connection, or what they sent was wrong",
    ),
    Field(
        "routers[].remote.refused",
        "integer",
        "how often one was not: without CURVE, with an unknown key, for an app that its key may not serve",
    ),
    Field(
        "routers[].remote.refusals.*",
        "integer",
        "the same by cause: `curve` (none is spoken, or for another key of ours), `crowd` (512 are not done with that), `key` "
        "(it may serve nothing here, or is banned), `hello` (another app than its key may serve, another version, no such "
        "vassal …)",
    ),
    Field(
        "routers[].remote.handshakes", "integer", "connections there that have not proved who they are, now"
    ),
    Field(
        "routers[].remote.hung_up", "integer", "of those refused: they were more than may be so at once (512)"
    ),
    Field(
        "routers[].remote.banned", "integer", "keys that are let in no more for a while, since they flooded"
    ),
    Field("routers[].remote.remade", "integer", "how often all had to connect anew, since one went on"),
    Field(
        "routers[].bodies.memory_bytes",
        "integer",
        "bytes of request bodies in memory, read ahead of a worker, now",
    ),
    Field(
        "routers[].bodies.memory_limit", "integer", "from which on they go to disk (setting `body-memory`)"
    ),
    Field("routers[].bodies.disk_bytes", "integer", "bytes of request bodies on disk now"),
    Field("routers[].names.names", "integer", "names of upstreams that are looked up again and again"),
    Field("routers[].names.unknown", "integer", "of these, never found yet"),
    Field("routers[].names.lookups", "integer", "lookups since the router started"),
    Field("routers[].names.failures", "integer", "of these, without an address; what was known stays"),
    Field("routers[].names.under_way", "integer", "lookups that are under way, each in a thread of its own"),
    Field("routers[].names.under_way_limit", "integer", "how many may be; of one vassal, 4"),
    Field("routers[].names.waiting", "integer", "names that are due and wait for a thread"),
    Field("routers[].names.oldest_s", "integer", "seconds that the oldest of these lookups has taken so far"),
    Field("routers[].bodies.disk_limit", "integer", "the most of them (setting `spool-limit`)"),
    Field("routers[].bodies.files", "integer", "request bodies that are on disk now"),
    Field("routers[].bodies.files_limit", "integer", "the most of them: an eighth of its descriptors"),
    Field(
        "routers[].bodies.carried_bytes",
        "integer",
        "since it started: bytes that a thread took from fast clients straight to disk",
    ),
    Field(
        "routers[].bodies.refused",
        "integer",
        "request bodies that were answered 507 or 503 because there was no room for them",
    ),
    Field(
        "routers[].subscriptions.kept",
        "integer",
        "1: the emperor knows the nodes that are there now, for the router after this one",
    ),
    Field("routers[].subscriptions.taken", "integer", "subscription packets that counted"),
    Field(
        "routers[].subscriptions.refused.*",
        "integer",
        "those that did not, by cause: `malformed`, `oversized`, `sender`, `unsigned`, `key`, `signature`, `time`, `replayed`, "
        "`repeated`, `credentials`, `host`, `address`, `protocol`, `held` (a vassal has the host), `full`",
    ),
    Field("routers[].subscriptions.nodes[].host", "string", "whose requests it takes"),
    Field("routers[].subscriptions.nodes[].address", "string", "where"),
    Field(
        "routers[].subscriptions.nodes[].into",
        "string",
        "the vassal that it has joined; empty: nobody has this host",
    ),
    Field("routers[].subscriptions.nodes[].modifier1", "integer", "of its requests"),
    Field("routers[].subscriptions.nodes[].modifier2", "integer", "of its requests"),
    Field("routers[].subscriptions.nodes[].cores", "integer", "requests that it says it runs at once"),
    Field("routers[].subscriptions.nodes[].load", "integer", "the load that it says it has"),
    Field("routers[].subscriptions.nodes[].weight", "integer", "its share"),
    Field("routers[].subscriptions.nodes[].backup", "integer", "above 0: only when no other is left"),
    Field(
        "routers[].subscriptions.nodes[].sni_key",
        "string",
        "a key for TLS by its name, at the `https-socket` of the vassal that it has joined",
    ),
    Field("routers[].subscriptions.nodes[].sni_crt", "string", "the certificate"),
    Field("routers[].subscriptions.nodes[].sni_ca", "string", "of its clients; not used"),
    Field("routers[].subscriptions.nodes[].vassal", "string", "what it says it is"),
    Field("routers[].subscriptions.nodes[].signed", "integer", "1: what it says is signed"),
    Field("routers[].subscriptions.nodes[].sender", "string", "where its first packet came from"),
    Field("routers[].subscriptions.nodes[].pid", "integer", "of a sender by a unix socket; -1: not known"),
    Field("routers[].subscriptions.nodes[].uid", "integer", "of a sender by a unix socket; -1: not known"),
    Field("routers[].subscriptions.nodes[].gid", "integer", "of a sender by a unix socket; -1: not known"),
    Field("routers[].subscriptions.nodes[].age", "integer", "seconds since it subscribed"),
    Field("routers[].subscriptions.nodes[].silent", "integer", "seconds since it was heard last"),
    Field(
        "routers[].subscribed.*",
        "object",
        "the apps of hosts that no vassal has, by host; each as in `routers[].apps.*`",
    ),
    Field("routers[].listeners[].kind", "string", "`http`, `uwsgi` or `subscription`"),
    Field("routers[].listeners[].address", "string", "HOST:PORT or unix:PATH"),
    Field("routers[].listeners[].vassal", "string", "whose own it is; empty: all vassals share it"),
    Field("routers[].listeners[].bound", "string", "where it really listens, if the kernel chose the port"),
    Field("routers[].listeners[].tls", "integer", "1 if its clients speak TLS"),
    Field(
        "routers[].shares[].route",
        "string",
        "a domain that several vassals have (option `weight`); empty: the default",
    ),
    Field("routers[].shares[].by", "string", "what a client is known by (option `weight-by`)"),
    Field("routers[].shares[].members[].name", "string", "one of the vassals"),
    Field("routers[].shares[].members[].weight", "integer", "its weight"),
    Field("routers[].shares[].members[].percent", "integer", "of all weights"),
    Field(
        "routers[].shares[].members[].ready",
        "integer",
        "1 if it gets its part now; 0: it has nobody who serves, is paused, or its queue is full, and the others get it",
    ),
    Field("routers[].shares[].members[].chosen", "integer", "requests that it was chosen for"),
    Field(
        "routers[].shares[].members[].cookie",
        "string",
        "what the cookie `emperor-share` of its clients is; empty: they have none",
    ),
    Field(
        "routers[].apps.*.active", "integer or null", "the generation that new requests go to; null: none yet"
    ),
    Field(
        "routers[].apps.*.available",
        "integer",
        "1 if requests may wait for it; 0: they are answered 503 at once",
    ),
    Field(
        "routers[].apps.*.receiving",
        "integer",
        "requests whose bodies are being read before a worker is asked, now",
    ),
    Field("routers[].apps.*.spooled", "integer", "request bodies that went to disk since the router started"),
    Field("routers[].apps.*.spool_bytes", "integer", "bytes of its request bodies on disk now"),
    Field("routers[].apps.*.queued", "integer", "requests that wait for a free slot now"),
    Field("routers[].apps.*.queue_limit", "integer", "the most that may wait (option `queue`)"),
    Field("routers[].apps.*.running", "integer", "requests in workers' slots now"),
    Field("routers[].apps.*.on_deck", "integer", "requests offered to workers and not begun, now"),
    Field(
        "routers[].apps.*.deck_depth",
        "integer",
        "the most that may wait on the deck of one worker now, by what requests usually take",
    ),
    Field(
        "routers[].apps.*.service_us",
        "integer",
        "what a request usually takes in its slot, in microseconds, as the depth of decks goes by it: 31 to 16000",
    ),
    Field(
        "routers[].apps.*.requests",
        "integer",
        "requests taken in since the router started; not those that were refused at their head",
    ),
    Field("routers[].apps.*.responses.*", "integer", "responses of the app, by class (`2xx` …)"),
    Field(
        "routers[].apps.*.errors.*",
        "integer",
        "answers the router gave in its stead (408, 413, 502, 503, 504 …), by status",
    ),
    Field(
        "routers[].apps.*.rejected.*",
        "integer",
        "those of them that were told why, by the reason (`Unavailable-Reason`): `queue-full`, `queue-timeout`, `overload`, "
        "`rate`, `concurrency`, `not-ready`, `paused`, `gone`, `bodies`",
    ),
    Field("routers[].apps.*.balancing.policy", "string", "how a worker is chosen (option `balance`)"),
    Field(
        "routers[].apps.*.balancing.retries.*",
        "integer",
        "requests whose worker was lost or gave them back, by what became of them. Not begun, and given to another: "
        "`returned`, `unbegun`. Begun, and run `again`. Begun, and answered 502: `not_idempotent`, `no_body` (part of it had "
        "gone), `no_second` (it had been run again), `no_budget`. Part of the answer had gone: `answering`",
    ),
    Field(
        "routers[].apps.*.balancing.retries_left",
        "integer",
        "how many may be run again now: a fifth of the requests and ten a second, of the last ten seconds",
    ),
    Field(
        "routers[].apps.*.balancing.addresses",
        "integer",
        "addresses of clients whose requests a second are counted (option `limit-requests-per-address`)",
    ),
    Field("routers[].apps.*.balancing.addresses_limit", "integer", "the most of them that are remembered"),
    Field(
        "routers[].apps.*.balancing.addresses_forgotten",
        "integer",
        "those that were forgotten for others while they were counted still",
    ),
    Field(
        "routers[].apps.*.balancing.mean_us",
        "integer",
        "what a request takes in its slot, in microseconds, on average of the last ones that did not fail; 0: not known yet",
    ),
    Field(
        "routers[].apps.*.balancing.queue_limit_ms",
        "integer",
        "how long a request may wait in overload, in milliseconds, as it was last worked out by `queue-target` and what "
        "requests take; 0: not yet",
    ),
    Field(
        "routers[].apps.*.balancing.overloaded",
        "integer",
        "1 while more comes than can be served: the newest is served first, and what has waited for too long is turned away",
    ),
    Field("routers[].apps.*.balancing.overloads", "integer", "how often that has begun"),
    Field("routers[].apps.*.balancing.parts[].path", "string", "a path of `bulkhead` or `reserve`"),
    Field(
        "routers[].apps.*.balancing.parts[].limit",
        "integer",
        "slots that its requests may hold (option `bulkhead`); 0: all",
    ),
    Field(
        "routers[].apps.*.balancing.parts[].reserved",
        "integer",
        "slots that are kept for it (option `reserve`)",
    ),
    Field("routers[].apps.*.balancing.parts[].now", "integer", "its requests that workers have now"),
    Field("routers[].apps.*.balancing.parts[].queued", "integer", "those that wait"),
    Field(
        "routers[].apps.*.balancing.parts[].refused",
        "integer",
        "those that were answered 503: its queue was full",
    ),
    Field("routers[].apps.*.balancing.fresh", "integer", "workers that are spared now (option `slow-start`)"),
    Field(
        "routers[].apps.*.balancing.aside",
        "integer",
        "workers that get nothing now, since they fail faster than the others work",
    ),
    Field("routers[].apps.*.balancing.set_aside", "integer", "how often a worker was set aside"),
    Field(
        "routers[].apps.*.announced[].server",
        "string",
        "a subscription server that it is announced to (`subscribe-to`)",
    ),
    Field("routers[].apps.*.announced[].key", "string", "as what"),
    Field(
        "routers[].apps.*.announced[].address",
        "string",
        "where requests are taken; empty: it does not stand there now",
    ),
    Field("routers[].apps.*.announced[].signed", "integer", "1: it is signed"),
    Field("routers[].apps.*.announced[].sent", "integer", "datagrams sent"),
    Field("routers[].apps.*.announced[].error", "string", "why the last could not be sent"),
    Field("routers[].apps.*.websockets", "integer", "WebSockets that are open now; each has a slot"),
    Field("routers[].apps.*.websockets_opened", "integer", "those since the router started"),
    Field(
        "routers[].apps.*.limits.*.value",
        "integer",
        "what this option is (`*`: `body-limit`, `queue`, `queue-timeout`, `queue-target`, `request-timeout`, `harakiri`, "
        "`poison-deaths`, `limit-requests`, `limit-concurrency`, and these with `-per-address`): bytes, number, milliseconds "
        "or requests a minute",
    ),
    Field(
        "routers[].apps.*.limits.*.now",
        "integer",
        "what there is of it now: of `queue` the requests that wait, of `queue-timeout` and `queue-target` how long the oldest "
        "has waited, of `limit-requests` what of the burst is used up, of `limit-requests-per-address` the addresses, of "
        "`limit-concurrency` the requests in hand, with `-per-address` those of the one with the most; else 0",
    ),
    Field(
        "routers[].apps.*.limits.*.hits",
        "integer",
        "how often a request got no answer of the app because of it",
    ),
    Field(
        "routers[].apps.*.poison.found", "integer", "requests found to end workers (option `poison-deaths`)"
    ),
    Field("routers[].apps.*.poison.refused", "integer", "requests like them, answered 500 without a worker"),
    Field(
        "routers[].apps.*.poison.banned[].fingerprint", "string", "one that is refused, as the log names it"
    ),
    Field("routers[].apps.*.poison.banned[].seconds", "integer", "for how long; 0: the next one is tried"),
    Field(
        "routers[].apps.*.recovered",
        "integer",
        "responses of workers that died, read from the page: finished, and not yet arrived",
    ),
    Field("routers[].apps.*.requeued", "integer", "requests given back unbegun and queued again"),
    Field("routers[].apps.*.revoked", "integer", "offers taken back from a worker's deck"),
    Field("routers[].apps.*.cancelled", "integer", "requests whose client went away before the answer"),
    Field("routers[].apps.*.stale_records", "integer", "records about requests that are over, dropped"),
    Field(
        "routers[].apps.*.refused_hellos", "integer", "workers turned away: wrong token, uid, generation …"
    ),
    Field("routers[].apps.*.link_faults", "integer", "links ended because a worker broke the protocol"),
    Field("routers[].apps.*.unasked_messages", "integer", "messages that came before a HELLO, dropped"),
    Field("routers[].apps.*.floods", "integer", "how often its backplane was remade because it was flooded"),
    Field("routers[].apps.*.forwarded", "integer", "requests that are at upstreams now"),
    Field(
        "routers[].apps.*.upstreams[].address",
        "string",
        "a backend (option `upstream`); what follows is as this router sees it",
    ),
    Field("routers[].apps.*.upstreams[].ip", "string", "where its name leads; empty where it has none"),
    Field("routers[].apps.*.upstreams[].source", "string", "who has named it: `file`, or `subscription`"),
    Field(
        "routers[].apps.*.upstreams[].state",
        "string",
        "`in` (in service), `warming` (slow start), `ejected` (after failures in a row), `down` (its health check fails)",
    ),
    Field("routers[].apps.*.upstreams[].since_s", "integer", "seconds it is so, or in service"),
    Field(
        "routers[].apps.*.upstreams[].weight",
        "integer",
        "its share among the others: its cores where all have told of theirs and nobody has a weight",
    ),
    Field(
        "routers[].apps.*.upstreams[].cores",
        "integer",
        "how many requests it runs at once; 0: it has not told",
    ),
    Field(
        "routers[].apps.*.upstreams[].backup",
        "integer",
        "1 if it is chosen only while no other is in service",
    ),
    Field("routers[].apps.*.upstreams[].outstanding", "integer", "requests that are there now"),
    Field(
        "routers[].apps.*.upstreams[].max_connections",
        "integer",
        "how many may be (`max-connections=`); 0 is no limit",
    ),
    Field("routers[].apps.*.upstreams[].full", "integer", "how often it was passed over, as it had so many"),
    Field(
        "routers[].apps.*.upstreams[].idle_connections", "integer", "connections kept for the next requests"
    ),
    Field(
        "routers[].apps.*.upstreams[].reported", "integer", "the load that it tells of itself, in requests"
    ),
    Field("routers[].apps.*.upstreams[].penalty", "integer", "what its failures count for, in requests"),
    Field("routers[].apps.*.upstreams[].requests", "integer", "requests brought there since it is known"),
    Field("routers[].apps.*.upstreams[].errors", "integer", "of these, answered 500 or more by its app"),
    Field(
        "routers[].apps.*.upstreams[].failures",
        "integer",
        "of these, not answered at all, not in time, broken, or with 502, 503 or 504",
    ),
    Field(
        "routers[].apps.*.upstreams[].failures_in_a_row", "integer", "those since its last answer; 5 eject it"
    ),
    Field(
        "routers[].apps.*.upstreams[].failed_s",
        "integer",
        "seconds since the last of those; 0: there are none",
    ),
    Field(
        "routers[].apps.*.upstreams[].reached",
        "integer",
        "1 if they are fewer than 5, and since the last of them a connection that was tried has come about, or its health "
        "checks pass",
    ),
    Field("routers[].apps.*.upstreams[].ejections", "integer", "how often it was left out for failures"),
    Field(
        "routers[].apps.*.upstreams[].out_for_s",
        "integer",
        "`ejected`: seconds until it is tried again; else 0",
    ),
    Field(
        "routers[].apps.*.upstreams[].checks_failed",
        "integer",
        "health checks failed in a row; 3 take it out",
    ),
    Field("routers[].apps.*.upstreams[].last_failure", "string", "why its last failure was one"),
    Field(
        "routers[].apps.*.upstream_retries.*",
        "integer",
        "`unsent`: tries that never reached their upstream; `repeated`: requests sent a second time, to another; `stale`: to "
        "the same, as a kept connection had been closed; `nobody`: requests for which there was no upstream; `waited`: that "
        "had to wait again, as the others had no room. And those lost that were not sent again: `off` (`retries = false`), "
        "`nobody_else`, `no_second` (they had been), `no_budget`, `not_idempotent`, `no_body` (not in hand), `answering`",
    ),
    Field(
        "routers[].apps.*.upstream_retries_left",
        "integer",
        "how many may be sent a second time now: a fifth of the requests and ten a second, saved up for ten seconds",
    ),
    Field(
        "routers[].apps.*.mirrors[].to", "string", "a vassal that gets copies of its GETs (option `mirror`)"
    ),
    Field("routers[].apps.*.mirrors[].percent", "integer", "of so many in a hundred"),
    Field("routers[].apps.*.mirrors[].trouble", "string", "why it gets none; empty: it does"),
    Field(
        "routers[].apps.*.mirrors[].copied",
        "integer",
        "copies made; the other vassal counts them as its requests, too",
    ),
    Field("routers[].apps.*.mirrors[].open", "integer", "those that have not ended"),
    Field(
        "routers[].apps.*.mirrors[].answered", "integer", "those that were answered; the answers were dropped"
    ),
    Field("routers[].apps.*.mirrors[].failed", "integer", "those that were answered with 5xx, or not at all"),
    Field(
        "routers[].apps.*.mirrors[].shed",
        "integer",
        "requests that were not copied: the other vassal had no idle slot, or 64 copies were open",
    ),
    Field("routers[].apps.*.log_lines", "integer", "lines of its access log, since the router started"),
    Field(
        "routers[].apps.*.log_dropped",
        "integer",
        "those of them that were dropped: the file could not be opened, or not be written as fast",
    ),
    Field("routers[].apps.*.links[].seat", "integer", "the worker's seat"),
    Field("routers[].apps.*.links[].generation", "integer", "its generation"),
    Field("routers[].apps.*.links[].pid", "integer", "its process, as the kernel says"),
    Field("routers[].apps.*.links[].ready", "integer", "1 once it has said READY"),
    Field("routers[].apps.*.links[].accepting", "integer", "1 while new requests go to it"),
    Field(
        "routers[].apps.*.links[].slots",
        "integer",
        "slots that are this router's: all of them, where there is no other router",
    ),
    Field(
        "routers[].apps.*.links[].offered",
        "integer",
        "slots that it works with; those that it is spared for now are not among `slots`",
    ),
    Field(
        "routers[].apps.*.links[].fresh",
        "integer",
        "1 while it is chosen last: it has just come (option `slow-start`), or has failed",
    ),
    Field("routers[].apps.*.links[].aside", "integer", "1 while it gets nothing: it fails fast"),
    Field("routers[].apps.*.links[].free", "integer", "free slots"),
    Field("routers[].apps.*.links[].deck", "integer", "requests offered to it and not begun"),
    Field("routers[].apps.*.links[].requests", "integer", "requests sent to it"),
    Field(
        "routers[].apps.*.links[].bell",
        "integer",
        "1 while it and the router wake each other by bells, and small requests need no message",
    ),
    Field(
        "routers[].apps.*.links[].host",
        "string",
        "the address of the other host that it is on (its `generation` is -1 and its `pid` 0); empty: it is on this one",
    ),
    Field(
        "routers[].apps.*.links[].weight",
        "integer",
        "of such a worker: its host's weight, 1 to 100 (`router = … weight=N` there); 0: it is on this one",
    ),
    Field(
        "routers[].apps.*.links[].rtt_us",
        "integer",
        "of such a worker: how long a message takes there and back; 0: not known yet",
    ),
    Field(
        "routers[].apps.*.links[].left_alone_s",
        "integer",
        "of such a worker: for so many seconds its host gets nothing, since requests have failed there",
    ),
    Field(
        "vassals[].name", "string", "the file's name without its end (whole, if another file has that name)"
    ),
    Field("vassals[].path", "string", "the file"),
    Field(
        "vassals[].state",
        "string",
        "STARTING, READY, RELOADING, ROLLING, PROVING, BACKOFF, GIVEN_UP, REFUSED, DRAINING",
    ),
    Field("vassals[].generation", "integer", "the generation that serves, else the one to come; 0: none"),
    Field("vassals[].gateway", "object or null", "null: no gateway runs"),
    Field(
        "vassals[].traffic.requests", "integer", "requests that all routers there are have taken in for it"
    ),
    Field("vassals[].traffic.responses.*", "integer", "responses of the app, by class, of all routers"),
    Field("vassals[].traffic.errors.*", "integer", "answers that routers gave in its stead, by status"),
    Field("vassals[].traffic.queued", "integer", "requests that wait for a free slot now, in all routers"),
    Field("vassals[].traffic.running", "integer", "requests of all routers in workers' slots now"),
    Field(
        "vassals[].gateway.pid", "integer", "the process of that generation's gateway; 0: it is being spawned"
    ),
    Field("vassals[].gateway.adopted", "integer", "1 if a former emperor started it"),
    Field("vassals[].gateway.started", "integer", "when it was started"),
    Field("vassals[].since", "integer", "when it came into this state"),
    Field(
        "vassals[].answering",
        "string",
        "of one with upstreams: `all`, `some` or `none` of them answer, as far as requests and health checks have shown (the "
        "table of `emperor status` has READY, DEGRADED and UNREACHABLE for it); of one with `remote`: `all` or `none`, by "
        "whether a worker of another host is there; empty: it has workers of its own, or no router says",
    ),
    Field("vassals[].reason", "string", "why it is in this state, if that is not plain"),
    Field(
        "vassals[].problem", "string", "what is wrong with the last edit, while an older reading serves on"
    ),
    Field(
        "vassals[].pending",
        "string",
        "what its file has and is not in effect: an edit that waits for `emperor reload` (setting `auto-reload`), and "
        "whether it is valid; or the file, after `emperor rollback`. Empty: nothing",
    ),
    Field(
        "vassals[].paused",
        "string",
        "`refuse`: requests are answered 503, `hold`: they wait, both until `emperor resume`; else empty",
    ),
    Field(
        "vassals[].canary",
        "integer",
        "PROVING: so many in a hundred requests go to the new generation, the others to the one before it (option `canary`); "
        "0: all do",
    ),
    Field("vassals[].last_exit", "string", "how its last gateway to fail ended"),
    Field("vassals[].restarts", "integer", "starts after a death or a failure, under this emperor"),
    Field("vassals[].retry_in", "integer", "BACKOFF: seconds to the next start; else 0"),
    Field("vassals[].draining", "integer", "former generations that still finish requests"),
    Field("vassals[].uid", "integer or null", "who it runs as; null: as the emperor"),
    Field("vassals[].processes", "integer", "workers it asks for; 0: not known"),
    Field("vassals[].domains[]", "string", "a name it answers to"),
    Field("vassals[].default", "integer", "1 if it takes what no route matches"),
    Field("vassals[].listeners[].kind", "string", "`http` or `uwsgi`"),
    Field("vassals[].listeners[].address", "string", "as its file has it: HOST:PORT, unix:PATH or @NAME"),
    Field("vassals[].listeners[].bound", "string", "where it listens; empty while it does not"),
    Field("vassals[].listeners[].state", "string", "`opening`, `open` or `failed`"),
    Field("vassals[].listeners[].reason", "string", "why it failed; it is tried again"),
    Field(
        "vassals[].troubles[]",
        "string",
        "a file that it names and that is not written (`logto`, `pidfile`, `access-log`); upstreams that do not answer, "
        "workers of other hosts that are not there",
    ),
    Field("vassals[].warnings[]", "string", "what its file says that has no effect or is worth a look"),
    Field("vassals[].workers[].seat", "integer", "the worker's seat"),
    Field("vassals[].workers[].pid", "integer", "its process; 0: none"),
    Field(
        "vassals[].workers[].state",
        "string",
        "`starting`, `ready`, `draining`, `dead`, `closed` (none is wanted there in a rolling reload)",
    ),
    Field("vassals[].workers[].started", "integer", "when it was started"),
    Field(
        "vassals[].workers[].restarts",
        "integer",
        "starts of this seat after its first, under this gateway, whoever was the emperor meanwhile",
    ),
    Field(
        "vassals[].workers[].last_exit",
        "string",
        "how the process before it ended, or why none could be started; empty: none has ended under this gateway",
    ),
    Field(
        "vassals[].workers[].recycled",
        "integer",
        "those of its restarts that replaced a worker which had served long enough (max-requests, reload-on-rss, …)",
    ),
)


@dataclass(frozen=True)
class EmperorReport:
    """The emperor's part, as it reports itself."""

    pid: int
    uid: int
    directory: str
    run_dir: str
    started: int
    since: int
    upgrades: int
    state: str
    adopted: int
    log_dropped: int
    vassal_log_dropped: int
    trouble: str
    listeners: list[dict[str, str]]
    omitted: str


@dataclass(frozen=True)
class RouterReport:
    """What the emperor knows of a router."""

    seat: int
    pid: int
    state: str
    restarts: int
    last_exit: str
    serves: int = 1


@dataclass(frozen=True)
class SpawnerReport:
    """What the emperor knows of the spawner."""

    pid: int
    restarts: int
    last_exit: str


def document(
    emperor: EmperorReport,
    spawner: SpawnerReport,
    routers: Iterable[tuple[RouterReport, Mapping[str, Any] | None]],
    vassals: Iterable[Vassal],
    now: float,
    listeners: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    troubles: Mapping[str, str] | None = None,
    paused: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The whole document. `routers` pairs what we know with what the router says (None: nothing); `now` is
    the supervisor's clock; `listeners`, `troubles` and `paused` are those of each vassal by its name."""
    routers = list(routers)
    all_routers = [_router(known, said) for known, said in routers]
    apps = [said.get("apps") or {} for _, said in routers if said is not None]
    return {
        "version": __version__,
        "emperor": asdict(emperor),
        "spawner": asdict(spawner),
        "routers": all_routers,
        "vassals": [
            {
                **vassal_report(
                    each,
                    now,
                    (listeners or {}).get(each.name, ()),
                    (troubles or {}).get(each.name, ""),
                    (paused or {}).get(each.name, ""),
                    [
                        router["apps"][each.name]
                        for router in all_routers
                        if router["state"] != "draining" and each.name in router.get("apps", {})
                    ],
                ),
                "traffic": _traffic([found[each.name] for found in apps if each.name in found]),
            }
            for each in sorted(vassals, key=lambda each: (each.name, each.file))
        ],
    }


def vassal_report(
    vassal: Vassal,
    now: float,
    listeners: Sequence[Mapping[str, Any]] = (),
    trouble: str = "",
    paused: str = "",
    apps: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """One vassal's part; `listeners` are its own, `trouble` is with its access log, `paused` is how it is, `apps` what routers
    say of it."""
    current = vassal.current
    reading = current.reading if current is not None else vassal.wish
    answered, fault = "", ""
    if current is not None and current.reading.upstreams:
        answered, fault = answering(apps, vassal.path, current.reading.upstreams.subscriptions)
    elif current is not None and current.reading.remote:
        answered, fault = workers_elsewhere(apps)
    return {
        "name": vassal.name,
        "path": vassal.path,
        "state": vassal.state.value,
        "generation": current.number if current is not None else 0,
        "gateway": _gateway(current),
        "since": vassal.since,
        "answering": answered,
        "reason": vassal.reason,
        "problem": vassal.problem,
        "pending": vassal.pending,
        "paused": paused,
        "canary": round(vassal.tried),
        "last_exit": vassal.last_exit,
        "restarts": vassal.restarts,
        "retry_in": 0 if vassal.retry_at is None else max(0, round(vassal.retry_at - now)),
        "draining": sum(
            each.phase is Phase.LEAVING and each is not current for each in vassal.generations.values()
        ),
        "uid": reading.uid if reading is not None else None,
        "processes": reading.processes if reading is not None else 0,
        "domains": list(reading.domains) if reading is not None else [],
        "default": int(reading.default) if reading is not None else 0,
        "listeners": [dict(each) for each in listeners],
        "troubles": [each for each in (*(current.troubles if current else ()), trouble, fault) if each],
        "warnings": list(vassal.warnings),
        "workers": []
        if current is None
        else [asdict(worker) for _, worker in sorted(current.workers.items())],
    }


def _traffic(apps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all routers have counted of one vassal."""
    found: dict[str, Any] = {
        key: sum(int(each.get(key, 0)) for each in apps) for key in ("requests", "queued", "running")
    }
    for key in ("responses", "errors"):
        counts: Counter[str] = Counter()
        for each in apps:
            counts.update(each.get(key) or {})
        found[key] = dict(counts)
    return found


def reference() -> str:
    """docs/reference/stats.md."""
    rows = "\n".join(f"| `{field.place}` | {field.type} | {field.says} |" for field in FIELDS)
    return f"""# Statistics

One JSON document per connection: on `stats.sock` in the run directory, and on the address of
`emperor start --stats`. A plain connection gets the document alone, an HTTP GET gets it as a response:

```
$ nc -U /run/emperor/vassals-1b2c3d4e/stats.sock
$ curl --unix-socket /run/emperor/vassals-1b2c3d4e/stats.sock http://localhost/
$ emperor status --json
```

Numbers are integers; times are seconds since 1970 (UTC). `[]` stands for any element of a list, `*` for any
key. No value of a client's request is ever in it. Later versions may add values, and do not change or remove
any without saying so in `CHANGELOG.md`. This page is generated from `emperor/stats/model.py`.

| value | type | what it says |
| --- | --- | --- |
{rows}
"""


def _router(known: RouterReport, said: Mapping[str, Any] | None) -> dict[str, Any]:
    report = {**(said or {}), **asdict(known), "silent": int(said is None)}
    if said is not None:
        report["state"] = said.get("state", known.state)
    return report


def _gateway(generation: Generation | None) -> dict[str, int] | None:
    if generation is None or generation.reading.elsewhere or generation.phase is Phase.QUEUED:
        return None
    return {"pid": generation.pid, "adopted": int(generation.adopted), "started": generation.started}
