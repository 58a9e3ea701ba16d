"""The verb `inbatch doctor`: the installation, a saved model, and what a run will need.

May import `inbatch.run`, to build the run that it plans.
"""
