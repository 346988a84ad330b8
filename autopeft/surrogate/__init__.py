"""Surrogates: models of an uncertain objective, and what to do with them.

n  observed points, c  candidates, b  base points (evaluated and running), s  paths
d  features, m  objectives, all maximised with reference point 0
"""
