"""Laws: what must hold for any input at all. Each is a function of the input that raises AssertionError.

Property tests in `tests/unit` try them on generated input, `fuzz` on what coverage guides it to. A law is stated here
once, for both.
"""
