"""A Flask app with a session, an upload and a streamed answer."""

import hashlib

from flask import Flask, request, session, stream_with_context

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
