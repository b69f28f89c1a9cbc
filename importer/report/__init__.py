"""One self-contained page of a run, of a results file or of a ledger's history, for people.

`data` reads the values of a report, `page` writes the HTML file, `page.html` is its template.
"""
