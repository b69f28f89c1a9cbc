"""One self-contained page of a run, of a results file or of a ledger's history, for people.

Results are read in chunks into counts of bounded size, so memory does not grow with the file. `data` is what a
report says, `tallies` counts within bounds, `from_results` and `from_ledger` fill it, `pictures` draws, `sections`
puts it in order and words, `page` is the HTML file. Drawing and the template are the optional extra `report`, so
nothing that needs it is imported here: `extra` says whether it is there.
"""
