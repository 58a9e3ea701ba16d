"""The verb `inbatch bench`: speed and memory beside peers, after the results were found to agree.

May import `inbatch.experiments.command` and `output`.
"""
