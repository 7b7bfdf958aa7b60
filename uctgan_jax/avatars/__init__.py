"""The cartoon set with its exact posterior: an optional part, which the extra `avatars` brings.

Nothing outside this package imports it, but where somebody asks for avatars.
"""
