"""Clusters of weighted points: labels, how well they hold, and what stands in their middle."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

_MOST_COMPARED = 2000
"""Every reply is compared with every other for a silhouette; of more, a sample is."""


class Clusters:
    """K-means on different wordings, each weighted by how many replies have it.

    Args:
        wordings: the points, all different.
        which: the wording of each reply.
        seed: of the starts and the resamples.
    """

    def __init__(
        self,
        wordings: Float[np.ndarray, "wording feature"],
        which: Int[np.ndarray, " reply"],
        seed: int,
    ):
        self.wordings = wordings
        self.which = which
        self.seed = seed
        self._fitted: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def labels(self, k: int) -> Int[np.ndarray, " reply"]:
        """The cluster of each reply, numbered from 1, the largest first."""
        return self._fit(k)[0]

    def representatives(self, k: int) -> Int[np.ndarray, " cluster"]:
        """For each cluster the first reply of the wording nearest to its centre."""
        labels, away = self._fit(k)
        return np.array(
            [np.where(labels == number, away, np.inf).argmin() for number in range(1, k + 1)]
        )

    def silhouette(self, k: int) -> float:
        """Mean silhouette over replies."""
        size = min(len(self.which), _MOST_COMPARED)
        rows = self.wordings[self.which]
        found = silhouette_score(rows, self.labels(k), sample_size=size, random_state=self.seed)
        return float(found)

    def stability(self, k: int, n: int) -> Float[np.ndarray, " draw"]:
        """Adjusted Rand index between all replies' clusters and those found on resamples."""
        rng = np.random.default_rng(self.seed)
        counts = np.bincount(self.which)
        found = np.empty(n)
        for draw in range(n):
            weights = rng.multinomial(len(self.which), counts / counts.sum())
            kept = weights > 0
            fit = self._kmeans(min(k, int(kept.sum())), n_init=3)
            fit.fit(self.wordings[kept], sample_weight=weights[kept].astype(float))
            again = fit.predict(self.wordings)[self.which]
            found[draw] = adjusted_rand_score(self.labels(k), again)
        return found

    def _fit(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the replies and their distances from their centres."""
        if k not in self._fitted:
            fit = self._kmeans(k, n_init=10)
            away = fit.fit_transform(
                self.wordings, sample_weight=np.bincount(self.which).astype(float)
            )
            found = fit.predict(self.wordings)[self.which]
            sizes = np.bincount(found, minlength=k)
            first = [int(np.argmax(found == label)) for label in range(k)]
            order = sorted(range(k), key=lambda label: (-sizes[label], first[label]))
            self._fitted[k] = np.argsort(order)[found] + 1, away[self.which, found]
        return self._fitted[k]

    def _kmeans(self, k: int, **settings: Any) -> KMeans:
        return KMeans(n_clusters=k, random_state=self.seed, **settings)
