"""The tracker's tables of the configuration file, a file a subject: which keys there are, and what may stand in each.

Checks that concern several tables are made where the whole file is read, above both halves.
"""
