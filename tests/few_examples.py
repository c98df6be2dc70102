"""How many examples hypothesis tries where each of them starts processes."""

from hypothesis import Phase, settings

THOROUGH = settings.get_current_profile_name() == "thorough"


def few(number: int) -> settings:
    """So many; `make unit ARGS=--hypothesis-profile=thorough` tries 200. None is made smaller: that takes too long."""
    return settings(max_examples=200 if THOROUGH else number, phases=[Phase.explicit, Phase.generate])
