"""The results file, the file of rejected rows, and the counts of a run.

During a run the rows as staged stand in a `.part` beside the results file, and the rows of calls that earlier
runs had left in a `.carried.part`, durable before the first of them is sent. The fate of a call is in the ledger:
at the end the results are written in input order with these fates, and moved into place. A run that died left its
parts, from which the next one finishes its results in the same way.

`cells` writes, reads and compares rows, `file` has the files and the way from their parts and fates to results.
"""
