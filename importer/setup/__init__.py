"""What is done once: a config file, the sign-in, and who of the users is which agent.

`config_file` writes the options that never change, `sign_in` turns a code of Zoho's console into a refresh token
and checks whether calls would be taken, `matching` compares users and agents file. Each is imported by its own
name, since only the last one costs pandas.
"""
