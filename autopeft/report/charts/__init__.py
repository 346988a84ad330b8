"""The charts of a report, one kind per file; each is plain plotly JSON with a table that says the same.

Colours are those of the light theme; the page swaps them by `style.DARK` where a reader prefers dark.
No chart needs WebGL or code made at run time, which the page's Content-Security-Policy forbids.
"""
