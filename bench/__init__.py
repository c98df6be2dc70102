"""How long this project takes to do what it does, beside others that do the same on the same machines.

It uses of the project what any user has: stack files, the engine's command line, and the lab.
"""
