"""The judge: what the server saw, the ledger and the results of many runs, held against the rules of delivery."""
