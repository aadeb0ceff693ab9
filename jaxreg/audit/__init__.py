"""Checks of anybody's training code as a black box: does a regularizer do what it should?"""
