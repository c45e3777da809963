"""A Flask app with a session, uploads, a file, and streamed answers."""

import hashlib
import os
import time

from flask import Flask, request, send_file, session, stream_with_context

app = Flask(__name__)
app.secret_key = "for tests only"


@app.get("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return {"visits": session["visits"]}


@app.post("/upload")
def upload():
    given = request.files["file"]
    return {
        "name": given.filename,
        "sha256": hashlib.sha256(given.read()).hexdigest(),
        "note": request.form["note"],
    }


@app.get("/stream")
def stream():
    return app.response_class(stream_with_context(f"{n}\n" for n in range(5000)), mimetype="text/plain")


@app.post("/size")
def size():
    given = request.files["file"]
    return {"size": given.stream.seek(0, os.SEEK_END)}


@app.get("/file")
def file():
    return send_file(request.args["path"], mimetype="text/plain", conditional=True)


@app.get("/slowly")
def slowly():
    go = request.args["path"]

    def pieces():
        yield "first"
        while not os.path.exists(go):
            time.sleep(0.005)
        yield "second"

    return app.response_class(pieces(), mimetype="text/plain")


@app.get("/endless")
def endless():
    closed = request.args["path"]

    def pieces():
        try:
            while True:
                yield "x" * 1000
        finally:
            open(closed, "w").close()

    return app.response_class(pieces(), mimetype="text/plain")
