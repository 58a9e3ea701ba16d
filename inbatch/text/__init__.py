"""Texts and templates: cleaning, filling, tokenizing.

Stands below models, losses and data, which all import it.
"""
