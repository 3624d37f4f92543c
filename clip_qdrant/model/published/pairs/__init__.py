"""Models of sentence-transformers: an image-text model inside one, and a text model beside an image model."""
