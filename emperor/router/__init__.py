"""The front door: client connections on one side, one backplane socket per vassal on the other, a bounded queue between.

Pure: routes, pool, queue, exchange, pages. Edges: front, connection, uwsgi, listener (clients); link (all that knows
ZeroMQ); control (the emperor). app and main put them together.
"""
