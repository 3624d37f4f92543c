"""Embeddings for the clients of others: a module for each protocol, over one way from inputs to vectors (core.py).

parts.py is what an input is made of, content.py how most protocols write that, vectors.py how vectors are written in
answers, model_names.py what the model is called, error_shapes.py how errors look to each client. routers.py has
all the paths.
"""
