"""The installed package as processes, with clients and servers that are not ours."""
