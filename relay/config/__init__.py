"""The relay's tables of the configuration file, a file each: keys, defaults, and what may stand in each alone."""
