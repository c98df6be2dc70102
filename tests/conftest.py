"""Makes the helpers beside it (`recording`) importable by every test below."""
