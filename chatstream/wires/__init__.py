"""Wires: each module folds the numbered events of a run into the frames of one protocol.

An encoder knows no clock, no randomness and no I/O, so that encoding a run again gives the same bytes: a resume is a
replay that drops what the viewer has.
"""
