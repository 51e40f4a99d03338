"""Files that nobody meant to write: seeds, what is done to them, and the readers that meet them.

``make fuzz N=100000`` reads as many damaged files. Nothing may come of one but an error of the
workbench, within ten seconds and a gigabyte. What was found once lies in ``finds`` and is read
again by the tests. Files of the workbench have checksums: `sealing` makes them fit again, so that
what a file says is met by its reader and not only by the comparison of sums.
"""
