"""Call to form to POST to judgement: the only package with the words of the API.

`connection` sends one request, reads its answer within bounds and can cut it; it has the certificates too.
`failures` names why no answer came. `classify` decides what an answer proves. `api` has the requests: notifying a
call, asking for a token, and those of setting up.
"""
