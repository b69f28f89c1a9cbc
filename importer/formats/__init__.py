"""TOML descriptions of export layouts: the language, the catalogue of what is known, and detection by content."""
