"""Options, environment and TOML file -> frozen Settings; the secrets of the sign-in, which are never options.

`values` has the rules of single values, `options` the name and meaning of each option, `loading` the sources in
their order, `credentials` the secrets.
"""

from importer.settings.credentials import Credentials, is_secret, load_credentials, save_credentials
from importer.settings.loading import config_path, config_words, load_settings
from importer.settings.options import EVERY_FORMAT, OPTIONS, POLICIES, PolicyChoices, Settings
from importer.settings.values import DATA_CENTERS, Rate, parse_moment

__all__ = [
    "DATA_CENTERS",
    "EVERY_FORMAT",
    "OPTIONS",
    "POLICIES",
    "Credentials",
    "PolicyChoices",
    "Rate",
    "Settings",
    "config_path",
    "config_words",
    "is_secret",
    "load_credentials",
    "load_settings",
    "parse_moment",
    "save_credentials",
]
