"""Makes the helpers beside it (`recording`) importable by every test below, and names how hard hypothesis may try."""

from hypothesis import settings

settings.register_profile("thorough", max_examples=1000, deadline=None)
