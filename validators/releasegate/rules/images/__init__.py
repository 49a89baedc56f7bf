"""Does every image name one build for ever?"""
