"""One self-contained page of a run, of a results file or of a ledger's history, for people.

`data` is what a report says and where it is read, `page` the HTML file, `page.html` its words and its look.
"""
