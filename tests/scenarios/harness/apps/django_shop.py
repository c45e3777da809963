"""A Django app in one file, with a session, an upload and a streamed answer."""

import hashlib

from django.conf import settings

settings.configure(
    SECRET_KEY="for tests only",
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=[".localhost"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
)

# Only after the settings.
import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import JsonResponse, StreamingHttpResponse  # noqa: E402
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


urlpatterns = [path("visits", visits), path("upload", upload), path("stream", stream)]
application = get_wsgi_application()
