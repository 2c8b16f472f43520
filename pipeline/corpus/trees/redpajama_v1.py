"""The layout of RedPajama v1: a folder for each of seven subsets, without files beside documents.

Source: the data card of togethercomputer/RedPajama-Data-1T, and its list of URLs.
"""

from pipeline.config.urls import RawPath
from pipeline.corpus.trees.tree_layout import TreeLayout, has_folder

SUBSETS = ("arxiv", "book", "c4", "common_crawl", "github", "stackexchange", "wikipedia")
FEWEST_SUBSETS = 2
"""Number of these folders from which on a tree is recognised: one may be anybody's `github`."""


class RedPajamaV1(TreeLayout):
    """A folder for each subset; all files in them are documents."""

    name = "redpajama-v1"
    looks_like = "folders such as arxiv/, c4/, common_crawl/, github/, wikipedia/"
    chooses_files = False

    def evidence(self, root: RawPath) -> str:
        subsets = [f"{name}/" for name in SUBSETS if has_folder(root, name)]
        if len(subsets) < FEWEST_SUBSETS:
            return ""
        return ", ".join(subsets)
