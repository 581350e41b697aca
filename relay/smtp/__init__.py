"""SMTP on both sides: mail in from clients, copies out to upstreams. Knows nothing of the spool or of rewriting."""
