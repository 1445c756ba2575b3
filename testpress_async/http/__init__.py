"""The path of one request, from a `Request` value to a `Response` with its whole body read."""
