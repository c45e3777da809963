"""The front door: client connections on one side, one backplane socket per vassal on the other, a bounded queue between.

Clients: `listener` accepts, `http` and `uwsgi` read, with `front`, what both have in common, and `lane`; `forwarded`
and `terms` say who they are, `caps` and `limits` what they may, `spool`, `disk` and `carry` keep what they send,
`access` writes them down.
One vassal: `app`, with `balancer`. Pure beneath: `exchange` by the table in `states`, `queue`, `pool`, `deck`,
`grants`, `policies`, `bulkheads`, `shedding`, `slowstart`, `retries`, `failing`, `overdue`, `poison`, `pages`.
Its workers: `link` (all that knows ZeroMQ), `bells`, `chutes`; `remote` and `far` for those of other hosts.
Its upstreams: `forwarding`, by the table in `attempts`, over `upstreams`, `health`, `checks` and `upstream_…`;
`subscribing` and `subscriptions`, those that come by themselves, `announcing`, ours at other routers.
`main` puts it together, `routes` says which vassal; `control` is the emperor.
"""
