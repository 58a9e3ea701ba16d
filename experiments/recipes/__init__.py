"""The recipes of papers, a folder a method, and the verb `inbatch recipes`, which lists and explains them.

May import `inbatch.run`, to resolve one.
"""
