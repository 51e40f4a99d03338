"""How do directions and activations lie?"""
