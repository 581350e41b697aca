"""Where the witness is asked: a process of its own, whose limits hostile mail may break. Serving processes load all but
`__main__`, and nothing that parses.
"""
