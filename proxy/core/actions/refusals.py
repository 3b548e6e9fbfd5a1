"""Words of refusals that pages know again, so that they can say more than the sentence does."""

from typing import Final

MOVED: Final = "was changed since it was read"
"""An edit was based on something that is no longer so; what was entered is to be kept."""
READ_ONLY: Final = "the catalog comes from a file"
"""With the setting `catalog_file` no action changes the catalog."""
