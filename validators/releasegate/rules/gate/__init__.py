"""Does the check run, on everything, and does its verdict count?"""
