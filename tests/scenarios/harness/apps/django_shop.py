"""A Django app in one file, with a session, uploads, a file, and streamed answers."""

import hashlib
import os
import time

from django.conf import settings

settings.configure(
    SECRET_KEY="for tests only",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=[".localhost"],
    MIDDLEWARE=[
        "django.middleware.http.ConditionalGetMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)

# Only after the settings.
import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import FileResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def upload(request):
    given = request.FILES["file"]
    digest = hashlib.sha256(given.read()).hexdigest()
    return JsonResponse({"name": given.name, "sha256": digest, "note": request.POST["note"]})


def stream(request):
    return StreamingHttpResponse((f"{n}\n" for n in range(5000)), content_type="text/plain")


def size(request):
    return JsonResponse({"size": request.FILES["file"].size})


def file(request):
    opened = open(request.GET["path"], "rb")  # Django closes it  # noqa: SIM115
    answer = FileResponse(opened, content_type="text/plain")
    answer["ETag"] = '"a-file"'
    return answer


def slowly(request):
    go = request.GET["path"]

    def pieces():
        yield "first"
        while not os.path.exists(go):
            time.sleep(0.005)
        yield "second"

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def endless(request):
    closed = request.GET["path"]

    def pieces():
        try:
            while True:
                yield "x" * 1000
        finally:
            open(closed, "w").close()

    return StreamingHttpResponse(pieces(), content_type="text/plain")


urlpatterns = [path(view.__name__, view) for view in (visits, upload, stream, size, file, slowly, endless)]
application = get_wsgi_application()
