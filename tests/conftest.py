"""Makes the helpers beside it (`recording`) importable by every test below, and says how hard hypothesis may try."""

import gc
import logging

from hypothesis import settings

# Shared processors are no reason to fail, hence no deadlines.
settings.register_profile("quick", max_examples=30, deadline=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Have the collector leave alone what has been imported, and look less often: it took a tenth of the time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_sessionfinish() -> None:
    """Keep tasks that were meant to fail from saying so once more when the process ends."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
