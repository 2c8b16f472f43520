"""Wrong targets for studies of generalisation: the same ones in every epoch. Reads no files."""

from dataclasses import dataclass

import numpy as np

from pipeline.sampling.permutation import derive_key, mix_bits


@dataclass(frozen=True)
class LabelNoise:
    """Replaces a share of the targets by wrong ones.

    Which targets, and by which ids, is a pure function of the seed, the source and the target's place
    in the source's stream. Source: Nakkiran et al. 2020 (arXiv:1912.02292): with some
    probability the label is a uniformly random incorrect one, drawn once and not anew in each epoch.
    """

    share: float
    """Probability that a target is replaced."""
    ids: int
    """Number of ids of the tokenizer."""
    seed: int

    def noisy_targets(self, source: str, starts: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return targets `(rows, length)` of a source with wrong ones among them.

        `starts`: `(rows,) int64`, the place in the stream of each row's first input. Negative targets,
        where nothing is predicted, are left as they are.
        """
        key = derive_key("label noise", self.seed, source)
        first_targets = np.asarray(starts, np.uint64)[:, np.newaxis] + np.uint64(1)
        places = first_targets + np.arange(targets.shape[1], dtype=np.uint64)

        # The first 53 bits of a hash are a fraction that float64 holds exactly.
        fractions = (_hashes(places, key[0]) >> np.uint64(11)) * 2.0**-53
        is_wrong = (fractions < self.share) & (targets >= 0)

        # Another id is 1 to ids - 1 further on, modulo ids.
        shift = _hashes(places, key[1]) % np.uint64(self.ids - 1)
        wrong = (targets + 1 + shift.astype(np.int64)) % self.ids
        return np.where(is_wrong, wrong, targets).astype(targets.dtype)


def _hashes(places: np.ndarray, key: int) -> np.ndarray:
    return mix_bits(places ^ np.uint64(key))
