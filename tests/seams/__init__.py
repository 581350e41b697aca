"""One pinned test for each thing that is relied on in a library. Read first when a library is upgraded."""
