"""CLIP weights as they are published, to a Hugging Face folder: the parts of convert.py.

torch_file.py (on pickle_reader.py), safetensors_file.py and onnx_file.py read a file to named tensors that stay in the
file (tensors.py); sources.py finds the files of a checkpoint; names.py, and onnx_graph.py on onnx_walk.py, say which
tensor is which part; network.py and preprocessing.py make the configuration; folder.py writes. Needs numpy alone.
"""
