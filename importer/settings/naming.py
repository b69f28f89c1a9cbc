"""What an option is called on the command line, in the environment, in the TOML file and as a field."""

ENVIRONMENT_PREFIX = "CDR_IMPORTER_"
APPLICATION = "cdr-importer"
SECRETS = ("client_id", "client_secret", "refresh_token")
SHOWN_CHARACTERS = 60
"""How much of a bad value a message shows."""

# `json` is a method of pydantic's models and cannot be a field.
_FIELD_OF_OPTION = {"json": "json_output"}
_OPTION_OF_FIELD = {field: option for option, field in _FIELD_OF_OPTION.items()}


def field_of(option: str) -> str:
    """Return the field of Settings that holds the option ``all-rows``."""
    return _FIELD_OF_OPTION.get(option, option.replace("-", "_"))


def option_of(field: str) -> str:
    """Return the name of the option, without ``--``, that the field ``all_rows`` holds."""
    return _OPTION_OF_FIELD.get(field, field).replace("_", "-")


def variable_of(option: str) -> str:
    """Return the environment variable of the option or secret."""
    return ENVIRONMENT_PREFIX + option.replace("-", "_").upper()
