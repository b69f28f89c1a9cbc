"""From a file and its detection to chunks of text: every record with its physical line, nothing guessed."""
