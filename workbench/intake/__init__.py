"""What comes from outside is looked at before it is read: files, their headers, and their types.

`limits` says how much is taken, and that only regular files are; a module for each format reads the
sizes that a file states itself before anything is unpacked; `parsing` turns whatever a library
raises on a broken file into one error of the workbench; `records` checks JSON against types.
"""
