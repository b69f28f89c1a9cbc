"""What data looks like: words, numbers, times, the shape of a call, export formats and cause tables.

Nothing in here opens a file of the user, uses a network or imports ``importer``.
"""
