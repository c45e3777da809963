"""Keeps notes in a SQLite file in the temporary directory: made by a factory, as larger apps are."""

import os
import sqlite3
import tempfile
from contextlib import closing

MOST_BYTES = 4096


def make_app():
    path = os.path.join(tempfile.gettempdir(), f"emperor-demo-notes-{os.getuid()}.sqlite")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)")

    def app(environ, start_response):
        with closing(sqlite3.connect(path)) as database, database:
            if environ["REQUEST_METHOD"] == "POST":
                text = environ["wsgi.input"].read(MOST_BYTES).decode(errors="replace")
                database.execute("INSERT INTO notes (text) VALUES (?)", (text,))
            notes = database.execute("SELECT id, text FROM notes ORDER BY id").fetchall()
        body = "".join(f"{number}. {text}\n" for number, text in notes).encode() or b"No notes yet.\n"
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]

    return app
