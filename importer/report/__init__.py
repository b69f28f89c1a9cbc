"""A page of a run, of results or of a history: `data` has its values, `page` writes it by `page.html`."""
