"""The ways to read an institute that are compared, a file each.

A file has `attempts(url)`, and perhaps `answers(url, count)` and `export(url, directory)`: each reads
everything and gives the number of records it has seen, as Python objects.
"""
