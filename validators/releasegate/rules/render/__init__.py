"""Does it render, the same twice, from values that say what they mean?"""
