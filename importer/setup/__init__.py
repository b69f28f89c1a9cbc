"""What is done once: a config file, the sign-in, and who of the users is which agent.

`config_file` writes the options that never change, `grant` turns a code of Zoho's console into a refresh token,
`checking` says whether calls would be taken, `matching` holds users and agents file together. Each is imported by
its own name, since only the last one costs pandas.
"""
