"""The verb `inbatch synthesize`: data and scores that a training needs, computed once.

May import `inbatch.run`, to build the run that they are for.
"""
