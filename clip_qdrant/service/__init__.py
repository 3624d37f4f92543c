"""The HTTP service, `clip-qdrant serve`: searches, stored images and embeddings for programs in any language.

state.py is what one service is made of, and app.py makes the application of it. routes/ has the paths, keys/ who
may come, security/ what they may do, http/ what is done around every request.
"""
