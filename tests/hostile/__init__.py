"""Files that nobody meant to write: seeds, what is done to them, and the readers that meet them.

``make fuzz N=100000`` reads as many damaged files. Nothing may come of one but an error of the
workbench, within ten seconds and a gigabyte. What was found once lies in ``finds`` and is read
again by the tests.
"""
