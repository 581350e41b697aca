"""Pure: values in, values out; property tests and golden pairs. No socket, no process, no clock."""
