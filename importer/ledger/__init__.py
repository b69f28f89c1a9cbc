"""The operator's only protection against a call lost or notified twice: a record of every call and its fate.

The only package that names its tables. `values` has what goes in and comes out, `beside` the ledger's place, the
files beside it and the locks that let one run in. `schema` makes and checks the file, `staging` takes calls in,
`reader` reads. `writer` makes each write durable, `ledger` has the writes of a run and of a person, `upkeep` the
long ones between runs.
"""
