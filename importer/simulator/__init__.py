"""A stand-in for the Zoho PhoneBridge API and its token endpoint, on a loopback address only.

It answers as the pages of Zoho say of a good account. Standard library only and nothing of the importer's own:
client and simulator cannot share a mistake. Faults are played by `tests/misbehaviour`.
"""
