"""What the emperor is made of; `emperor.emperor` puts it together.

Decides, pure: `supervisor`, by the table in `vassal`, over the records in `fleet`; `names`, `turns`, `restart`,
`rolling` and `gate` decide parts of it, `actions` is what comes of it and `wanted` what routers must know. `reading`
is what it is told of a file, `edits` whether an edit counts, `events` and `summary` what people are told, `recall`
all of it as a document.

The vassals' files: `files`, `reader`, `triggers`, `interpreter`, `environment`.
Gateways: `spawner`, `gateways`, `bells`, `statefile`; `forwarded` where there is none; `probation`, `emptying`,
`looking`.
Routers: `routers` (one), `succession` (one after another), `routerchange`, `telling`, `table`, `subscribed`,
`keyring`, `routeruser`.
As a tenant: `tenant` asks, `as_tenant` does; `doors`, `accesslogs`, `announcements`, `fifos` and `wishes` are what
for.
The run directory: `rundir`, `locks`, `mending`, `pauses`, `ownsockets`, `listeners`, `sockets`, `stale`.
The operator: `commands`, `reporting`.
One emperor after another: `adoption` and `takeover` after a death, `upgrading`, `versions`, `rehearsal`, `handover`
and `estate` for an upgrade; `ending` and `stopping` at the end.
Beneath all: `loop`, `process`, `children`, `signals`, `connecting`, `accepting`, `logpipe`, `descriptors`, `room`,
`replacing`.
"""
