"""The networks: each file of this folder is one, under its own name.

It ends with what hatjax.config.registry reads, NETWORK = NetworkSpec(...), and is used by that name
as soon as it lies here.
"""
