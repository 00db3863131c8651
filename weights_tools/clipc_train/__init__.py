"""A small CLIP from drawings and captions to a folder that clipc opens: the parts of train.py.

recipe.py says what is trained; data.py draws pictures and words captions, with drawer.py; network.py is the model and
its losses, the one part on torch and transformers; measure.py counts how often it is right, by torch or by clipc;
checkpoint.py keeps an interrupted training; curves.py draws how it went; folder.py and readme.py write the model.
"""
