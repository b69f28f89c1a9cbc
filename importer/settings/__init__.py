"""Options, environment and TOML file -> frozen Settings; secrets; data centres; moments of time windows.

A command-line flag outranks the environment variable ``CDR_IMPORTER_<OPTION>``, which outranks the TOML file.
Secrets are never options. `naming` is what an option is called where, `data_centers` Zoho's hosts, `moments`
and `values` the rules of single values, `options` all of them together, `loading` where they come from,
`credentials` the secrets.
"""

from importer.settings.credentials import (
    Credentials,
    credentials_path,
    is_secret,
    load_credentials,
    save_credentials,
)
from importer.settings.data_centers import DATA_CENTERS, DataCenter
from importer.settings.loading import config_in_use, config_path, load_settings
from importer.settings.moments import parse_moment
from importer.settings.naming import ENVIRONMENT_PREFIX
from importer.settings.options import OPTIONS, Settings
from importer.settings.policies import POLICIES, PolicyChoices
from importer.settings.values import ErrorLimit

__all__ = [
    "DATA_CENTERS",
    "ENVIRONMENT_PREFIX",
    "OPTIONS",
    "POLICIES",
    "Credentials",
    "DataCenter",
    "ErrorLimit",
    "PolicyChoices",
    "Settings",
    "config_in_use",
    "config_path",
    "credentials_path",
    "is_secret",
    "load_credentials",
    "load_settings",
    "parse_moment",
    "save_credentials",
]
