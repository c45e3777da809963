"""A greeting."""


def application(environ, start_response):
    body = f"Hello from {environ['HTTP_HOST']}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response("200 OK", headers)
    return [body]
