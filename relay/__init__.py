"""The SMTP relay: mail in, one rewritten copy for every recipient, mail out."""
