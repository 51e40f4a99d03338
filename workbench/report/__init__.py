"""Reports: a finished run as one page that needs no network and trusts no text in it.

`write_report` is the only one that writes; everything else turns a part of a run into text or data.
"""
