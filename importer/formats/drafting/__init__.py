"""A first draft of a format from an export that no format fits: what is seen in it, and what stays open.

`export` finds delimiter, header and columns with their kinds; `roles` what each column may be for; `outcomes` what
the cause tables say of its status words; `writing` puts it down as TOML with the word TODO at every open point.
"""

from importer.formats.drafting.draft import Draft, draft_of, format_name

__all__ = ["Draft", "draft_of", "format_name"]
