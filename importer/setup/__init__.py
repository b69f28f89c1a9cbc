"""What is done once, and what says that it is done: nothing here sends a call.

`sign_in` turns a code into a refresh token, checks the account and compares its users with the agents file,
`proposal` has what an export shows of its site, `doctor` looks at what a night needs.
"""
