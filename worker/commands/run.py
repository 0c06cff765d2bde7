"""x."""
from worker.options import with_settings
from worker.settings import Settings

@with_settings()
def run(settings: Settings) -> None:
    """Answer every sample.

    Example: cellstream run --artifact artifact
    """
    print(settings)
