"""Real sockets and real peers on loopback; no mocks of SMTP or HTTP libraries."""
