"""Label noise and datasets for every project of this repository; imports no deep-learning
framework.
"""
