"""Rules of the mixture: one class for each way in which a run file can state how much of a source is
read.

`MIXTURE_RULES` in `kinds.py` is the table of rules. A new rule is a class here, one line there, and
a field of the rule's name in `Proportions` in `sections.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping


class MixtureRule(ABC):
    """A rule by which the numbers in a run file become weights of the sources."""

    @abstractmethod
    def weights(self, stated: Mapping[str, float], sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the weight of every source in `sizes`; weights need not add up to 1.

        `stated`: the number that the run file gives for each source. `sizes`: sequences, tokens or
        bytes of each source, the same unit for all.
        """


class GivenWeights(MixtureRule):
    """The numbers are the weights, independent of how much text a source has."""

    def weights(self, stated: Mapping[str, float], sizes: Mapping[str, float]) -> dict[str, float]:
        """Return the numbers of the sources in `sizes`."""
        return {name: stated[name] for name in sizes}


class GivenEpochs(MixtureRule):
    """The numbers are epochs: at 2, the text of a source is read twice as often as at 1."""

    def weights(self, stated: Mapping[str, float], sizes: Mapping[str, float]) -> dict[str, float]:
        """Return number times size for the sources in `sizes`."""
        return {name: stated[name] * size for name, size in sizes.items()}
