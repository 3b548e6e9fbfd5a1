"""Words of refusals that pages know again, so that they can say more than the sentence does."""

from collections.abc import Mapping
from typing import Final

from proxy.core.sentences import Sentence

MOVED: Final = "was changed since it was read"
"""An edit was based on something that is no longer so; what was entered is to be kept."""
KINDS: Final[Mapping[str, Sentence]] = {
    "channel": Sentence("channel"),
    "group": Sentence("group"),
    "model": Sentence("model"),
    "plan": Sentence("plan"),
}
"""What an entry of the catalog is called."""
