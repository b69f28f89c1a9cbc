"""What is done once, and what says that it is done: nothing here sends a call.

`sign_in` turns a code into a refresh token and checks the account, `matching` compares users and agents file,
`proposal` has what an export shows of its site, `doctor` looks at what a night needs.
"""
