"""What is done once: `sign_in` turns a code into a refresh token, `matching` compares users and agents file."""
