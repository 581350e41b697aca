"""The journal: events that we have answered for, on the local disk before anything else knows of them."""
