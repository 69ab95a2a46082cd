"""Readers: files of one format -> a dataset of samples, one function per format. Pixels are read on
loading.
"""
