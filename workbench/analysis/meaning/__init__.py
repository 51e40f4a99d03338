"""Concept or words: what does a direction say?"""
