"""A server of the Model Context Protocol over the images of a store, for assistants that call tools: docs/mcp.md.

server.py makes it, with its tools in tools.py; http.py serves it over streamable HTTP. own.py reads the collections of
this package, adopted.py those that other programs made. `clip-qdrant mcp` is the program.
"""
