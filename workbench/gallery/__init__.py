"""The gallery: every figure of some runs and of published results, with its numbers and a page.

`draw_gallery` is the only one that writes.
"""

from workbench.gallery.draw import draw_gallery
from workbench.gallery.published import published_results

__all__ = ["draw_gallery", "published_results"]
