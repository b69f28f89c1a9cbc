"""Options, environment and TOML file -> frozen Settings; the secrets of the sign-in, which are never options.

`values` has the rules of single values, `options` the name and meaning of each option, `loading` the sources in
their order, `credentials` the secrets.
"""
