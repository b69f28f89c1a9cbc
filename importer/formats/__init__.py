"""TOML descriptions of export layouts: the language, the catalogue of what is known, and detection by content."""

from importer.formats.catalogue import Catalogue, load_catalogue, own_files, own_folders, user_folder
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.formats.language import CauseTable, CdrFormat, Quotes

__all__ = [
    "Catalogue",
    "CauseTable",
    "CdrFormat",
    "Detection",
    "Quotes",
    "detect",
    "load_catalogue",
    "own_files",
    "own_folders",
    "user_folder",
]
