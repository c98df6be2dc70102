"""Makes the helpers beside it (`recording`) importable by every test below, and says how hard hypothesis may try."""

from hypothesis import settings

settings.register_profile("slow-day", deadline=None)
settings.load_profile("slow-day")
settings.register_profile("thorough", max_examples=1000, deadline=None)
