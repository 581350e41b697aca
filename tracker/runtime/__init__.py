"""What a process needs around its rooms: file, sockets, slots, keys, logs. Knows no mail and no events."""
