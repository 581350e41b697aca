"""The tracking host: HTTP around `tracker.core.hit`. Sets no cookie, logs no request."""
