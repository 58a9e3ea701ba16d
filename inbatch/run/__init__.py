"""The verb `inbatch fit`: options, their parser and its errors, and the course of a run from build to export.

Stands above models, losses and data; may import all of them, and `inbatch.callbacks`.
"""
