"""The front door: client connections on one side, one backplane socket per vassal on the other, a bounded queue between.

Clients: `listener` accepts, `http` and `uwsgi` read, with `front`, what both have in common, and `lane`; `forwarded`
and `terms` say who they are, `caps`, `descriptors` and `limits` what they may, `spool`, `disk` and `carry` keep what
they send, `otherend` sees whether they are still there, `access` writes them down.
One vassal: `app`, with `balancer`, `sharing` where other routers serve its workers, too, `culprits` for requests that
hold or end workers, and `figures`, what it says of itself. Pure beneath: `exchange` by the table in `states`, `queue`,
`pool`, `deck`, `grants`, `policies`, `bulkheads`, `shedding`, `slowstart`, `retries`, `failing`, `overdue`, `poison`,
`pages`.
Its workers: `link` (all that knows ZeroMQ), `comings`, who becomes one and what is left of one that goes, `bells`,
`chutes`; `remote`, `abroad` and `far` for those of other hosts.
Its upstreams: `forwarding`, by the table in `attempts`, over `upstreams`, `names`, `health`, `checks`, `probes`
and `upstream_…`; `subscribing`, `subscriptions`, `subscribed`, `refusals` and `signatures`, those that come by
themselves; `announcing`, ours at other routers.
`main` puts it together, `routes` says which vassal; `control` is the emperor.
"""
