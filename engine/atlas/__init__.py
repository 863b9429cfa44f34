"""A microscope of a whole model: every unit of every layer in one folder that opens from ``file://``.

Everything here is a function of the store, the folder's part that holds finished work by the hash of what it is a
function of. What is there is not computed again, whoever computed it: an earlier run, another process, a shard.
"""
