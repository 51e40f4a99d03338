"""The explorer: a stored run in Jupyter, where every view follows one selection.

`selection`, `views` and `jobs` know nothing of widgets and are tested without a browser; `plots` is
the one widget that draws, `panel` puts it together with the controls.

Not named after its function: a module `workbench.explore` would hide ``workbench.explore``.
"""
