"""The schema as editors want it: what the language says, and beside it what they may offer and explain.

It rejects nothing that ``plan validate`` takes, and sees less of what is wrong.
"""
